"""The body of an event as endpoints get it (contract §7), and examples of each. Pure."""

import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from helixflow.lib import clock

if TYPE_CHECKING:
    from webhooks.models import EventType

_COMPLETION: Final = {
    "id": "chatcmpl-01JqWnWtbqkQ7dT5m3sYxK",
    "model": "gpt-3.5-turbo",
    "user_id": "user-01JqWnF0dWcXh9R2vN8bLz",
    "organization_id": "",
    "api_key_id": "key_01JqWnH7mPzYt4C6kQ1fSg",
    "request_id": "req_01JqWnWtbqkQ7dT5m3sYxK",
    "end_user": "customer-4711",
}
_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "completion.created": {
        **_COMPLETION,
        "usage": {"prompt_tokens": 24, "completion_tokens": 118, "total_tokens": 142},
        "duration_ms": 812.4,
    },
    "completion.failed": {  # a stream that broke off; without anything produced there is no usage
        **_COMPLETION,
        "error": {"code": "timeout", "message": "The model did not answer in time."},
        "usage": {"prompt_tokens": 24, "completion_tokens": 9, "total_tokens": 33},
        "duration_ms": 60_214.9,
    },
    "rate_limit.exceeded": {
        "organization_id": "",
        "api_key_id": "key_01JqWnH7mPzYt4C6kQ1fSg",
        "limit": 100,
        "reason": "minute",
        "minute": "2024-01-01T00:00:00Z",
        "count": 17,
    },
    "quota.low": {
        "organization_id": "",
        "threshold": 80,
        "limit": 10_000,
        "used": 8_000,
        "remaining": 2_000,
        "resets_at": "2024-02-01T00:00:00Z",
        "month": "2024-01",
    },
    "batch.completed": {
        "id": "batch_01JqWnYq2VbR8sXf0cKzLm",
        "status": "completed",
        "endpoint": "/v1/chat/completions",
        "request_counts": {"total": 500, "completed": 497, "failed": 3},
        "usage": {"prompt_tokens": 11_928, "completion_tokens": 58_646, "total_tokens": 70_574},
        "cost": "0.093933",
        "currency": "USD",
        "output_file_id": "file-01JqWpB4hTn6YwQ3mEdGrJ",
        "error_file_id": "file-01JqWpB5kVs1ZxA9uHfNcP",
        "organization_id": "",
        "api_key_id": "key_01JqWnH7mPzYt4C6kQ1fSg",
        "created_at": "2024-01-01T00:00:00Z",
        "ended_at": "2024-01-01T00:04:12Z",
    },
}


def body(*, event_type: str, created_at: datetime, data: Mapping[str, Any]) -> bytes:
    """Exactly what is signed and sent: the same bytes for one event each time, if ``data`` is as its row is read.

    jsonb keeps an order of its own, so what went into the row may give other bytes than what comes out.
    """
    envelope = {"event": event_type, "timestamp": clock.rfc3339(created_at), "data": dict(data)}
    return json.dumps(envelope, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def example(event_type: "EventType", organization_public_id: str) -> dict[str, Any]:
    """The ``data`` of one such event, made up but for the organization."""
    return deepcopy(_EXAMPLES[event_type]) | {"organization_id": organization_public_id}
