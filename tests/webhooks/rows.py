"""Rows of webhooks as of a moment, in one line each: ids are ordered by time, and age is told by them."""

from datetime import datetime, timedelta
from typing import Any

import time_machine
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import ids
from tests import factories
from webhooks.models import Attempt, Delivery, Endpoint, Event, EventType


def event(organization: Organization, *, at: datetime, **fields: Any) -> Event:
    with time_machine.travel(at, tick=False):
        return Event.objects.create(
            organization=organization, type=EventType.COMPLETION_CREATED, data={"id": "chatcmpl-1"}, **fields
        )


def delivery(to: Endpoint, *, of: Event | None = None, at: datetime | None = None, **fields: Any) -> Delivery:
    """As old as its event."""
    told = of or event(to.organization, at=at or timezone.now())
    with time_machine.travel(told.created_at, tick=False):
        return Delivery.objects.create(organization=to.organization, event=told, endpoint=to, **fields)


def attempt(of: Delivery, *, at: datetime | None = None, **fields: Any) -> Attempt:
    with time_machine.travel(at or of.created_at, tick=False):
        return factories.attempt(of, **{"started_at": timezone.now()} | fields)


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def lease(of: Delivery, *, seconds: float) -> None:
    """``seconds`` from now it ends."""
    Delivery.objects.filter(id=of.id).update(
        lease=ids.uuid7(), leased_until=timezone.now() + timedelta(seconds=seconds)
    )
