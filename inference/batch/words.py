"""What a batch is doing, in the words of the dashboard."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.utils import timezone

from inference.batch_models import Batch, BatchStatus, WaitsFor

LABELS: Final = {
    BatchStatus.VALIDATING: ("Checking", "accent"),
    BatchStatus.IN_PROGRESS: ("Running", "accent"),
    BatchStatus.FINALIZING: ("Writing results", "accent"),
    BatchStatus.COMPLETED: ("Completed", "success"),
    BatchStatus.FAILED: ("Not valid", "danger"),
    BatchStatus.EXPIRED: ("Expired", "warning"),
    BatchStatus.CANCELLING: ("Cancelling", "warning"),
    BatchStatus.CANCELLED: ("Cancelled", ""),
}
WAITS: Final = {
    WaitsFor.RATE_LIMIT: "It waits for the next minute: batches take at most half of your requests per minute, so "
    "that the rest of your traffic has room.",
    WaitsFor.UPSTREAM: "The model did not answer just now. It tries again by itself.",
    WaitsFor.SERVICE: "Something of the platform is away at the moment. It goes on by itself.",
    WaitsFor.ORGANIZATION: "Your organization is disabled, or about to be deleted. It goes on if that ends in time.",
}
ERRORS: Final = {
    "insufficient_quota": "The month's quota or a budget was spent. Retry them when there is room again.",
    "invalid_api_key": "The key that it ran under was revoked or has expired.",
    "batch_cancelled": "Not asked: the batch was cancelled before.",
    "batch_expired": "Not asked: the batch's 24 hours were over.",
    "service_unavailable": "No upstream answered, several times over.",
    "timeout": "The model took too long, several times over.",
    "model_not_found": "There is no such model here, or it is not offered to you.",
    "authorization_failed": "The key may not do this: mostly a model that is not on its list.",
    "invalid_request": "The request was not valid. Look at one to see why.",
    "server_error": "Something went wrong, here or at an upstream.",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """``kind`` as badges and alerts have it; ``until``: when it may go on."""

    label: str
    kind: str
    text: str
    until: datetime | None = None


def standing(batch: Batch) -> Standing:
    status = BatchStatus(batch.status)
    label, kind = LABELS[status]
    if batch.waits_for and batch.is_open:
        until = batch.waits_until if batch.waits_until and batch.waits_until > timezone.now() else None
        return Standing(label, kind, WAITS[WaitsFor(batch.waits_for)], until)
    if status == BatchStatus.COMPLETED and batch.failed:
        kind = "warning"
    return Standing(label, kind, _told(batch, status))


def _told(batch: Batch, status: BatchStatus) -> str:
    left = batch.total - batch.settled
    match status:
        case BatchStatus.VALIDATING:
            return "Each line of its file is being looked at. Nothing is asked before all are valid."
        case BatchStatus.IN_PROGRESS:
            return f"{left:,} of {batch.total:,} requests are still to be answered."
        case BatchStatus.FINALIZING:
            return "All requests have ended. Its files are being written."
        case BatchStatus.CANCELLING:
            return "What is under way is still answered and counted. Nothing new begins."
        case BatchStatus.COMPLETED if batch.failed:
            return f"{batch.completed:,} of {batch.total:,} requests were answered, {batch.failed:,} failed."
        case BatchStatus.COMPLETED:
            return "Every request was answered."
        case BatchStatus.FAILED:
            return "Its file could not be used, so nothing was asked and nothing counted."
        case BatchStatus.EXPIRED:
            return f"Its time was over when {batch.completed:,} of {batch.total:,} requests were answered."
        case BatchStatus.CANCELLED:
            return f"It was cancelled when {batch.completed:,} of {batch.total:,} requests were answered."


def ended_at(batch: Batch) -> datetime | None:
    return batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at
