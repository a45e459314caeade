"""Events sent as gateways do, and what the streams still hold of them, for tests of the meter."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from billing import events
from billing.admission import redis_keys
from billing.metering.meter import Meter
from billing.metering.usage_streams import UsageStreams
from helixflow.lib import redis
from tests.billing.usage_events import usage


def stream_of(organization_id):
    return redis_keys.usage_stream(redis.shard_tag(organization_id))


def send(*given, late=False):
    for event in given:
        fields: dict[Any, Any] = {"o": event.organization_id.hex, "e": events.encode(event)}
        fields |= {"late": "1"} if late else {}
        redis.sync_client().xadd(stream_of(event.organization_id), fields)


def send_raw(payload, *, stream=None):
    fields: dict[Any, Any] = {"o": "0", "e": payload} if payload is not None else {"o": "0"}
    return redis.sync_client().xadd(stream or stream_of(uuid.UUID(int=1)), fields)


def many(count):
    return [usage(organization_id=uuid.UUID(int=number % 40)) for number in range(count)]


def left():
    """Entries that lie in the streams, read or not."""
    return sum(redis.sync_client().xlen(name) for name in UsageStreams().names)


def pending(stream):
    """Entries that were given to a meter and not forgotten."""
    return sum(each["pending"] for each in redis.sync_client().xinfo_groups(stream)) if left() else 0


@contextmanager
def running(*meters: Meter) -> Iterator[None]:
    def run(each):
        try:
            each.run()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(each,)) for each in meters]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in meters:
            each.stop()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
