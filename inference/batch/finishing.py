"""The end of a batch: its files, its status, its event. Whatever is done of that is not done again.

A file's row and the batch's mention of it are one transaction, and so are the status and the event. What a killed
worker leaves in the storage no row names; ``files.drop_litter`` finds it.
"""

from collections.abc import Iterator
from typing import Final

from django.db import transaction
from django.utils import timezone

from inference.batch import announcing, files, pieces, preparing, results, sealing
from inference.batch.lanes import Lane
from inference.batch_models import OPEN, Batch, BatchItem, BatchStatus, ItemState, Purpose

_NAMES: Final = {ItemState.COMPLETED: ("output_file_id", "output"), ItemState.FAILED: ("error_file_id", "errors")}


class _Taken(Exception):
    """Somebody else has written this file, or goes on."""


def finish(batch: Batch, lane: Lane) -> None:
    """Of a batch none of whose requests waits any more, or which was cancelled before it had any."""
    if batch.status == BatchStatus.CANCELLING and batch.in_progress_at is None:
        preparing.drop_items(batch)
        batch.total = batch.failed = 0
    elif batch.status == BatchStatus.IN_PROGRESS:
        now = timezone.now()
        begun = Batch.objects.filter(id=batch.id, status=BatchStatus.IN_PROGRESS)
        if not begun.update(status=BatchStatus.FINALIZING, finalizing_at=now):
            return  # cancelled at this moment: the next step sees to that
        batch.status = BatchStatus.FINALIZING
    try:
        for state in _NAMES:
            _write_file(batch, state, lane)
    except _Taken:
        return
    _end(batch)


def _write_file(batch: Batch, state: ItemState, lane: Lane) -> None:
    """Once, and only if there is anything to write."""
    column, name = _NAMES[state]
    items = _items(batch, state, lane)
    first = next(items, None)
    if first is None or getattr(batch, column) is not None:
        return
    box = sealing.Box(batch.sealed_key)
    filename = f"{batch.public_id}_{name}.jsonl"
    with files.new(batch.organization_id, batch.api_key_id, filename, Purpose.BATCH_OUTPUT) as writer:
        writer.write(results.line_of(first, box))
        for item in items:
            writer.write(results.line_of(item, box))
        with transaction.atomic():
            file = writer.close()
            if not Batch.objects.filter(id=batch.id, **{column: None}).update(**{column: file.id}):
                raise _Taken  # and the row with it


def _items(batch: Batch, state: ItemState, lane: Lane) -> Iterator[BatchItem]:
    """In order, piece by piece. Raises _Taken where the lane is lost."""
    for piece in pieces.of(batch.items.filter(state=state).defer("request"), "answer"):
        if not lane.held:
            raise _Taken
        yield from piece


def _end(batch: Batch) -> None:
    status = _last_status(batch)
    with transaction.atomic():
        ending = Batch.objects.filter(id=batch.id, status__in=OPEN)
        fields = {"status": status, f"{status}_at": timezone.now(), "waits_for": "", "waits_until": None}
        if batch.in_progress_at is None:
            fields |= {"total": 0, "failed": 0}
        if ending.update(**fields):
            batch.refresh_from_db()
            announcing.completed(batch)


def _last_status(batch: Batch) -> BatchStatus:
    if batch.status == BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    expired = batch.items.filter(state=ItemState.FAILED, error_code=results.EXPIRED)
    return BatchStatus.EXPIRED if expired.exists() else BatchStatus.COMPLETED
