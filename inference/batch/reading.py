"""What people read of batches: an organization's, one with its requests, what one of them asked and was answered."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count, QuerySet

from accounts.models import ApiKey, Organization
from helixflow.lib import crypto, errors, ids
from inference.batch import files as contents
from inference.batch.sealing import Box, Unopenable, answer_label, request_label
from inference.batch_models import Batch, BatchItem, StoredFile

MOST_SHOWN: Final = 256 * 1024  # bytes of a request or an answer on its page, which may have 10 or 33 MB
ERROR_CODES: Final = 20  # shown of a batch, the most frequent ones
_HEAVY: Final = ("request", "answer")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer as JSON texts, spaced for reading. ``answer`` is empty where there was none."""

    request: str
    answer: str


def batches(
    organization: Organization, *, statuses: Sequence[str] = (), api_key_id: uuid.UUID | None = None
) -> QuerySet[Batch]:
    rows = Batch.objects.filter(organization=organization).select_related("api_key").defer("errors", "metadata")
    if statuses:
        rows = rows.filter(status__in=statuses)
    return rows.filter(api_key_id=api_key_id) if api_key_id else rows


def get(organization: Organization, public_id: str) -> Batch:
    """Raises NotFound, for another organization's too."""
    rows = Batch.objects.filter(organization=organization).select_related("api_key", "retry_of")
    try:
        return rows.get(pk=ids.parse_public_id(ids.BATCH, public_id))
    except (ValueError, Batch.DoesNotExist):
        raise errors.NotFound("There is no batch with this id in your organization.") from None


def retries(batch: Batch) -> list[Batch]:
    """Made of what failed in it, oldest first."""
    return list(Batch.objects.filter(organization_id=batch.organization_id, retry_of=batch).order_by("id")[:10])


def error_codes(batch: Batch) -> list[tuple[str, int]]:
    """Of the requests that failed, the most frequent first."""
    if not batch.failed:
        return []
    failed = batch.items.filter(state="failed").values("error_code").annotate(count=Count("pk"))
    return [(row["error_code"], row["count"]) for row in failed.order_by("-count", "error_code")[:ERROR_CODES]]


def items(batch: Batch, *, state: str = "", after: int = -1) -> QuerySet[BatchItem]:
    """In the order of the requests, without what they hold."""
    rows = batch.items.filter(position__gt=after).defer(*_HEAVY).order_by("position")
    return rows.filter(state=state) if state else rows


def item(batch: Batch, position: int) -> BatchItem:
    """Raises NotFound."""
    found = batch.items.filter(position=position).first()
    if found is None:
        raise errors.NotFound("This batch has no such request.")
    found.batch = batch
    return found


def exchange(found: BatchItem) -> Exchange | None:
    """None where it can't be read any more."""
    try:
        box = Box(found.batch.sealed_key)
        request = request_of(found, box)
        answer = box.open(bytes(found.answer), answer_label(found.position)) if found.answer else b""
    except (crypto.Undecryptable, Unopenable):
        return None
    return Exchange(_spaced(request), _spaced(answer))


def request_of(found: BatchItem, box: Box) -> bytes:
    """Its body, whole. Raises Unopenable."""
    return box.open(bytes(found.request), request_label(found.position))


def file_of(batch: Batch, kind: str) -> StoredFile:
    """``input``, ``output`` or ``errors``. Raises NotFound, also for one that was deleted or has expired."""
    file_id = {"input": batch.input_file_id, "output": batch.output_file_id, "errors": batch.error_file_id}.get(kind)
    found = contents.of(batch.organization_id).filter(id=file_id).first() if file_id else None
    if found is None:
        raise errors.NotFound("This file is not there: it was deleted, has expired, or there never was one.")
    return found


def files(batch: Batch) -> dict[str, StoredFile]:
    """Those that are still there, by kind."""
    kinds = {batch.input_file_id: "input", batch.output_file_id: "output", batch.error_file_id: "errors"}
    rows = contents.of(batch.organization_id).filter(id__in=[each for each in kinds if each])
    return {kinds[row.id]: row for row in rows}


def key_for(batch: Batch) -> ApiKey:
    """In whose name it can be retried: its own key, or what that was rotated to. Raises InvalidRequest."""
    key = batch.api_key
    while key is not None and key.status != "active":
        key = key.rotated_to
    if key is None:
        raise errors.InvalidRequest(
            "The key that it ran under can't be used any more. Fetch its input file and make a new batch of it, "
            "under another key."
        )
    return key


def usable_keys(organization: Organization) -> list[ApiKey]:
    """In whose name a batch can run, newest first."""
    return list(ApiKey.objects.of(organization).usable().order_by("-id")[:200])


def _spaced(body: bytes) -> str:
    """Of what is large a beginning, as it came: spaces alone may make it sixty times as large."""
    if len(body) > MOST_SHOWN:
        return f"{_text(body[:MOST_SHOWN])}\n… of {len(body):,} bytes. All of it is in the batch's files."
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return _text(body)
    spaced = json.dumps(value, indent=2, ensure_ascii=False)
    return spaced if len(spaced) <= 2 * MOST_SHOWN else _text(body)


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
