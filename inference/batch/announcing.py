"""``batch.completed``: that a batch has ended, well or not, is told once, in the transaction that ends it."""

from datetime import datetime
from typing import Any

from django.conf import settings

from billing import money
from helixflow.lib import clock, ids
from inference.batch import wire
from inference.batch_models import Batch, BatchStatus
from webhooks import services
from webhooks.models import EventType
from webhooks.services import Happening


def completed(batch: Batch) -> None:
    """Call once its status and counters are what they stay."""
    happening = Happening(
        batch.organization_id,
        EventType.BATCH_COMPLETED,
        _data(batch),
        dedupe_key=f"{EventType.BATCH_COMPLETED}:{batch.id.hex}",
        api_key_id=batch.api_key_id,
    )
    services.publish_all([happening])


def _data(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.public_id,
        "status": batch.status,
        "endpoint": batch.operation,
        "request_counts": wire.request_counts(batch),
        "usage": {
            "prompt_tokens": batch.prompt_tokens,
            "completion_tokens": batch.completion_tokens,
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "cost": money.text(batch.cost),
        "currency": settings.CURRENCY,
        "output_file_id": wire.file_id(batch.output_file_id),
        "error_file_id": wire.file_id(batch.error_file_id),
        "organization_id": ids.public_id(ids.ORGANIZATION, batch.organization_id),
        "api_key_id": ids.public_id(ids.API_KEY, batch.api_key_id) if batch.api_key_id else None,
        "created_at": clock.rfc3339(batch.created_at),
        "ended_at": clock.rfc3339(_ended_at(batch) or clock.now()),
    }


def _ended_at(batch: Batch) -> datetime | None:
    return {
        BatchStatus.COMPLETED: batch.completed_at,
        BatchStatus.FAILED: batch.failed_at,
        BatchStatus.EXPIRED: batch.expired_at,
        BatchStatus.CANCELLED: batch.cancelled_at,
    }[BatchStatus(batch.status)]
