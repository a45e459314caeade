"""What the platform is made of, as its users see it, and how each part is asked how it does.

A check returns what it found; one that raises found its component down. Each is bounded in time by itself.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import requests
from django.conf import settings
from django.db import connection
from django.utils import timezone

from billing.admission import redis_keys
from helixflow.lib import redis
from helixflow.models import State
from inference import catalogue, health_shared, model_status
from webhooks import backlog

TIMEOUT_S: Final = 5.0
SLOW_S: Final = 2.0
LATE_S: Final = 60.0  # behind by so much: degraded
VERY_LATE_S: Final = 600.0  # and by so much: down
MODEL: Final = "model:"
_OF_MODEL: Final = {
    health_shared.HEALTHY: State.OPERATIONAL,
    health_shared.DEGRADED: State.DEGRADED,
    health_shared.UNAVAILABLE: State.DOWN,
}


@dataclass(frozen=True, slots=True)
class Found:
    """``note`` says why, to operators."""

    state: State
    note: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    key: str
    name: str
    what: str
    check: Callable[[], Found]


def _api() -> Found:
    """The data plane's front door, from outside: a call without a key is refused at once."""
    began = time.monotonic()
    answer = requests.post(f"{settings.STATUS_URL}/v1/chat/completions", json={}, timeout=TIMEOUT_S)
    if answer.status_code != 401:
        return Found(State.DOWN, f"status {answer.status_code}")
    return _by_time(began)


def _dashboard() -> Found:
    began = time.monotonic()
    answer = requests.get(f"{settings.STATUS_URL}/login", timeout=TIMEOUT_S, allow_redirects=False)
    if answer.status_code != 200:
        return Found(State.DOWN, f"status {answer.status_code}")
    return _by_time(began)


def _database() -> Found:
    began = time.monotonic()
    with _postgresql() as asked, asked.cursor() as cursor:
        cursor.execute("SELECT 1")
    return _by_time(began)


def _redis() -> Found:
    began = time.monotonic()
    client: Any = redis.sync_client()
    for tag in redis.SHARD_TAGS:  # of a cluster every node
        client.get(f"{tag}:status")
    return _by_time(began)


def _webhooks() -> Found:
    with _postgresql() as asked:
        return _by_lag(backlog.read(asked.connection, timezone.now()).lag_s)


@contextmanager
def _postgresql() -> Iterator[Any]:
    """A connection of its own, which is given up after ``connect_timeout``: on one that is kept a check would wait for
    as long as PostgreSQL hangs, and the outage be told as one lost minute."""
    asked = connection.copy()
    try:
        asked.ensure_connection()
        yield asked
    finally:
        asked.close()


def _usage() -> Found:
    """The oldest entry that the meter has not written yet."""
    client: Any = redis.sync_client()
    oldest_ms = []
    for tag in redis.SHARD_TAGS:
        oldest_ms += [int(name.split(b"-")[0]) for name, _ in client.xrange(redis_keys.usage_stream(tag), count=1)]
    return _by_lag(time.time() - min(oldest_ms) / 1000 if oldest_ms else 0.0)


def _by_time(began: float) -> Found:
    seconds = time.monotonic() - began
    return Found(State.DEGRADED, f"{seconds:.1f} s") if seconds > SLOW_S else Found(State.OPERATIONAL)


def _by_lag(lag_s: float) -> Found:
    if lag_s <= LATE_S:
        return Found(State.OPERATIONAL)
    return Found(State.DOWN if lag_s > VERY_LATE_S else State.DEGRADED, f"{lag_s:.0f} s behind")


DATABASE: Final = "database"
COMPONENTS: Final = (
    Component("api", "API", "Takes requests at /v1 and answers them.", _api),
    Component("dashboard", "Dashboard", "Signing in, keys, usage, and these pages.", _dashboard),
    Component(DATABASE, "Database", "Accounts, keys and plans. Keys in use go on without it for a while.", _database),
    Component("redis", "Redis", "Counts limits, and the tries to sign in.", _redis),
    Component("usage", "Usage records", "How soon a request is in your usage.", _usage),
    Component("webhooks", "Webhooks", "How soon events are sent.", _webhooks),
)


def models(known: catalogue.Catalogue) -> dict[str, State]:
    """What everybody is offered, by name, as the gateways last met it. No query."""
    offered = [model for model in known.models.values() if model.only_for is None]
    healths = model_status.known() if offered else {}
    return {model.name: _OF_MODEL[model_status.status(model, healths)] for model in offered}
