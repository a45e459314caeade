"""What webhooks add to the export of an organization's data, and how it is deleted with the organization."""

import uuid
from collections.abc import Iterator
from typing import Any

from accounts import deletions, erasure, exporting, exports
from accounts.models import Organization
from helixflow.lib import ids
from webhooks.models import Attempt, Delivery, Endpoint, Event


def register() -> None:
    exports.register("webhook_endpoints", _endpoints)
    exports.register("events", _events)
    exports.register("webhook_deliveries", _deliveries)
    # In this order nothing is left that a deletion would take along.
    for eraser in (_erase_attempts, _erase_deliveries, _erase_events):
        deletions.register(eraser)


def _endpoints(organization: Organization) -> Iterator[dict[str, Any]]:
    """Without their secrets; those that were deleted too, since deliveries name them."""
    for endpoint in exporting.rows_of(Endpoint.objects.filter(organization=organization)):
        keys = endpoint.api_key_ids
        yield {
            "id": endpoint.public_id,
            "url": endpoint.url,
            "description": endpoint.description,
            "events": endpoint.events,
            "api_keys": None if keys is None else [ids.public_id(ids.API_KEY, key) for key in keys],
            "models": endpoint.model_names,
            "disabled_at": endpoint.disabled_at,
            "deleted_at": endpoint.deleted_at,
            "created_at": endpoint.created_at,
        }


def _events(organization: Organization) -> Iterator[dict[str, Any]]:
    for event in exporting.rows_of(Event.objects.filter(organization=organization)):
        yield {"id": event.public_id, "type": event.type, "data": event.data, "created_at": event.created_at}


def _deliveries(organization: Organization) -> Iterator[dict[str, Any]]:
    for delivery in exporting.rows_of(Delivery.objects.filter(organization=organization)):
        yield {
            "id": delivery.public_id,
            "event": ids.public_id(ids.EVENT, delivery.event_id),
            "endpoint": ids.public_id(ids.WEBHOOK, delivery.endpoint_id),
            "state": delivery.state,
            "attempts": delivery.attempt_count,
            "last_status": delivery.last_status,
            "last_error": delivery.last_error,
            "created_at": delivery.created_at,
            "ended_at": delivery.ended_at,
        }


def _erase_attempts(organization_id: uuid.UUID, limit: int) -> int:
    """By endpoint, which is how they are indexed."""
    endpoints = Endpoint.objects.filter(organization_id=organization_id).values("id")
    return erasure.delete_some(Attempt.objects.filter(endpoint_id__in=endpoints), limit)


def _erase_deliveries(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(Delivery.objects.filter(organization_id=organization_id), limit)


def _erase_events(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(Event.objects.filter(organization_id=organization_id), limit)
