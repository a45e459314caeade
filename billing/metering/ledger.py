"""Writing the ledger: a batch of what the gateways told becomes records and sums, in one transaction (docs/ledger.md).

Idempotent by the ids of the events: only what is newly written is added to the sums, so a batch may come again, whole
or in part, at once or later. Who reads batches and what happens when one fails: ``billing.metering.meter``.
"""

import logging
import re
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf
from typing import Any, Final

import msgspec
from django.db import connection, models, transaction
from django.db.models import Sum

from billing import events, months
from billing.admission import quota
from billing.metering import announcing, rollups
from billing.models import Refusal, Settler, UsageMonth, UsageRecord, UsageSource
from billing.prices import PriceBook
from helixflow.lib import ids, live, redis

logger = logging.getLogger(__name__)

LONGEST_USER: Final = 512  # as the API takes it
LONGEST_TEXT: Final = 200  # a model's name; PostgreSQL indexes no text of some thousand characters
MOST_TOKENS: Final = 2**53  # what JSON's readers still count exactly
_SOURCES: Final = frozenset(UsageSource.values)
_SETTLERS: Final = frozenset(Settler.values)
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates, which PostgreSQL refuses

# A meter that was stopped, or whose machine is gone, lets go of its locks, and one that waits for them asks again.
BOUNDS: Final = """
SELECT set_config('idle_in_transaction_session_timeout', '20s', true), set_config('statement_timeout', '30s', true)
"""
# The rows travel as one JSON text: a fraction of the cost of a list for each of 29 columns, and it names them.
INSERT: Final = """
INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s) ORDER BY id
ON CONFLICT (id) DO NOTHING RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """``late``: settlement found no note, so the reaper may have had it."""

    event: events.Event
    late: bool = False


def write(entries: Iterable[Entry], *, book: PriceBook) -> None:
    """All of them or nothing. What an earlier batch wrote changes nothing.

    A late event takes the place of the reaper's record, and the sums change by the difference. Raises ValueError for
    an event with impossible values, django.db.Error.
    """
    in_time, late, refusals = _prepare(entries, book)
    organizations = {row.organization_id for row in (*in_time, *late)}
    organizations |= {event.organization_id for event, _ in refusals}
    if not organizations:
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(BOUNDS)
        rollups.lock(organizations)
        rollup, ended = _write_records(in_time, late)
        costs = rollup.apply()
        totals = _totals(rollup)
        written = _insert(Refusal, [row for _, row in refusals])
        announcing.announce(
            ended=ended,
            grown=_grown(rollup, totals),
            refusals=[event for event, _ in refusals if event.id in written],
        )
    live.nudge({key.organization_id for key in rollup.months})
    _tell_spent(rollup, costs, totals)


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Client text as PostgreSQL takes it, and not longer than any index can hold."""
    return _UNSTORABLE.sub("\ufffd", text[:longest])


def record_of(event: events.Usage, book: PriceBook) -> UsageRecord:
    """The row that an event becomes. Raises ValueError for impossible values."""
    _check(event)
    cost = book.cost(model=event.fallback_model or event.model, tokens=event.tokens, at=ids.time_of(event.id))
    tokens = {f"{name}_tokens": count for name, count in msgspec.structs.asdict(event.tokens).items()}
    return UsageRecord(
        id=event.id,
        organization_id=event.organization_id,
        api_key_id=event.api_key_id,
        user_id=event.user_id,
        month=months.first_day(event.month),
        units=event.units,
        operation=clean(event.operation),
        model=clean(event.model),
        fallback_model=clean(event.fallback_model),
        deployment=clean(event.deployment),
        attempts=[_attempt(each) for each in event.attempts],
        status=event.status,
        error_code=clean(event.error_code),
        streamed=event.streamed,
        end_user=clean(event.end_user, LONGEST_USER),
        usage_source=event.usage_source,
        price_id=cost.price_id,
        currency=cost.currency,
        cost=cost.amount,
        duration_ms=event.duration_ms,
        first_token_ms=event.first_token_ms,
        settled_by=event.settled_by,
        **tokens,
    )


def _prepare(
    entries: Iterable[Entry], book: PriceBook
) -> tuple[list[UsageRecord], list[UsageRecord], list[tuple[events.Refused, Refusal]]]:
    """The rows of usage events in time, of late ones, and of refusals."""
    in_time: list[UsageRecord] = []
    late: list[UsageRecord] = []
    refusals = []
    for entry in entries:
        if isinstance(entry.event, events.Refused):
            refusals.append((entry.event, _refusal(entry.event)))
        else:
            (late if entry.late else in_time).append(record_of(entry.event, book))
    return in_time, late, refusals


def _check(event: events.Usage) -> None:
    """What PostgreSQL would take without a word, or refuse without naming it."""
    if event.units not in {0, 1}:
        raise ValueError(f"impossible units: {event.units}")
    if not 100 <= event.status <= 599:
        raise ValueError(f"impossible status: {event.status}")
    if event.usage_source not in _SOURCES or event.settled_by not in _SETTLERS:
        raise ValueError(f"impossible words: {event.usage_source}, {event.settled_by}")
    tokens = msgspec.structs.astuple(event.tokens)
    if min(tokens) < 0 or max(tokens) >= MOST_TOKENS:
        raise ValueError(f"impossible tokens: {tokens}")
    durations = [event.duration_ms, event.first_token_ms or 0.0, *(each.duration_ms for each in event.attempts)]
    if not all(0 <= ms < inf for ms in durations):  # NaN neither
        raise ValueError(f"impossible durations: {durations}")


def _attempt(attempt: events.Attempt) -> dict[str, Any]:
    return {
        "deployment": clean(attempt.deployment),
        "outcome": clean(attempt.outcome),
        "duration_ms": attempt.duration_ms,
    }


def _refusal(event: events.Refused) -> Refusal:
    if event.count < 1:
        raise ValueError("impossible: count")
    return Refusal(
        id=event.id,
        organization_id=event.organization_id,
        api_key_id=event.api_key_id,
        minute=datetime.fromtimestamp(event.minute * 60, UTC),
        reason=clean(event.reason),
        count=event.count,
    )


def _write_records(
    in_time: Sequence[UsageRecord], late: Sequence[UsageRecord]
) -> tuple[rollups.Rollup, list[UsageRecord]]:
    """What changed, and the records that say something new of how a request ended: well, or not.

    Of two events with one id the first counts, unless it is the reaper's and a late one knows better.
    """
    rollup = rollups.Rollup()
    rows: dict[uuid.UUID, UsageRecord] = {}
    for row in (*in_time, *late):
        rows.setdefault(row.id, row)
    inserted = _insert(UsageRecord, rows.values())
    ended = {id_: row for id_, row in rows.items() if id_ in inserted}
    for row in ended.values():
        rollup.add(row)
    better = {row.id: row for row in late if row.settled_by != Settler.REAPER}
    better = {id_: row for id_, row in better.items() if ended.get(id_) is not row}
    for reaped, row in _replace(better):
        rollup.add(reaped, -1)
        rollup.add(row)
        if row.id in ended or row.has_failed != reaped.has_failed:
            ended[row.id] = row
    return rollup, list(ended.values())


def _replace(better: dict[uuid.UUID, UsageRecord]) -> list[tuple[UsageRecord, UsageRecord]]:
    """The reaper's records that gave way, each with what is there now."""
    if not better:
        return []
    reaped = list(UsageRecord.objects.filter(id__in=better, settled_by=Settler.REAPER))
    UsageRecord.objects.filter(id__in=[row.id for row in reaped]).delete()
    _insert(UsageRecord, [better[row.id] for row in reaped])
    return [(row, better[row.id]) for row in reaped]


def _insert(model: type[models.Model], rows: Collection[models.Model]) -> set[uuid.UUID]:
    """The ids of the rows that were not there yet."""
    if not rows:
        return set()
    meta = model._meta  # noqa: SLF001  # named like a private one, and documented
    names = [field.attname for field in meta.concrete_fields]
    payload = msgspec.json.encode([{name: getattr(row, name) for name in names} for row in rows]).decode()
    with connection.cursor() as cursor:
        cursor.execute(INSERT.format(table=meta.db_table, columns=", ".join(names)), [payload])
        return {id_ for (id_,) in cursor.fetchall()}


def _totals(rollup: rollups.Rollup) -> dict[tuple[uuid.UUID, date], tuple[int, Decimal]]:
    """Units and cost of all keys of the organizations and months that changed, as they now are."""
    changed = {(key.organization_id, key.month) for key in rollup.months}
    if not changed:
        return {}
    organizations, days = zip(*changed, strict=True)
    rows = UsageMonth.objects.filter(organization_id__in=set(organizations), month__in=set(days))
    sums = rows.values_list("organization_id", "month").annotate(Sum("units"), Sum("cost"))
    return {(organization, day): (units, cost) for organization, day, units, cost in sums}


def _grown(
    rollup: rollups.Rollup, totals: dict[tuple[uuid.UUID, date], tuple[int, Decimal]]
) -> dict[tuple[uuid.UUID, date], tuple[int, int]]:
    """Organization and month → units before and after, where there are more."""
    more: dict[tuple[uuid.UUID, date], int] = {}
    for key, sums in rollup.months.items():
        place = key.organization_id, key.month
        more[place] = more.get(place, 0) + sums.units
    return {place: (totals[place][0] - units, totals[place][0]) for place, units in more.items() if units > 0}


def _tell_spent(
    rollup: rollups.Rollup,
    costs: dict[rollups.MonthKey, Decimal],
    totals: dict[tuple[uuid.UUID, date], tuple[int, Decimal]],
) -> None:
    spent: dict[tuple[uuid.UUID, date], dict[uuid.UUID | None, Decimal]] = {}
    for key, sums in rollup.months.items():
        if sums.cost:
            place = key.organization_id, key.month
            spent.setdefault(place, {None: totals[place][1]})[key.api_key_id] = costs[key]
    for (organization_id, day), amounts in spent.items():
        try:
            quota.tell_spent(organization_id=organization_id, month=months.of_day(day), spent=amounts)
        except redis.RedisError as error:
            # What is spent next is told with it; and a Redis that lost the month has it seeded from the ledger.
            logger.warning("What %s spent was not told to Redis: %s", organization_id, error)
            return
