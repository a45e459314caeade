"""What Redis holds of an organization's requests: those under way, and the events of those that ended."""

from typing import Any

from billing import events
from billing.admission import redis_keys
from helixflow.lib import redis
from tests.billing.admitting import current_month, read_stream


def usage_events(organization):
    entries = [entry for _, entry in read_stream(redis.shard_tag(organization.id))]
    return [entry.event for entry in entries if isinstance(entry.event, events.Usage) and not entry.late]


def notes(organization):
    client: Any = redis.sync_client()
    return client.hkeys(redis_keys.notes(redis.shard_tag(organization.id)))


def used(organization):
    client: Any = redis.sync_client()
    return int(client.hget(redis_keys.month(organization.id, current_month()), "used"))
