"""An organization's counters in Redis, as they stand at this moment."""

import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from billing import months
from billing.admission import limits, redis_keys
from helixflow.lib import redis

MILLION: Final = 1_000_000

# The clock is that of the server that counts. KEYS: window, month, parallel. ARGV: clock offset in seconds (tests).
READ: Final = """
local now = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1])
return {now, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('ZCOUNT', KEYS[3], now, '+inf')}
"""


@dataclass(frozen=True, slots=True)
class Month:
    """Units of the quota, those of requests under way included, and money as far as Redis was told of it."""

    used: int
    spent: Decimal
    used_by_key: dict[uuid.UUID, int]
    spent_by_key: dict[uuid.UUID, Decimal]


@dataclass(frozen=True, slots=True)
class Counters:
    """``now`` in epoch seconds by Redis's clock. ``counted`` is None while the month has no counter: the next request
    of the organization seeds it from the ledger."""

    now: int
    month: int
    minute_used: int
    minute_used_by_key: dict[uuid.UUID, int]
    parallel: int
    counted: Month | None

    @property
    def minute_resets_at(self) -> int:
        return self.now - self.now % 60 + 60


def read(organization_id: uuid.UUID, month: int | None = None) -> Counters:
    """The counters of ``month``, else of the current one. Raises RedisError."""
    assumed = month or months.of(time.time() + limits.clock_offset_s)
    while True:
        now, window, counted, parallel = _read_script()(
            keys=[
                redis_keys.window(organization_id),
                redis_keys.month(organization_id, assumed),
                redis_keys.parallel(organization_id),
            ],
            args=[limits.clock_offset_s],
        )
        if month or months.of(now) == assumed:
            return _counters(now, assumed, _pairs(window), _pairs(counted), parallel)
        assumed = months.of(now)


def read_if_there(organization_id: uuid.UUID) -> Counters | None:
    """The current ones. None: Redis is away, and no page waits for it."""
    if limits.breaker.is_open:
        return None
    try:
        return read(organization_id)
    except redis.RedisError:
        return None


def _counters(now: int, month: int, window: dict[str, str], counted: dict[str, str], parallel: int) -> Counters:
    if int(window.get("minute", 0)) < now // 60:
        window = {}  # of a minute that is over
    return Counters(
        now=now,
        month=month,
        minute_used=int(window.get("inference", 0)),
        minute_used_by_key=_by_key(window, "k:"),
        parallel=parallel,
        counted=Month(
            used=int(counted["used"]),
            spent=_money(int(counted.get("spent", 0))),
            used_by_key=_by_key(counted, "k:"),
            spent_by_key={key: _money(amount) for key, amount in _by_key(counted, "s:").items()},
        )
        if "used" in counted
        else None,
    )


def _by_key(fields: dict[str, str], prefix: str) -> dict[uuid.UUID, int]:
    return {uuid.UUID(name[len(prefix) :]): int(count) for name, count in fields.items() if name.startswith(prefix)}


def _money(millionths: int) -> Decimal:
    return Decimal(millionths) / MILLION


def _pairs(flat: list[bytes]) -> dict[str, str]:
    """A hash as scripts return it."""
    texts = [text.decode() for text in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _client() -> Any:
    """Untyped: redis-py's types allow answers that these commands never give."""
    return redis.sync_client()


@cache
def _read_script() -> Any:
    return redis.sync_client().register_script(READ)
