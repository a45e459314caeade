"""What a month comes to, out of the ledger: invoices-to-be. No invoice yet: nothing is charged by it.

Totals and keys are the month's own sums, those that budgets compare. What is by model, and tokens, are sums of hours,
which go by when a request began; the month goes by when it was let in. A request at the very turn of a month can be in
one and not in the other: the difference is a line of its own, so that the lines add up to the total.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db.models import Sum

from accounts.models import ApiKey, Organization
from billing import money, months
from billing.models import UsageMonth
from billing.rollup_models import UsageDay
from helixflow.lib import errors, ids

LISTED: Final = 24  # months on a page
SHOWN: Final = 100  # lines of a month's page; the file has all
COLUMNS: Final = (
    *("month", "api_key_id", "api_key", "model", "requests", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost", "currency"),
)


@dataclass(slots=True)
class Line:
    """``label`` is a model's name or a key's; ``key`` where it is there to be linked to."""

    label: str
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: Decimal = Decimal(0)
    key: ApiKey | None = None

    def add(self, other: "Line") -> None:
        self.requests += other.requests
        self.prompt += other.prompt
        self.cached += other.cached
        self.completion += other.completion
        self.cost += other.cost


@dataclass(frozen=True, slots=True)
class Month:
    """One line of the list of months."""

    number: int
    requests: int
    units: int
    cost: Decimal

    @property
    def slug(self) -> str:
        return f"{self.first_day:%Y-%m}"

    @property
    def first_day(self) -> date:
        return months.first_day(self.number)


@dataclass(slots=True)
class Statement:
    """``turn`` is None where hours and month agree. ``detail``: (key, model) → what its hours come to."""

    month: Month
    is_over: bool
    by_model: list[Line]
    by_key: list[Line]
    turn: Line | None
    tokens: Line
    detail: dict[tuple[uuid.UUID, str], Line] = field(default_factory=dict)


def months_of(organization: Organization, *, before: int | None = None, limit: int = LISTED) -> list[Month]:
    """Newest first, those in which something was used; ``before``: a month that is not in it."""
    rows = UsageMonth.objects.filter(organization=organization)
    if before is not None:
        rows = rows.filter(month__lt=months.first_day(before))
    sums = rows.values("month").annotate(all_requests=Sum("requests"), all_units=Sum("units"), all_cost=Sum("cost"))
    return [
        Month(months.of_day(row["month"]), int(row["all_requests"]), int(row["all_units"]), row["all_cost"])
        for row in sums.order_by("-month")[:limit]
    ]


def parse(text: str) -> int:
    """The month that ``2026-11`` names. Raises NotFound."""
    year, _, number = text.partition("-")
    if not (text.isascii() and len(text) == 7 and year.isdigit() and number.isdigit() and 1 <= int(number) <= 12):
        raise errors.NotFound("That is not a month; one is written such as 2026-11.")
    if int(year) < 2000:
        raise errors.NotFound("There is nothing of that month.")
    return int(year) * 100 + int(number)


def of(organization: Organization, month: int, *, now: datetime) -> Statement:
    """Raises NotFound for a month to come. One in which nothing was used is there, and empty."""
    if month > months.of(now.timestamp()):
        raise errors.NotFound("That month is still to come.")
    detail = _detail(organization, month)
    by_model = _summed((model or "(no model)", line) for (_, model), line in detail.items())
    of_keys = _summed((key_id, line) for (key_id, _), line in detail.items())
    sums = list(UsageMonth.objects.filter(organization=organization, month=months.first_day(month)))
    by_key = _by_key(organization, sums, of_keys)
    total = Month(
        month,
        sum(row.requests for row in sums),
        sum(row.units for row in sums),
        sum((row.cost for row in sums), Decimal(0)),
    )
    tokens = Line("")
    for line in by_model.values():
        tokens.add(line)
    return Statement(
        month=total,
        is_over=month < months.of(now.timestamp()),
        by_model=_dearest(by_model.values()),
        by_key=_dearest(by_key),
        turn=_turn(total, tokens),
        tokens=tokens,
        detail=detail,
    )


def rows(organization: Organization, statement: Statement) -> Iterator[list[str]]:
    """Of the file: a line for each key and model, and what is known of neither last."""
    yield list(COLUMNS)
    labels = {line.key.id: line.label for line in statement.by_key if line.key}
    month = statement.month.slug
    for (key_id, model), line in sorted(statement.detail.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        yield _row(month, ids.public_id(ids.API_KEY, key_id), labels.get(key_id, ""), model, line)
    if statement.turn is not None:
        yield _row(month, "", statement.turn.label, "", statement.turn)


def _row(month: str, key_id: str, label: str, model: str, line: Line) -> list[str]:
    numbers = [str(line.requests), str(line.prompt), str(line.cached), str(line.completion), money.text(line.cost)]
    return [month, key_id, label, model, *numbers, settings.CURRENCY]


def _detail(organization: Organization, month: int) -> dict[tuple[uuid.UUID, str], Line]:
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in months.bounds(month))
    days = UsageDay.objects.filter(organization=organization, hour__gte=begins, hour__lt=ends)
    names = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost")
    sums: Any = {f"all_{name}": Sum(name) for name in names}
    found: Any = days.values("api_key_id", "model").annotate(**sums).order_by()
    return {
        (row["api_key_id"], row["model"]): Line(
            "",
            requests=int(row["all_requests"]),
            prompt=int(row["all_prompt_tokens"]),
            cached=int(row["all_cached_tokens"]),
            completion=int(row["all_completion_tokens"]),
            cost=row["all_cost"],
        )
        for row in found
    }


def _summed(lines: Iterator[tuple[Any, Line]]) -> dict[Any, Line]:
    found: dict[Any, Line] = defaultdict(lambda: Line(""))
    for name, line in lines:
        found[name].add(line)
    for name, line in found.items():
        line.label = str(name)
    return dict(found)


def _by_key(organization: Organization, sums: list[UsageMonth], of_hours: dict[uuid.UUID, Line]) -> list[Line]:
    """Requests and cost of the month's own sums, tokens of its hours."""
    found = []
    keys = ApiKey.objects.of(organization).in_bulk([row.api_key_id for row in sums])
    for row in sums:
        hours = of_hours.get(row.api_key_id, Line(""))
        key = keys.get(row.api_key_id)
        found.append(
            Line(
                key.name if key else ids.public_id(ids.API_KEY, row.api_key_id),
                requests=row.requests,
                prompt=hours.prompt,
                cached=hours.cached,
                completion=hours.completion,
                cost=row.cost,
                key=key,
            )
        )
    return found


def _turn(total: Month, of_hours: Line) -> Line | None:
    requests, cost = total.requests - of_hours.requests, total.cost - of_hours.cost
    if not requests and not cost:
        return None
    return Line("At the turn of the month", requests=requests, cost=cost)


def _dearest(lines: Any) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.cost, -line.requests, line.label))
