"""Endpoints that listen, and what they are told, for tests of what the meter announces."""

from typing import Any

from helixflow.lib import ids
from tests import factories
from webhooks.models import Delivery, Endpoint, Event, EventType

CREATED, FAILED = EventType.COMPLETION_CREATED, EventType.COMPLETION_FAILED


def listen(organization, *types, **fields) -> Endpoint:
    """``types``: all of them, if none is named."""
    return factories.endpoint(organization, **{"events": list(types or EventType)} | fields)


def told(type_: str | None = None) -> list[dict[str, Any]]:
    """The data of events, oldest first."""
    rows = Event.objects.filter(**{"type": type_} if type_ else {})
    return [event.data for event in rows.order_by("id")]


def told_of(event) -> list[str]:
    """The types of the events about one request."""
    return sorted(Event.objects.filter(data__request_id=request_id(event)).values_list("type", flat=True))


def delivered(endpoint) -> list[dict[str, Any]]:
    rows = Delivery.objects.filter(endpoint=endpoint).select_related("event").order_by("event_id")
    return [delivery.event.data for delivery in rows]


def request_id(event) -> str:
    return ids.public_id(ids.REQUEST, event.id)
