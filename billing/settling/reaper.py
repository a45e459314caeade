"""Settles what its gateway can't any more: started is settled, always.

A note is reaped when its process has had no heartbeat for a while, or when it is older than any exchange. Should the
gateway come back and settle after all, its event is late and replaces this one (``billing.metering.ledger``).
"""

import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

from billing import events
from billing.admission import limits, lua, redis_keys
from billing.admission import notes as note_format
from billing.admission.notes import Note
from billing.settling.settle import calls, heartbeat_key
from billing.settling.settlement import Settlement
from helixflow.lib import redis

logger = logging.getLogger(__name__)

GRACE_S: Final = 10.0  # without a heartbeat, whose own life is 20 s: Redis may have been away for longer than that
SCAN: Final = 1_000
CUT_OFF: Final = "cut off: the gateway died"
NOW: Final = "return redis.call('TIME')[1]"


class Reaper:
    """One a meter process; several do no harm, as only who drops a note settles it."""

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._silent: dict[str, float] = {}  # process → since when, on the monotonic clock
        self._settle: Any = None

    def run_once(self) -> int:
        """Settles what is left behind; returns how many requests that were. Raises RedisError."""
        found = [(tag, *each) for tag in redis.SHARD_TAGS for each in self._notes(tag)]
        dead, now = self._dead({note.process for *_, note in found}), self._now()
        reaped = 0
        for tag in redis.SHARD_TAGS:
            lost = [
                (request_id, note)
                for its_tag, request_id, note in found
                if its_tag == tag and (note.process in dead or now - note.admitted_at > note_format.LIFE_S)
            ]
            reaped += self._reap(lost, now)
        if reaped:
            logger.warning("settled %d requests whose gateway is gone", reaped)
        return reaped

    def _notes(self, tag: str) -> Iterator[tuple[uuid.UUID, Note]]:
        key = redis_keys.notes(tag)
        client: Any = redis.sync_client()
        for request_id, text in client.hscan_iter(key, count=SCAN):
            try:
                yield uuid.UUID(request_id.decode()), note_format.parse(text)
            except ValueError:
                logger.error("dropped a note that says nothing: %r %r", request_id, text[:200])  # noqa: TRY400  # no trace
                client.hdel(key, request_id)

    def _dead(self, processes: set[str]) -> set[str]:
        now = time.monotonic()
        alive = {process for process in processes if redis.sync_client().exists(heartbeat_key(process))}
        self._silent = {process: self._silent.get(process, now) for process in processes - alive}
        return {process for process, since in self._silent.items() if now - since >= self._grace_s}

    def _reap(self, lost: Iterable[tuple[uuid.UUID, Note]], now: int) -> int:
        settlements = [Settlement.of(_event(each, note, now), leased=note.leased) for each, note in lost]
        self._settle = self._settle or redis.sync_client().register_script(lua.source("settle"))
        return sum(self._settle(keys=keys, args=["1", *arguments[1:]]) for keys, arguments, _ in calls(settlements))

    @staticmethod
    def _now() -> int:
        """By Redis's clock, as the notes have it: another machine's may be ahead by more than any exchange lasts."""
        now: Any = redis.sync_client().eval(NOW, 1, redis_keys.notes(redis.SHARD_TAGS[0]))
        return int(now) + limits.clock_offset_s


def _event(request_id: uuid.UUID, note: Note, now: int) -> events.Usage:
    """As far as its note tells, which for a stream is at most about a second behind."""
    mark = note.mark
    return events.Usage(
        id=request_id,
        organization_id=note.organization_id,
        api_key_id=note.api_key_id,
        user_id=note.user_id,
        month=note.month,
        units=int(mark.answering),
        status=500,
        error_code="server_error",
        duration_ms=mark.elapsed_ms or max(0, now - note.admitted_at) * 1000.0,
        operation=mark.operation,
        model=mark.model,
        fallback_model=mark.fallback_model,
        deployment=mark.deployment,
        attempts=_cut(mark.attempts),
        streamed=mark.streamed,
        end_user=mark.end_user,
        usage_source=mark.usage_source,
        tokens=mark.tokens,
        first_token_ms=mark.first_token_ms,
        settled_by=events.REAPER,
    )


def _cut(attempts: list[events.Attempt]) -> list[events.Attempt]:
    """The last one was under way, or its answer was, when the gateway died."""
    if not attempts:
        return []
    last = attempts[-1]
    return [*attempts[:-1], events.Attempt(last.deployment, CUT_OFF, last.duration_ms)]
