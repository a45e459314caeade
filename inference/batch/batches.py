"""Making, cancelling and retrying batches. What is done about them is the engine's business (docs/batch.md).

Each batch has an input file: what is given inline is written into one, so the engine knows files only.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import errors, ids
from inference.batch import files, lanes, lines, pieces, retention, sealing
from inference.batch.lines import Line
from inference.batch_models import OPEN, Batch, BatchItem, BatchStatus, ItemState, Operation, Purpose, StoredFile

WINDOW: Final = "24h"
LIFETIME: Final = timedelta(hours=24)
MOST_OPEN: Final = 100  # of an organization
MOST_INLINE: Final = 1_000


def of(organization_id: uuid.UUID) -> QuerySet[Batch]:
    return Batch.objects.filter(organization_id=organization_id)


def get(organization_id: uuid.UUID, public_id: str) -> Batch:
    """Raises errors.NotFound, for another organization's too."""
    return _named(of(organization_id), public_id)


def create(
    *,
    organization_id: uuid.UUID,
    api_key_id: uuid.UUID,
    file: StoredFile,
    operation: Operation,
    metadata: Mapping[str, str] | None = None,
    retry_of: Batch | None = None,
    batch_id: uuid.UUID | None = None,
) -> Batch:
    """The batch of the requests in ``file``, which the engine reads later: their mistakes are told by its ``errors``.

    One whose ``batch_id`` is there already is given back as it is. Raises InvalidRequest.
    """
    if file.purpose != Purpose.BATCH:
        raise errors.InvalidRequest(
            'A batch begins with a file whose purpose is "batch": this one is what another batch has written.',
            param="input_file_id",
        )
    now = timezone.now()
    with transaction.atomic():
        _lock(organization_id)
        if batch_id is not None and (made := of(organization_id).filter(id=batch_id).first()):
            return made
        _require_few_open(organization_id)
        _require_room(organization_id, file.size_bytes)
        batch = Batch.objects.create(
            id=batch_id or ids.uuid7(),
            organization_id=organization_id,
            api_key_id=api_key_id,
            operation=operation,
            completion_window=WINDOW,
            metadata=None if metadata is None else dict(metadata),
            input_file_id=file.id,
            retry_of=retry_of,
            sealed_key=sealing.new_key(),
            held_bytes=file.size_bytes,
            turned_at=now,
            created_at=now,
            expires_at=now + LIFETIME,
        )
        lanes.wake(organization_id)
    return batch


def create_inline(
    *,
    organization_id: uuid.UUID,
    api_key_id: uuid.UUID,
    requests: Sequence[Line],
    operation: Operation,
    metadata: Mapping[str, str] | None = None,
    batch_id: uuid.UUID | None = None,
) -> Batch:
    """As ``create``, of requests whose lines were read and whose custom_ids differ."""
    return _create_of(
        (lines.write(line, operation) for line in requests),
        filename="requests.jsonl",
        organization_id=organization_id,
        api_key_id=api_key_id,
        operation=operation,
        metadata=metadata,
        batch_id=batch_id,
    )


def retry(*, batch: Batch, api_key_id: uuid.UUID, batch_id: uuid.UUID | None = None) -> Batch:
    """A new batch of all requests that failed, in their order and under their custom_ids. As ``create``."""
    if batch.is_open:
        raise errors.InvalidRequest(f"{batch.public_id} has not ended yet: cancel it, or wait until it has.")
    if batch.status == BatchStatus.FAILED:
        raise errors.InvalidRequest("The file of this batch was not valid: mend it, and make a new batch of it.")
    if not batch.failed:
        raise errors.InvalidRequest("None of this batch's requests failed: there is nothing to retry.")
    if not _failed(batch).exists():
        raise errors.InvalidRequest("The requests of this batch were deleted, 30 days after it ended.")
    return _create_of(
        _failed_lines(batch),
        filename=f"failed-of-{batch.public_id}.jsonl",
        organization_id=batch.organization_id,
        api_key_id=api_key_id,
        operation=Operation(batch.operation),
        metadata=batch.metadata,
        retry_of=batch,
        batch_id=batch_id,
    )


def cancel(*, organization_id: uuid.UUID, public_id: str) -> Batch:
    """The engine ends it, once the requests under way have. Idempotent. Raises NotFound, InvalidRequest."""
    with transaction.atomic():
        batch = _named(of(organization_id).select_for_update(no_key=True), public_id)
        if batch.status in {BatchStatus.CANCELLING, BatchStatus.CANCELLED}:
            return batch
        if batch.status not in {BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS}:
            raise errors.InvalidRequest(
                f"A batch that is {batch.status} cannot be cancelled: each of its requests has ended."
            )
        batch.status = BatchStatus.CANCELLING
        batch.cancelling_at = timezone.now()
        batch.waits_for, batch.waits_until = "", None  # it is to end, however long it was to wait
        batch.save(update_fields=["status", "cancelling_at", "waits_for", "waits_until"])
        lanes.wake(organization_id)
    return batch


def _create_of(
    content: Iterable[bytes],
    *,
    filename: str,
    organization_id: uuid.UUID,
    api_key_id: uuid.UUID,
    operation: Operation,
    metadata: Mapping[str, str] | None,
    batch_id: uuid.UUID | None,
    retry_of: Batch | None = None,
) -> Batch:
    if batch_id is not None and (made := of(organization_id).filter(id=batch_id).first()):
        return made
    _require_few_open(organization_id)  # before anything is written; what counts is the look under the lock
    _require_room(organization_id, 0)
    with files.new(organization_id, api_key_id, filename, Purpose.BATCH) as writer:
        for line in content:
            writer.write(line)
        with transaction.atomic():
            file = writer.close(within_room=True)
            try:
                batch = create(
                    organization_id=organization_id,
                    api_key_id=api_key_id,
                    file=file,
                    operation=operation,
                    metadata=metadata,
                    retry_of=retry_of,
                    batch_id=batch_id,
                )
            except errors.InvalidRequest:  # its row goes with the transaction: whoever tries on must not fill the disk
                default_storage.delete(file.name)
                raise
            if batch.input_file_id != file.id:  # somebody else has made it meanwhile
                files.drop(StoredFile.objects.filter(id=file.id))
    return batch


def _named(batches: QuerySet[Batch], public_id: str) -> Batch:
    try:
        return batches.get(id=ids.parse_public_id(ids.BATCH, public_id))
    except (ValueError, Batch.DoesNotExist):
        raise errors.NotFound("There is no such batch.") from None


def _lock(organization_id: uuid.UUID) -> None:
    Organization.objects.select_for_update(no_key=True).only("id").get(id=organization_id)


def _require_few_open(organization_id: uuid.UUID) -> None:
    if of(organization_id).filter(status__in=OPEN).count() >= MOST_OPEN:
        raise errors.InvalidRequest(
            f"Your organization has {MOST_OPEN} batches that have not ended: wait for one of them, or cancel one. "
            "A batch may have 50,000 requests."
        )


def _require_room(organization_id: uuid.UUID, size_bytes: int) -> None:
    """Each batch holds its requests once more, and after its end too: of one file any number could be made."""
    kept = of(organization_id).filter(id__gte=ids.first_at(timezone.now() - retention.KEPT))
    left = settings.FILES_MB * 1_000_000 - (kept.aggregate(held=Sum("held_bytes"))["held"] or 0)
    if size_bytes > left or left <= 0:
        raise errors.InvalidRequest(
            f"The requests of your organization's batches may have {settings.FILES_MB:,} MB together, and "
            f"{max(left, 0) / 1_000_000:,.1f} MB are free. They are kept for 30 days after a batch's end: wait, or ask "
            "the operator for more."
        )


def _failed(batch: Batch) -> QuerySet[BatchItem]:
    return batch.items.filter(state=ItemState.FAILED)


def _failed_lines(batch: Batch) -> Iterator[bytes]:
    box = sealing.Box(batch.sealed_key)
    rows = _failed(batch).only("position", "custom_id", "model", "request", "batch")
    for piece in pieces.of(rows, "request"):
        for item in piece:
            body = box.open(bytes(item.request), sealing.request_label(item.position))
            yield lines.write(Line(item.custom_id, item.model, body), batch.operation)
