"""Rows of webhooks as of a moment, in one line each: ids are ordered by time, and age is told by them."""

from datetime import datetime, timedelta
from typing import Any

import time_machine
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import crypto, ids
from webhooks.models import Attempt, Delivery, Endpoint, Event, EventType

URL = "https://hooks.example.com/in/helixflow"
SECRET = "whsec_c2VjcmV0IG9mIHRoaXMgdGVzdCwgMzIgYnl0ZXMuLg=="


def endpoint(organization: Organization, **fields: Any) -> Endpoint:
    defaults = {"url": URL, "events": [EventType.COMPLETION_CREATED], "sealed_secret": crypto.encrypt(SECRET)}
    return Endpoint.objects.create(organization=organization, **defaults | fields)


def event(organization: Organization, *, at: datetime | None = None, **fields: Any) -> Event:
    with time_machine.travel(at or timezone.now(), tick=False):
        defaults = {"type": EventType.COMPLETION_CREATED, "data": {"id": "chatcmpl-1"}}
        return Event.objects.create(organization=organization, **defaults | fields)


def delivery(to: Endpoint, *, of: Event | None = None, at: datetime | None = None, **fields: Any) -> Delivery:
    told = of or event(to.organization, at=at)
    with time_machine.travel(told.created_at, tick=False):
        return Delivery.objects.create(organization=to.organization, event=told, endpoint=to, **fields)


def attempt(of: Delivery, *, at: datetime | None = None, **fields: Any) -> Attempt:
    with time_machine.travel(at or of.created_at, tick=False):
        defaults = {
            "url": of.endpoint.url,
            "started_at": timezone.now(),
            "duration_ms": 12.5,
            "succeeded": True,
            "status": 200,
        }
        return Attempt.objects.create(delivery=of, endpoint=of.endpoint, **defaults | fields)


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def lease(of: Delivery, *, seconds: float) -> None:
    """``seconds`` from now it ends."""
    Delivery.objects.filter(id=of.id).update(
        lease=ids.uuid7(), leased_until=timezone.now() + timedelta(seconds=seconds)
    )
