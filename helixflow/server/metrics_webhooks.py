"""What a scrape says of webhooks. PostgreSQL knows, and may be away, or hang: a scrape waits 1.5 s for it at most."""

import queue
import threading
from collections.abc import Iterator
from typing import Final

import psycopg
from django.conf import settings
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from webhooks import backlog

WAIT_S: Final = 1.5

_asking = threading.Lock()  # held by the one thread that asks, for as long as it hangs


def collect() -> Iterator[Metric]:
    found = _read()
    yield GaugeMetricFamily(
        "helixflow_postgresql_up", "Whether PostgreSQL answered this scrape.", int(found is not None)
    )
    if found is None:
        return
    yield GaugeMetricFamily(
        "helixflow_webhook_pending", "Webhook deliveries that are due and that nobody is sending.", found.pending
    )
    yield GaugeMetricFamily(
        "helixflow_webhook_lag_seconds", "How long the oldest of them waits for a free worker.", found.lag_s
    )
    attempts = GaugeMetricFamily(
        "helixflow_webhook_attempts_last_minute", "Attempts that ended in the last minute.", labels=("outcome",)
    )
    attempts.add_metric(("succeeded",), found.succeeded)
    attempts.add_metric(("failed",), found.failed)
    yield attempts


def _read() -> backlog.Backlog | None:
    """None: it did not answer, or has still not answered an earlier scrape.

    A thread that waits for a server that hangs can't be ended, so it must not be one that the end of a process waits
    for, nor may there be another one with every scrape.
    """
    if not _asking.acquire(blocking=False):
        return None
    answers: queue.SimpleQueue[backlog.Backlog | None] = queue.SimpleQueue()
    threading.Thread(target=_ask, args=(answers,), name="metrics-webhooks", daemon=True).start()
    try:
        return answers.get(timeout=WAIT_S)
    except queue.Empty:
        return None


def _ask(answers: "queue.SimpleQueue[backlog.Backlog | None]") -> None:
    found = None
    try:
        with psycopg.connect(settings.DATABASE_URL, autocommit=True, connect_timeout=2) as connection:
            found = backlog.read(connection, timezone.now())
    except psycopg.Error:
        pass  # that it is down is the answer; what is wrong with it, its own pages say
    finally:
        _asking.release()
        answers.put(found)
