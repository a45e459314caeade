"""Admission: one Redis script says whether the snapshot is current and whether the plan has room (contract §5).

The minute is the calendar minute in UTC by Redis's clock. Inference counts against the plan; other calls made with a
key are counted apart, against an abuse limit as high as the plan's minute.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from redis.commands.core import Script as SyncScript

from billing.snapshots import Snapshot
from billing.snapshots import cache as snapshots
from helixflow.lib import errors, pipelined_redis, redis

SOURCE: Final = Path(__file__).with_name("admit.lua").read_text()
ADMITTED, STALE, LIMITED = range(3)
INFERENCE: Final = "inference"
OTHER: Final = "other"
MAX_TRIES: Final = 4

clock_offset_s = 0  # tests move Redis's clock with it
_script = pipelined_redis.Script(SOURCE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What admission said, and the numbers of the X-RateLimit headers. ``reset_at`` and ``now`` in epoch seconds."""

    outcome: int
    limit: int
    remaining: int
    now: int
    reset_at: int

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_at),
        }

    def error(self) -> errors.RateLimitExceeded:
        wait = max(1, self.reset_at - self.now)
        return errors.RateLimitExceeded(
            f"Rate limit of {self.limit} requests per minute exceeded. Try again in {wait} s.", retry_after=wait
        )


async def admit(token: str) -> tuple[Snapshot, Verdict]:
    """Admit one inference request: the snapshot it may act under, and the verdict (admitted or limited).

    Raises InvalidApiKey, ServiceUnavailable.
    """
    snapshot = await snapshots.get(token)
    fresh = 0
    for _ in range(MAX_TRIES):
        try:
            reply = await _script.run(_keys(snapshot), *_values(snapshot, fresh, INFERENCE))
        except redis.RedisError:
            raise errors.ServiceUnavailable("Limits cannot be checked at the moment. Try again.") from None
        verdict = _verdict(snapshot, reply)
        if verdict.outcome != STALE:
            return snapshot, verdict
        snapshot = await snapshots.reload(token)
        fresh = 1
    raise errors.ServiceUnavailable("This organization is being changed. Try again.")


def admit_other(token: str) -> tuple[Snapshot, Verdict]:
    """The same for a call that is not inference, from a Django thread."""
    snapshot = snapshots.get_sync(token)
    fresh = 0
    for _ in range(MAX_TRIES):
        reply = _sync_script()(keys=_keys(snapshot), args=_values(snapshot, fresh, OTHER))
        verdict = _verdict(snapshot, reply)
        if verdict.outcome != STALE:
            return snapshot, verdict
        snapshot = snapshots.get_sync(token, reload=True)
        fresh = 1
    raise errors.ServiceUnavailable("This organization is being changed. Try again.")


def _keys(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.generation_key, snapshot.window_key


def _values(snapshot: Snapshot, fresh: int, kind: str) -> tuple[int, int, int, str, int]:
    return snapshot.generation, fresh, snapshot.requests_per_minute, kind, clock_offset_s


def _verdict(snapshot: Snapshot, reply: Any) -> Verdict:
    outcome, now, used = reply  # admit.lua returns three integers
    limit = snapshot.requests_per_minute
    return Verdict(outcome, limit, max(0, limit - used), now, now - now % 60 + 60)


@cache
def _sync_script() -> SyncScript:
    return redis.sync_client().register_script(SOURCE)
