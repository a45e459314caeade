"""What there is to do: batches that don't wait, requests whose time has come, and when to look again."""

import uuid
from datetime import datetime

from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from inference.batch_models import OPEN, Batch, BatchItem, ItemState


def batches(organization_id: uuid.UUID, *, but: Batch | None = None) -> QuerySet[Batch]:
    """Whose turn it is comes first."""
    ready = Q(waits_until=None) | Q(waits_until__lte=timezone.now())
    found = _open(organization_id).filter(ready).order_by("turned_at")
    return found if but is None else found.exclude(id=but.id)


def items(batch: Batch) -> QuerySet[BatchItem]:
    """In order."""
    return waiting(batch).filter(Q(due_at=None) | Q(due_at__lte=timezone.now())).order_by("position")


def waiting(batch: Batch) -> QuerySet[BatchItem]:
    return BatchItem.objects.filter(batch=batch, state=ItemState.WAITING)


def next_item_at(batch: Batch) -> datetime | None:
    """When the first of those is due that are to be tried again. None: none waits for that."""
    found: datetime | None = waiting(batch).filter(due_at__gt=timezone.now()).aggregate(at=Min("due_at"))["at"]
    return found


def next_turn_at(organization_id: uuid.UUID) -> datetime | None:
    """None: there is nothing to do."""
    now = timezone.now()
    if batches(organization_id).exists():
        return now
    at: datetime | None = _open(organization_id).aggregate(at=Min("waits_until"))["at"]
    return at


def _open(organization_id: uuid.UUID) -> QuerySet[Batch]:
    return Batch.objects.filter(organization_id=organization_id, status__in=OPEN)
