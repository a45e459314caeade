"""The usage streams as the meters read them: one consumer group, one stream a shard, so that a cluster will do.

An entry is *pending* from when a meter was given it until that meter forgets it. What a dead meter leaves pending
another claims. Nothing here blocks on the server, since no command can wait for streams of several slots.
"""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

from redis.exceptions import ResponseError

from billing.admission import redis_keys
from helixflow.lib import redis

GROUP: Final = "meter"
TIMEOUT_S: Final = 2.0

# Acknowledged and gone in one step: an entry that stayed in between would never be read, and counted by every seed.
FORGET: Final = """
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
"""
# Removing a consumer drops what it has pending, so look and remove must be one step.
# ARGV: group, for how many ms it must not have been heard of, the only name that is meant (empty: any).
REMOVE_CONSUMERS: Final = """
local found = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if found.err then return 0 end
local removed = 0
for _, fields in ipairs(found) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  local is_meant = ARGV[3] == '' or ARGV[3] == consumer.name
  if is_meant and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed = removed + 1
  end
end
return removed
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry of a stream, as it lies there."""

    stream: str
    entry_id: str
    fields: dict[bytes, bytes]


class UsageStreams:
    """As one consumer sees them. Everything raises RedisError. A group that is missing (FLUSHALL) is made again."""

    def __init__(self) -> None:
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.names = [redis_keys.usage_stream(tag) for tag in redis.SHARD_TAGS]

    @cached_property
    def _client(self) -> Any:
        """Made when it is first asked: that of a cluster asks for the nodes at once."""
        return redis.connect(timeout_s=TIMEOUT_S)

    @cached_property
    def _forget(self) -> Any:
        return self._client.register_script(FORGET)

    @cached_property
    def _remove(self) -> Any:
        return self._client.register_script(REMOVE_CONSUMERS)

    def read(self, stream: str, count: int) -> list[Delivery]:
        """Entries that nobody was given yet, oldest first; they are pending now."""
        read = partial(self._client.xreadgroup, GROUP, self.consumer, {stream: ">"}, count)
        return [
            delivery for _, entries in self._in_group(stream, read) or () for delivery in _deliveries(stream, entries)
        ]

    def claim(self, stream: str, count: int, idle_ms: int) -> Iterator[list[Delivery]]:
        """Entries that were given to somebody ``idle_ms`` ago and are still pending: ours now, some at a time."""
        claim = partial(self._client.xautoclaim, stream, GROUP, self.consumer, idle_ms, count=count)
        start = b"0-0"
        while True:
            start, entries, *_ = self._in_group(stream, partial(claim, start_id=start))
            if entries:
                yield _deliveries(stream, entries)
            if start == b"0-0":
                return

    def forget(self, stream: str, entry_ids: list[str]) -> None:
        self._forget(keys=[stream], args=[GROUP, *entry_ids])

    def remove_silent_consumers(self, stream: str, idle_ms: int) -> None:
        """Those that have nothing pending. A meter that was only asleep is a consumer again once it reads."""
        self._remove(keys=[stream], args=[GROUP, idle_ms, ""])

    def leave(self) -> None:
        for stream in self.names:
            self._remove(keys=[stream], args=[GROUP, 0, self.consumer])

    def _in_group(self, stream: str, command: Callable[[], Any]) -> Any:
        try:
            return command()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        try:
            self._client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another meter was first
                raise
        return command()


def _deliveries(stream: str, entries: list[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Delivery]:
    """Without entries that were deleted while they were pending."""
    return [Delivery(stream, entry_id.decode(), fields) for entry_id, fields in entries if fields]
