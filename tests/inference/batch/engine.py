"""Batches to be worked on, and the worker in this process."""

import json
from collections.abc import Iterable
from typing import Any

from accounts.models import ApiKey
from inference.batch import batches, files, lanes, turn
from inference.batch_models import Batch, BatchItem, Operation, Purpose, StoredFile
from tests.factories import MODEL
from webhooks.models import Event, EventType

MINUTE = 1_000  # requests that an account of these tests may make in one


def body(number: int = 0, **options: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": f"Question {number}"}], "max_tokens": 5} | options


def line(number: int, **options: Any) -> dict[str, Any]:
    return {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": Operation.CHAT.value,
        "body": body(number, **options),
    }


def store(key: ApiKey, lines: Iterable[object]) -> StoredFile:
    """Each is written as JSON, bytes as they are."""
    with files.new(key.organization_id, key.id, "batch.jsonl", Purpose.BATCH) as writer:
        for each in lines:
            writer.write((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n")
        return writer.close()


def make(key: ApiKey, lines: "Iterable[object] | int") -> Batch:
    """Of so many requests, or of these lines."""
    given = [line(number) for number in range(lines)] if isinstance(lines, int) else lines
    file = store(key, given)
    return batches.create(organization_id=key.organization_id, api_key_id=key.id, file=file, operation=Operation.CHAT)


def work(batch: Batch) -> Batch:
    """A turn; the batch afterwards."""
    turn.work(batch.organization_id)
    batch.refresh_from_db()
    return batch


def work_on(batch: Batch) -> Batch:
    """Turn by turn, without its waits, until it has ended."""
    for _ in range(20):
        batch = work(batch)
        if not batch.is_open:
            return batch
        wake(batch)
    raise AssertionError(f"{batch.status}, {batch.settled} of {batch.total}, waits for {batch.waits_for}")


def items(batch: Batch) -> list[BatchItem]:
    return list(BatchItem.objects.filter(batch=batch).order_by("position"))


def states(batch: Batch) -> list[str]:
    return [item.state for item in items(batch)]


def wake(batch: Batch) -> None:
    """Whatever it waits for is over."""
    Batch.objects.filter(id=batch.id).update(waits_until=None)
    BatchItem.objects.filter(batch=batch).update(due_at=None)
    lanes.wake(batch.organization_id)


def told() -> list[object]:
    """By events: how batches have ended."""
    return [event.data["status"] for event in Event.objects.filter(type=EventType.BATCH_COMPLETED)]
