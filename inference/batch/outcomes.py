"""What came of requests, written down once: an outcome counts only while its request waits, and moves the batch's
counters in the same transaction. So two workers who overlap, as after a pause, count nothing twice.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from msgspec import UNSET, UnsetType

from billing.events import Tokens
from billing.prices import PriceBook
from helixflow.lib import ids
from inference.answers import CompletionTokensDetails, PromptTokensDetails, Usage
from inference.batch import sealing, verdicts
from inference.batch.sealing import Box
from inference.batch.sending import Answer, Sent
from inference.batch_models import Batch, BatchItem, ItemState
from inference.usage import tokens

REST: Final = 5_000  # settled at once
TOKENS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
_prices = PriceBook()

_COLUMNS: Final = {
    "state": "text",
    "status_code": "smallint",
    "request_id": "text",
    "answer": "bytea",
    "error_code": "text",
    **dict.fromkeys(TOKENS, "integer"),
    "cost": "numeric",
}
WRITE: Final = f"""
UPDATE inference_batchitem AS item SET ended_at = %(now)s, due_at = NULL,
    {", ".join(f"{name} = told.{name}" for name in _COLUMNS)}
FROM unnest(%(position)s::integer[], {", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())})
    AS told (position, {", ".join(_COLUMNS)})
WHERE item.batch_id = %(batch)s AND item.position = told.position AND item.state = 'waiting'
RETURNING item.state, item.cost, {", ".join(f"item.{name}" for name in TOKENS)}
"""  # noqa: S608  # of names above

POSTPONE: Final = """
UPDATE inference_batchitem AS item SET tries = told.tries, due_at = told.due_at
FROM unnest(%(position)s::integer[], %(tries)s::smallint[], %(due_at)s::timestamptz[]) AS told (position, tries, due_at)
WHERE item.batch_id = %(batch)s AND item.position = told.position AND item.state = 'waiting' AND item.tries < told.tries
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """As the row has it; ``answer`` is sealed."""

    position: int
    state: ItemState
    status_code: int | None = None
    request_id: str = ""
    answer: bytes | None = None
    error_code: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Again:
    """A request that failed and is tried again, not before ``due_at``."""

    position: int
    tries: int
    due_at: datetime


def of(sent: Sent, box: Box, *, completed: bool) -> Outcome:
    """Raises django.db.Error if it is time to read prices and PostgreSQL can't."""
    position, answer = sent.item.position, sent.answer
    if answer is None or answer.too_long:
        return Outcome(position=position, state=ItemState.FAILED, error_code=verdicts.UNKNOWN)
    sealed = box.close(answer.body, sealing.answer_label(position))
    if completed:
        return _completed(sent.item, answer, sealed)
    return Outcome(
        position=position,
        state=ItemState.FAILED,
        status_code=answer.status,
        request_id=answer.request_id,
        answer=sealed,
        error_code=verdicts.error_code(answer),
    )


def write(batch_id: uuid.UUID, outcomes: Sequence[Outcome]) -> int:
    """How many of them counted. All are durable afterwards."""
    values: dict[str, Any] = {name: [getattr(each, name) for each in outcomes] for name in ("position", *_COLUMNS)}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(WRITE, values | {"batch": batch_id, "now": timezone.now()})
            rows = cursor.fetchall()
        completed = sum(state == ItemState.COMPLETED for state, *_ in rows)
        if rows:
            Batch.objects.filter(id=batch_id).update(
                completed=F("completed") + completed,
                failed=F("failed") + len(rows) - completed,
                cost=F("cost") + sum((row[1] for row in rows), Decimal(0)),
                **{name: F(name) + sum(row[n] for row in rows) for n, name in enumerate(TOKENS, 2)},
            )
    return len(rows)


def postpone(batch_id: uuid.UUID, again: Collection[Again]) -> None:
    values: dict[str, Any] = {name: [getattr(each, name) for each in again] for name in Again.__slots__}
    with connection.cursor() as cursor:
        cursor.execute(POSTPONE, values | {"batch": batch_id})


def settle_rest(batch_id: uuid.UUID, code: str) -> None:
    """All that still waits has failed for this reason. Done in pieces, and again where somebody was killed amid it."""
    waiting = BatchItem.objects.filter(batch_id=batch_id, state=ItemState.WAITING)
    while positions := list(waiting.order_by("position").values_list("position", flat=True)[:REST]):
        with transaction.atomic():
            settled = waiting.filter(position__lte=positions[-1]).update(
                state=ItemState.FAILED, error_code=code, ended_at=timezone.now(), due_at=None
            )
            Batch.objects.filter(id=batch_id).update(failed=F("failed") + settled)


def _completed(item: BatchItem, answer: Answer, sealed: bytes) -> Outcome:
    said = _read(answer.body)
    # Of an answer that was kept the receipt is that of the request which was answered first.
    request_id = answer.headers.get("x-helixflow-first-request", answer.request_id)
    used = Tokens() if answer.headers.get("x-helixflow-cache") == "hit" else _tokens(said.usage)  # as the ledger says
    model = answer.headers.get("x-helixflow-fallback-model") or item.model
    return Outcome(
        position=item.position,
        state=ItemState.COMPLETED,
        status_code=answer.status,
        request_id=request_id,
        answer=sealed,
        prompt_tokens=used.input + used.cached_input + used.cache_write + used.input_audio,
        cached_tokens=used.cached_input,
        completion_tokens=used.output + used.reasoning + used.output_audio,
        reasoning_tokens=used.reasoning,
        cost=_prices.cost(model=model, tokens=used, at=_asked_at(request_id)).amount,
    )


class _Usage(msgspec.Struct):
    """Embeddings have no completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


class _Said(msgspec.Struct):
    usage: _Usage | None = None


def _read(body: bytes) -> _Said:
    try:
        return msgspec.json.decode(body, type=_Said)
    except msgspec.DecodeError:
        return _Said()


def _tokens(usage: _Usage | None) -> Tokens:
    return tokens(Usage(*msgspec.structs.astuple(usage))) if usage else Tokens()


def _asked_at(request_id: str) -> datetime:
    try:
        return ids.time_of(ids.parse_public_id(ids.REQUEST, request_id))
    except ValueError:  # something on the way has written another one
        return timezone.now()
