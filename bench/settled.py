"""Whether what was measured was the full path: each request admitted, settled, and in the end one record."""

import time
from collections.abc import Callable
from typing import Any

from bench.processes import BenchError

PATIENCE_S = 300


def events(*, at_least: int, at_most: int) -> int:
    """How many events the usage streams were ever given, once nothing is under way.

    Raises BenchError if that can't be: ``at_least`` answers came, ``at_most`` requests were sent.
    """
    from billing import redis_keys
    from helixflow.lib import redis

    client: Any = redis.sync_client()
    _wait(lambda: not any(client.hlen(redis_keys.notes(tag)) for tag in redis.SHARD_TAGS), "requests are not settled")
    streams = (redis_keys.usage_stream(tag) for tag in redis.SHARD_TAGS)
    told: int = sum(client.xinfo_stream(name)["entries-added"] for name in streams if client.exists(name))
    if not at_least <= told <= at_most:
        raise BenchError(f"{at_least:,} answers and at most {at_most:,} requests left {told:,} events")
    return told


def records(told: int) -> None:
    """Raises BenchError unless the running meter makes one record of each event."""
    from billing.models import UsageRecord

    _wait(lambda: UsageRecord.objects.count() >= told, f"there are fewer than {told:,} records")
    if (count := UsageRecord.objects.count()) != told:
        raise BenchError(f"{told:,} events became {count:,} records")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"After {PATIENCE_S} s {what}.")
        time.sleep(0.1)
