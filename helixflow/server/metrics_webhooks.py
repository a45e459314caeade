"""What a scrape says of webhooks and batches. PostgreSQL knows, and may hang or be away: 1.5 s are waited for it."""

import queue
import threading
from collections.abc import Iterator
from typing import Final

import psycopg
from django.conf import settings
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from inference.batch import backlog as batches
from webhooks import backlog as webhooks

WAIT_S: Final = 1.5

Found = tuple[webhooks.Backlog, batches.Backlog]

_asking = threading.Lock()  # held by the one thread that asks, for as long as it hangs


def collect() -> Iterator[Metric]:
    found = _read()
    yield GaugeMetricFamily(
        "helixflow_postgresql_up", "Whether PostgreSQL answered this scrape.", int(found is not None)
    )
    if found is not None:
        yield from _webhooks(found[0])
        yield from _batches(found[1])


def _webhooks(found: webhooks.Backlog) -> Iterator[Metric]:
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


def _batches(found: batches.Backlog) -> Iterator[Metric]:
    yield GaugeMetricFamily("helixflow_batches_open", "Batches that have not ended.", found.open)
    yield GaugeMetricFamily("helixflow_batches_paused", "Open batches that wait for something.", found.paused)
    yield GaugeMetricFamily("helixflow_batch_requests_waiting", "Requests of open batches.", found.waiting)
    yield GaugeMetricFamily(
        "helixflow_batch_lag_seconds", "How long the oldest due turn waits for a free worker.", found.lag_s
    )
    ended = GaugeMetricFamily(
        "helixflow_batch_requests_last_day", "Requests of the last day's batches that ended.", labels=("outcome",)
    )
    ended.add_metric(("completed",), found.completed)
    ended.add_metric(("failed",), found.failed)
    yield ended


def _read() -> Found | None:
    """None: it did not answer, or has still not answered an earlier scrape.

    A thread that waits for a server that hangs can't be ended, so it must not be one that the end of a process waits
    for, nor may there be another one with every scrape.
    """
    if not _asking.acquire(blocking=False):
        return None
    answers: queue.SimpleQueue[Found | None] = queue.SimpleQueue()
    threading.Thread(target=_ask, args=(answers,), name="metrics-webhooks", daemon=True).start()
    try:
        return answers.get(timeout=WAIT_S)
    except queue.Empty:
        return None


def _ask(answers: "queue.SimpleQueue[Found | None]") -> None:
    found = None
    try:
        with psycopg.connect(settings.DATABASE_URL, autocommit=True, connect_timeout=2) as connection:
            now = timezone.now()
            found = webhooks.read(connection, now), batches.read(connection, now)
    except psycopg.Error:
        pass  # that it is down is the answer; what is wrong with it, its own pages say
    finally:
        _asking.release()
        answers.put(found)
