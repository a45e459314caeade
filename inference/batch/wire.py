"""A batch as ``/v1/batches`` shows it: OpenAI's object, and after it what is ours."""

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings

from billing import money
from helixflow.lib import ids
from inference.batch_models import Batch


def represent(batch: Batch) -> dict[str, Any]:
    """From its row alone: clients ask again and again while it runs."""
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.operation,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": file_id(batch.input_file_id),
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": file_id(batch.output_file_id),
        "error_file_id": file_id(batch.error_file_id),
        "created_at": _epoch(batch.created_at),
        "in_progress_at": _epoch(batch.in_progress_at),
        "expires_at": _epoch(batch.expires_at),
        "finalizing_at": _epoch(batch.finalizing_at),
        "completed_at": _epoch(batch.completed_at),
        "failed_at": _epoch(batch.failed_at),
        "expired_at": _epoch(batch.expired_at),
        "cancelling_at": _epoch(batch.cancelling_at),
        "cancelled_at": _epoch(batch.cancelled_at),
        "request_counts": request_counts(batch),
        "metadata": batch.metadata,
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "cost": money.text(batch.cost),
        "currency": settings.CURRENCY,
        "retry_of": ids.public_id(ids.BATCH, batch.retry_of_id) if batch.retry_of_id else None,
        "waits_for": batch.waits_for or None,
        "waits_until": _epoch(batch.waits_until),
    }


def request_counts(batch: Batch) -> dict[str, int]:
    return {"total": batch.total, "completed": batch.completed, "failed": batch.failed}


def file_id(value: uuid.UUID | None) -> str | None:
    return None if value is None else ids.public_id(ids.FILE, value)


def _epoch(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
