"""What inference adds to the export of an organization's data, and how it is deleted with the organization."""

import dataclasses
import uuid
from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec

from accounts import deletions, erasure, exporting, exports
from accounts.models import Organization
from helixflow.lib import clock, crypto, ids
from inference import contents
from inference.batch import files, pieces, reading, results, words
from inference.batch.sealing import Box, Unopenable
from inference.batch_models import Batch, BatchItem, BatchLane, StoredFile
from inference.models import StoredContents


def register() -> None:
    exports.register("stored_contents", _contents)
    exports.register("batches", _batches)
    exports.register("batch_results", _results)
    exports.register("files", _files)
    for eraser in (_erase_contents, _erase_items, _erase_batches, files.erase, _erase_lane):
        deletions.register(eraser)


def _contents(organization: Organization) -> Iterator[dict[str, Any]]:
    """What people of the organization can see, in clear: the export is as private as they are."""
    for row in exporting.rows_of(StoredContents.objects.filter(organization=organization).only("id")):
        try:
            seen = contents.of(organization, row.id)
        except crypto.Undecryptable:
            continue
        if seen is not None:
            yield {"request": ids.public_id(ids.REQUEST, row.id), **dataclasses.asdict(seen)}


def _erase_contents(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(StoredContents.objects.filter(organization_id=organization_id), limit)


def _batches(organization: Organization) -> Iterator[dict[str, Any]]:
    for batch in exporting.rows_of(Batch.objects.filter(organization=organization).select_related("api_key")):
        ended_at = words.ended_at(batch)
        yield {
            "batch": batch.public_id,
            "endpoint": batch.operation,
            "status": batch.status,
            "api_key": batch.api_key.public_id if batch.api_key else None,
            "metadata": batch.metadata,
            "errors": batch.errors,
            "requests": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
            "tokens": {"prompt": batch.prompt_tokens, "completion": batch.completion_tokens},
            "cost": str(batch.cost),
            "created_at": clock.rfc3339(batch.created_at),
            "ended_at": clock.rfc3339(ended_at) if ended_at else None,
        }


def _results(organization: Organization) -> Iterator[dict[str, Any]]:
    """What was asked and answered, in clear, of the batches of the last month."""
    for batch in exporting.rows_of(Batch.objects.filter(organization=organization)):
        try:
            box = Box(batch.sealed_key)
        except crypto.Undecryptable:
            continue
        for item in chain.from_iterable(pieces.of(batch.items.all(), "request", "answer")):
            told = results.result_of(item, box) if item.ended_at else {"custom_id": item.custom_id}
            try:
                request = msgspec.Raw(reading.request_of(item, box))
            except Unopenable:
                request = None
            yield msgspec.json.decode(msgspec.json.encode({"batch": batch.public_id, "request": request, **told}))


def _files(organization: Organization) -> Iterator[dict[str, Any]]:
    """What they are; those of batches that ended hold what is in the results."""
    for file in exporting.rows_of(StoredFile.objects.filter(organization=organization)):
        yield {
            "file": file.public_id,
            "filename": file.filename,
            "purpose": file.purpose,
            "bytes": file.size_bytes,
            "lines": file.lines,
            "created_at": clock.rfc3339(file.created_at),
            "expires_at": clock.rfc3339(file.expires_at),
        }


def _erase_items(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(BatchItem.objects.filter(batch__organization_id=organization_id), limit)


def _erase_batches(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(Batch.objects.filter(organization_id=organization_id), limit)


def _erase_lane(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(BatchLane.objects.filter(organization_id=organization_id), limit)
