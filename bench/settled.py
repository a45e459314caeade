"""Whether what was measured was the full path: each request admitted, settled, and in the end one record."""

import time
from collections.abc import Callable
from typing import Any

from bench.processes import BenchError

PATIENCE_S = 300


def events(*, at_least: int) -> int:
    """How many events the usage streams were ever given, once nothing is under way.

    More than requests where Redis missed its 50 ms: what it may not have taken is told again, under the same id.
    Raises BenchError if there are fewer than ``at_least``, the answers that came.
    """
    from billing.admission import redis_keys
    from helixflow.lib import redis

    client: Any = redis.sync_client()
    _wait(lambda: not any(client.hlen(redis_keys.notes(tag)) for tag in redis.SHARD_TAGS), "requests are not settled")
    streams = (redis_keys.usage_stream(tag) for tag in redis.SHARD_TAGS)
    told: int = sum(client.xinfo_stream(name)["entries-added"] for name in streams if client.exists(name))
    if told < at_least:
        raise BenchError(f"{at_least:,} answers left {told:,} events")
    return told


def records(*, at_least: int, at_most: int) -> int:
    """How many records the running meter made of them.

    Raises BenchError if that can't be: ``at_least`` answers came, ``at_most`` requests were sent.
    """
    from billing.admission import redis_keys
    from billing.models import UsageRecord
    from helixflow.lib import redis

    client: Any = redis.sync_client()
    _wait(lambda: not any(client.xlen(redis_keys.usage_stream(tag)) for tag in redis.SHARD_TAGS), "events are left")
    count = UsageRecord.objects.count()
    if not at_least <= count <= at_most:
        raise BenchError(f"{at_least:,} answers and at most {at_most:,} requests made {count:,} records")
    return count


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"After {PATIENCE_S} s {what}.")
        time.sleep(0.1)
