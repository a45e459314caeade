"""Batches as their rows are while nobody works on them, for what is read of them and done to them."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from accounts.models import ApiKey
from inference.batch import batches, files, lines, sealing
from inference.batch.lines import Line
from inference.batch_models import Batch, BatchItem, BatchStatus, ItemState, Operation, Purpose, StoredFile

CHAT: dict[str, Any] = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "What is a batch?"}]}
LINE = lines.write(Line("request-1", "gpt-3.5-turbo", json.dumps(CHAT).encode()), Operation.CHAT)


def file(key: ApiKey, content: bytes = LINE, *, purpose: Purpose = Purpose.BATCH) -> StoredFile:
    with files.new(key.organization_id, key.id, "requests.jsonl", purpose) as writer:
        writer.write(content)
        return writer.close()


def batch(key: ApiKey, outcomes: Sequence[int | str | None] = (), *, status: str = "", **fields: Any) -> Batch:
    """With an item for each outcome: the status of its answer, the code of one that was never asked, or None: waiting.

    It runs while one waits, and is completed otherwise, unless ``status`` says what it is.
    """
    now = timezone.now()
    made = Batch.objects.create(
        organization_id=key.organization_id,
        api_key=key,
        operation=Operation.CHAT,
        status=status or (BatchStatus.IN_PROGRESS if None in outcomes else BatchStatus.COMPLETED),
        sealed_key=sealing.new_key(),
        total=len(outcomes),
        completed=outcomes.count(200),
        failed=len(outcomes) - outcomes.count(200) - outcomes.count(None),
        expires_at=now + batches.LIFETIME,
        **({"input_file_id": uuid.uuid4()} | fields),
    )
    box = sealing.Box(made.sealed_key)
    BatchItem.objects.bulk_create(_item(made, box, position, outcome) for position, outcome in enumerate(outcomes))
    return made


def _item(batch: Batch, box: sealing.Box, position: int, outcome: int | str | None) -> BatchItem:
    body = json.dumps(CHAT | {"seed": position}).encode()
    item = BatchItem(
        batch=batch,
        position=position,
        custom_id=f"request-{position + 1}",
        model=CHAT["model"],
        request=box.close(body, sealing.request_label(position)),
    )
    if outcome is None:
        return item
    item.state = ItemState.COMPLETED if outcome == 200 else ItemState.FAILED
    item.ended_at = timezone.now()
    if isinstance(outcome, str):
        item.error_code = outcome
        return item
    error = {"code": "invalid_request", "message": f"{position} is refused."}
    answer = {"choices": [], "seed": position} if outcome == 200 else {"error": error}
    item.answer = box.close(json.dumps(answer).encode(), sealing.answer_label(position))
    item.status_code = outcome
    item.request_id = f"req_{position}"
    item.error_code = "" if outcome == 200 else "invalid_request"
    return item
