"""How deliveries and their attempts look over REST."""

from datetime import datetime
from typing import Any

from helixflow.lib import clock, ids
from webhooks import payloads
from webhooks.models import Attempt, Delivery


def delivery(row: Delivery) -> dict[str, Any]:
    """``event`` is its type, as in the body that is sent; ``event_id`` is sent as ``webhook-id``."""
    return {
        "id": row.public_id,
        "object": "webhook_delivery",
        "endpoint_id": ids.public_id(ids.WEBHOOK, row.endpoint_id),
        "event_id": ids.public_id(ids.EVENT, row.event_id),
        "event": row.event.type,
        "test": row.test,
        "state": row.state,
        "attempt_count": row.attempt_count,
        "last_status": row.last_status,
        "last_error": row.last_error or None,
        "next_attempt_at": moment(row.next_attempt_at),
        "created_at": clock.rfc3339(row.created_at),
        "ended_at": moment(row.ended_at),
    }


def body(row: Delivery) -> str:
    """What is sent, to the byte; UTF-8 as text."""
    event = row.event
    return payloads.body(event_type=event.type, created_at=event.created_at, data=event.data).decode()


def attempt(row: Attempt) -> dict[str, Any]:
    """``response.body`` is the receiver's own, at most the first 20 kB of it: anything may be in it."""
    return {
        "object": "webhook_attempt",
        "started_at": clock.rfc3339(row.started_at),
        "duration_ms": milliseconds(row.duration_ms),
        "succeeded": row.succeeded,
        "error": {"code": row.error_code, "message": row.error} if row.error_code else None,
        "url": row.url,
        "address": row.address,
        "request_headers": row.request_headers,
        "response": None if row.status is None else _response(row),
        "next_attempt_at": moment(row.next_attempt_at),
    }


def _response(row: Attempt) -> dict[str, Any]:
    return {
        "status": row.status,
        "headers": row.response_headers,
        "body": row.response_body,
        "truncated": row.response_truncated,
    }


def moment(value: datetime | None) -> str | None:
    return clock.rfc3339(value) if value else None


def milliseconds(value: float | None) -> float | None:
    """To the microsecond, as other durations."""
    return None if value is None else round(value, 3)
