"""What of an organization the ledger does not have yet: requests under way, and settled ones that no meter finished.

Read in this order none is missed, since that is the way they go; one that moves meanwhile is in both.
"""

import logging
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from billing import events
from billing.admission import lua, notes, redis_keys
from helixflow.lib import redis

logger = logging.getLogger(__name__)

PAGE: Final = 2_000


class Unmetered(NamedTuple):
    event: events.Usage
    late: bool


def under_way(organization_id: uuid.UUID) -> dict[uuid.UUID, notes.Note]:
    """By request. Raises RedisError."""
    mine = organization_id.hex.encode()
    client: Any = redis.sync_client()
    found = {}
    for request_id, text in client.hgetall(redis_keys.notes(redis.shard_tag(organization_id))).items():
        if mine not in text:  # cheaper than reading the whole shard's
            continue
        try:
            found[uuid.UUID(request_id.decode())] = notes.parse(text)
        except ValueError:
            logger.warning("a note says nothing; the reaper drops it")
    return {request_id: note for request_id, note in found.items() if note.organization_id == organization_id}


def unmetered(organization_id: uuid.UUID) -> Iterator[Unmetered]:
    """The oldest first. What cannot be read is left out, as the meter sets it aside. Raises RedisError."""
    stream = redis_keys.usage_stream(redis.shard_tag(organization_id))
    start = "-"
    while True:
        last, page = _page_of()(keys=[stream], args=[start, organization_id.hex, PAGE])
        if not last:
            return
        for pairs in page:
            fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
            try:
                event = events.decode(fields[events.EVENT.encode()])
            except (msgspec.DecodeError, KeyError):
                continue
            if isinstance(event, events.Usage):
                yield Unmetered(event, events.LATE.encode() in fields)
        start = f"({last.decode()}"


@cache
def _page_of() -> Any:
    return redis.sync_client().register_script(lua.source("page_of"))
