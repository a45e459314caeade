"""Forgetting: events, their deliveries and attempts, once the event is old enough (docs/webhooks.md).

What counts is the event's age alone: sending it again makes nothing younger, and what still waits for an endpoint that
was disabled all the while goes too. Ids are ordered by time, so the oldest are the first of the primary key, and
everything else is found by its event or its delivery: no step reads a table as a whole.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from helixflow.lib import ids
from webhooks.models import Attempt, Delivery, Endpoint, Event

BATCH: Final = 1000  # rows of each table in one transaction
BUDGET_S: Final = 60  # for a run: below the broker's visibility timeout, after which it would run again beside itself
RUNS: Final = 50  # in a row: they end before the next hour's begin
SETTLED: Final = timedelta(hours=1)  # after which nothing that knew an endpoint before it was deleted can name it
KEYS_KEPT: Final = timedelta(days=32)  # a key says what was told already, and quota.low's does for a whole month
FIRST: Final = uuid.UUID(int=0)


@dataclass(slots=True)
class Dropped:
    """How many rows went. ``complete``: nothing that could go is left."""

    events: int = 0
    deliveries: int = 0
    attempts: int = 0
    endpoints: int = 0
    complete: bool = False


def drop_old(*, batch: int = BATCH, budget_s: float = BUDGET_S) -> Dropped:
    """Delete what is older than HELIXFLOW_WEBHOOK_RETENTION_DAYS, oldest first, and endpoints that nothing names.

    Each batch is a short transaction of its own, so a run can be cut off anywhere, and the next one goes on. It waits
    for nobody: what is being sent at the moment, or is in another run's hands, is left to the next run.
    """
    deadline = time.monotonic() + budget_s
    retention = timedelta(days=settings.WEBHOOK_RETENTION_DAYS)
    dropped = Dropped()
    after = FIRST
    while events := _oldest(after, retention, batch):
        done = False
        while not done:
            if time.monotonic() >= deadline:
                return dropped
            done = _drop_batch(events, batch, dropped)
        after = events[-1]
    dropped.endpoints = _drop_endpoints(batch)
    dropped.complete = True
    return dropped


def _oldest(after: uuid.UUID, retention: timedelta, batch: int) -> list[uuid.UUID]:
    """Behind those that were looked at: what has to stay for now must not be found again and again."""
    now = timezone.now()
    keyless = Q(dedupe_key=None) | Q(id__lt=ids.first_at(now - max(retention, KEYS_KEPT)))
    found = Event.objects.filter(keyless, id__gt=after, id__lt=ids.first_at(now - retention))
    return _ids(found.order_by("id"), batch)


@transaction.atomic
def _drop_batch(events: Sequence[uuid.UUID], batch: int, dropped: Dropped) -> bool:
    """Attempts, then deliveries, then the events: at most ``batch`` of each. Whether there are no more of them.

    A delivery is locked before anything of it goes: whoever wants to claim it passes over it, and finds nothing later.
    """
    free = Delivery.objects.filter(Q(lease=None) | Q(leased_until__lte=timezone.now()), event__in=events)
    deliveries = _ids(free.select_for_update(skip_locked=True, of=("self",)), batch)
    attempts = _ids(Attempt.objects.filter(delivery__in=deliveries), batch)
    dropped.attempts += Attempt.objects.filter(id__in=attempts).delete()[0]
    if len(attempts) == batch:
        return False
    dropped.deliveries += Delivery.objects.filter(id__in=deliveries).delete()[0]
    if len(deliveries) == batch:
        return False
    told = ~Exists(Delivery.objects.filter(event=OuterRef("id")))
    alone = _ids(Event.objects.filter(told, id__in=events).select_for_update(skip_locked=True), batch)
    dropped.events += Event.objects.filter(id__in=alone).delete()[0]
    return True


@transaction.atomic
def _drop_endpoints(batch: int) -> int:
    """Deleted ones stay as long as the log names them. The table is small: a few rows for each organization."""
    named = Exists(Delivery.objects.filter(endpoint=OuterRef("id")))
    deleted = Endpoint.objects.filter(~named, deleted_at__lt=timezone.now() - SETTLED)
    found = _ids(deleted.select_for_update(skip_locked=True), batch)
    return Endpoint.objects.filter(id__in=found).delete()[0]


def _ids(rows: QuerySet[Any], most: int) -> list[uuid.UUID]:
    return list(rows.values_list("id", flat=True)[:most])
