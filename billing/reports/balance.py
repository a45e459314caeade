"""An organization's live counter of a month beside what should make it up: ledger, usage stream, requests under way.

A request moves through the three in the other order. So they are read in its direction, and what moved meanwhile is
known by its id: whatever traffic there is, nothing is missed and nothing counted twice.
"""

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from django.db import connection

from billing import events, months
from billing.admission import quota, redis_keys, unsettled
from billing.reports import live

TRIES: Final = 3
Key = uuid.UUID | None  # None: all keys of the organization


@dataclass(slots=True)
class Line:
    """Units of the quota, and money. ``counted`` and ``told`` are Redis's, None where it has no counter."""

    counted: int | None = None
    recorded: int = 0
    unmetered: int = 0
    in_flight: int = 0
    told: Decimal | None = None
    cost: Decimal = Decimal(0)

    @property
    def expected(self) -> int:
        return self.recorded + self.unmetered + self.in_flight

    @property
    def surplus(self) -> int:
        """Units that Redis holds and nothing accounts for; below zero, units that it does not know of."""
        return 0 if self.counted is None else self.counted - self.expected

    @property
    def untold(self) -> Decimal:
        """Money that budgets don't know of yet. Redis has whole millionths."""
        if self.told is None:
            return Decimal(0)
        return Decimal(quota.millionths(self.cost)) / quota.MILLION - self.told


@dataclass(slots=True)
class Balance:
    """``steady``: the counter did not move while all was read, so a difference is one. ``lines`` has all keys first."""

    month: int
    counters: live.Counters | None
    lines: dict[Key, Line] = field(default_factory=dict)
    steady: bool = True

    @property
    def differs(self) -> bool:
        return any(line.surplus or line.untold for line in self.lines.values())


def draw(organization_id: uuid.UUID, month: int | None = None) -> Balance:
    """Of ``month``, else of the current one. Raises RedisError, django.db.Error."""
    for _ in range(TRIES):
        balance = _draw_once(organization_id, month)
        if balance.steady:
            break
    return balance


def of_ledger(organization_id: uuid.UUID, month: int) -> Balance:
    """While Redis can't be asked. Raises django.db.Error."""
    lines: dict[Key, Line] = defaultdict(Line, {None: Line()})
    _add_ledger(lines, organization_id, month, set())
    return Balance(month, None, dict(lines))


def of_redis(organization_id: uuid.UUID, month: int | None = None) -> Balance:
    """While PostgreSQL can't be asked. Raises RedisError."""
    counters = live.read(organization_id, month)
    lines: dict[Key, Line] = defaultdict(Line, {None: Line()})
    _add_counted(lines, counters)
    return Balance(counters.month, counters, dict(lines))


def counter_key(organization_id: uuid.UUID, month: int) -> str:
    """What to delete in Redis for the month to be counted anew. The next request of the organization does that."""
    return redis_keys.month(organization_id, month)


def _draw_once(organization_id: uuid.UUID, month: int | None) -> Balance:
    before = live.read(organization_id, month)
    month = before.month
    lines: dict[Key, Line] = defaultdict(Line, {None: Line()})
    noted = {
        request_id: note.api_key_id
        for request_id, note in unsettled.under_way(organization_id).items()
        if note.month == month
    }
    streamed = {each.event.id: each for each in unsettled.unmetered(organization_id) if each.event.month == month}
    recorded = _add_ledger(lines, organization_id, month, {*noted, *streamed})
    for request_id, each in streamed.items():
        units, settled_by = recorded.get(request_id, (0, ""))
        # A gateway's late event takes the place of the reaper's record; of any other record it is a repetition.
        corrects = each.late and each.event.settled_by != events.REAPER
        if not settled_by or (corrects and settled_by == events.REAPER):
            _add(lines, each.event.api_key_id, unmetered=each.event.units - units)
    for request_id, api_key_id in noted.items():
        if request_id not in streamed and request_id not in recorded:
            _add(lines, api_key_id, in_flight=1)
    after = live.read(organization_id, month)
    _add_counted(lines, after)
    return Balance(month, after, dict(lines), steady=before.counted == after.counted)


def _add_ledger(
    lines: dict[Key, Line], organization_id: uuid.UUID, month: int, asked: set[uuid.UUID]
) -> dict[uuid.UUID, tuple[int, str]]:
    """Adds the month's sums; returns units and settler of the records that are there of those asked for."""
    recorded = {}
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {"org": organization_id, "month": months.first_day(month), "ids": list(asked)}
        cursor.execute(quota.LEDGER, parameters)
        for api_key_id, units, cost, request_id, settled_by in cursor.fetchall():
            if request_id is not None:
                recorded[request_id] = (units, settled_by)
            else:
                _add(lines, api_key_id, recorded=units, cost=cost)
    return recorded


def _add_counted(lines: dict[Key, Line], counters: live.Counters) -> None:
    counted = counters.counted
    if counted is None:
        return
    lines[None].counted, lines[None].told = counted.used, counted.spent
    for key in {*lines, *counted.used_by_key, *counted.spent_by_key} - {None}:
        if key is not None:
            lines[key].counted = counted.used_by_key.get(key, 0)
            lines[key].told = counted.spent_by_key.get(key, Decimal(0))


def _add(
    lines: dict[Key, Line],
    api_key_id: uuid.UUID,
    *,
    recorded: int = 0,
    unmetered: int = 0,
    in_flight: int = 0,
    cost: Decimal = Decimal(0),
) -> None:
    """To the key's line and to that of all keys."""
    for line in (lines[None], lines[api_key_id]):
        line.recorded += recorded
        line.unmetered += unmetered
        line.in_flight += in_flight
        line.cost += cost
