"""Records of single requests, as their organization asks for them: newest first, or one with what it cost and why."""

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import QuerySet

from billing import events, prices
from billing.models import FAILED, Price, SubscriptionChange, UsageRecord
from helixflow.lib import clock, errors, ids
from webhooks.models import Event

SUCCESS: Final = "success"
FAILURE: Final = "failed"
UNDER_WAY: Final = timedelta(minutes=15)  # longer than a request lasts and a meter needs
# The meter makes events in the transaction that writes their record, which lasts half a minute at most.
EVENTS_BEFORE: Final = timedelta(seconds=5)
EVENTS_AFTER: Final = timedelta(seconds=35)
MOST_EVENTS: Final = 5  # a request has one, or two after a reaper's guess


class NotYet(errors.NotFound):
    """So young that it may be there in a moment."""


def search(
    organization_id: uuid.UUID,
    *,
    api_key_id: uuid.UUID | None = None,
    model: str | None = None,
    end_user: str | None = None,
    status: str | int | None = None,
    error_code: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[UsageRecord]:
    """Records to be ordered by id. ``status`` is ``success``, ``failed`` or an HTTP status; ``until`` is not in it.

    Times become bounds of the id, so only the partitions between them are looked into.
    """
    exact: dict[str, object] = {
        "api_key_id": api_key_id,
        "model": model,
        "end_user": end_user,
        "error_code": error_code,
    }
    if isinstance(status, int):
        exact["status"] = status
    bounds = {"id__gte": since and ids.first_at(since), "id__lt": until and ids.first_at(until)}
    given = {name: value for name, value in (exact | bounds).items() if value is not None}
    records = UsageRecord.objects.filter(organization_id=organization_id, **given)
    if status == FAILURE:
        return records.filter(FAILED)
    return records.filter(error_code="", status__lt=400) if status == SUCCESS else records


def get(organization_id: uuid.UUID, public_id: str) -> UsageRecord:
    """By the request's id or its completion's. Raises NotFound, with a reason that the id's own time allows to give."""
    record_id = _parse(public_id)
    record = UsageRecord.objects.filter(organization_id=organization_id, id=record_id).first()
    if record is not None:
        return record
    if record_id >= ids.first_at(clock.now() - UNDER_WAY):
        raise NotYet("There is no request with this id yet: one appears about a second after it has ended.")
    oldest = UsageRecord.objects.order_by("id").values_list("id", flat=True).first()
    if oldest is not None and record_id < oldest:
        raise errors.NotFound(
            f"There is no request with this id. Records go back to {ids.time_of(oldest):%Y-%m-%d} only."
        )
    raise errors.NotFound("There is no request with this id.")


def price_of(record: UsageRecord) -> Price | None:
    """The version its cost was computed from; None if its model had no price."""
    return Price.objects.filter(id=record.price_id).first() if record.price_id else None


def tokens_of(record: UsageRecord) -> events.Tokens:
    return events.Tokens(**{name: getattr(record, f"{name}_tokens") for name in prices.CLASSES})


def cost_by_class(record: UsageRecord, price: Price) -> dict[str, Decimal]:
    """Of the classes that occur; they sum to the record's cost exactly."""
    return prices.by_class(price, tokens_of(record))


def terms_then(record: UsageRecord) -> SubscriptionChange | None:
    """What its organization had agreed on when it began; None: nothing beside Starter."""
    changes = SubscriptionChange.objects.filter(
        organization_id=record.organization_id, created_at__lte=record.started_at
    )
    return changes.select_related("plan").order_by("-id").first()


def events_of(record: UsageRecord) -> list[Event]:
    """Those that told of it, with their deliveries and endpoints. Looked for about when it was recorded: no index
    knows what is in an event."""
    told = Event.objects.filter(
        organization_id=record.organization_id,
        id__gte=ids.first_at(record.recorded_at - EVENTS_BEFORE),
        id__lt=ids.first_at(record.recorded_at + EVENTS_AFTER),
        data__request_id=record.public_id,
    )
    return list(told.order_by("id").prefetch_related("deliveries__endpoint")[:MOST_EVENTS])


def _parse(public_id: str) -> uuid.UUID:
    completions = (prefix for prefix in (ids.COMPLETION, ids.TEXT_COMPLETION) if public_id.startswith(prefix))
    prefix = next(completions, ids.REQUEST)
    try:
        return ids.parse_public_id(prefix, public_id)
    except ValueError:
        raise errors.NotFound(
            f"That is not an id of a request; one starts with {ids.REQUEST} or, of its completion, {ids.COMPLETION}."
        ) from None
