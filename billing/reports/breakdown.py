"""What a chart of usage can show: the groups that lead, the others as one, and the period before (docs/usage-api.md).

However many keys and models there are, it takes the same few questions, all of the hourly sums.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.contrib.postgres.aggregates import JSONBAgg
from django.db.models import BooleanField, Case, ExpressionWrapper, F, JSONField, Q, Sum, Value, When

from accounts.models import ApiKey
from billing.reports import timeseries
from billing.reports.timeseries import Series, Span, Sums

LEADING: Final = 7  # as many as charts have colours
PAIRS: Final = 5_000  # of keys and models: the busiest
MODELS: Final = 100

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
COST: Final = "cost"

Group = uuid.UUID | str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """What one key used of one model, without times."""

    api_key_id: uuid.UUID
    model: str
    earlier: bool  # in the period before
    sums: Sums


@dataclass(slots=True)
class Breakdown:
    """``series``: the leading groups, the first the one with most. ``others``: what is left, of ``more`` groups.

    ``before`` has no times. ``models``: those used in this time, by whichever key.
    """

    totals: Sums
    before: Sums
    series: list[Series]
    others: Series | None
    more: int
    models: list[str]


def read(
    organization_id: uuid.UUID,
    span: Span,
    before: Span,
    *,
    group_by: str = timeseries.NONE,
    rank_by: str = REQUESTS,
    filters: Mapping[str, Any] | None = None,
) -> Breakdown:
    """``before``: what ``span`` is compared with; it ends where that begins, or earlier.

    ``rank_by``: what the leading groups have most of. ``filters``: api_key_id and model.
    """
    filters = filters or {}
    pairs = _pairs(organization_id, span, before)
    chosen = [pair for pair in pairs if all(getattr(pair, name) == value for name, value in filters.items())]
    ranked = _ranked(organization_id, [pair for pair in chosen if not pair.earlier], group_by, rank_by)
    leading = ranked if len(ranked) <= LEADING + 1 else ranked[:LEADING]
    points = _points(organization_id, span, group_by, leading, filters)
    series = [Series(group, timeseries.total(points[group]), points[group]) for group in leading if group in points]
    rest = {group: of_group for group, of_group in points.items() if group not in leading}
    others = Series(None, timeseries.total(rest[_REST]), rest[_REST]) if _REST in rest else None
    totals = Sums()
    for each in [*series, *([others] if others else [])]:
        totals.add(each.totals)
    return Breakdown(
        totals=totals,
        before=_added([pair.sums for pair in chosen if pair.earlier]),
        series=series,
        others=others,
        more=len(ranked) - len(leading),
        models=_models(pairs),
    )


_REST: Final = object()


def _pairs(organization_id: uuid.UUID, span: Span, before: Span) -> list[Pair]:
    """Both periods at once: every hour of them is read, so once is enough."""
    both = Span(min(before.start, span.start), span.end, span.bucket)
    earlier = ExpressionWrapper(Q(hour__lt=span.start), output_field=BooleanField())
    rows = (
        timeseries.hours_of(organization_id, both, {})
        .exclude(hour__gte=before.end, hour__lt=span.start)
        .annotate(earlier=earlier)
        .values("api_key_id", "model", "earlier")
        .order_by()
        .annotate(
            total_requests=Sum("requests"),
            total_prompt=Sum("prompt_tokens"),
            total_completion=Sum("completion_tokens"),
            total_cost=Sum("cost"),
            all_failures=JSONBAgg("failures", filter=~Q(failures={}), default=Value([], JSONField())),
        )
        .order_by("-total_requests")[: 2 * PAIRS]
    )
    return [
        Pair(
            row["api_key_id"],
            row["model"],
            row["earlier"],
            Sums(
                requests=int(row["total_requests"]),
                prompt_tokens=int(row["total_prompt"]),
                completion_tokens=int(row["total_completion"]),
                cost=row["total_cost"],
                failures=timeseries.add_up(row["all_failures"]),
            ),
        )
        for row in rows
    ]


def _ranked(organization_id: uuid.UUID, pairs: Sequence[Pair], group_by: str, rank_by: str) -> list[Group]:
    """The groups there are, those with most first."""
    if group_by == timeseries.NONE:
        return [None]
    amounts: dict[Group, Decimal] = defaultdict(Decimal)
    environments = environments_of(organization_id) if group_by == timeseries.ENVIRONMENT else {}
    for pair in pairs:
        if group_by == timeseries.STATUS:
            amounts[timeseries.OK] += pair.sums.requests - pair.sums.failed
            for code, times in pair.sums.failures.items():
                amounts[code] += times
        elif group_by == timeseries.ENVIRONMENT:
            amounts[environments.get(pair.api_key_id, "")] += amount(pair.sums, rank_by)
        else:
            amounts[pair.model if group_by == "model" else pair.api_key_id] += amount(pair.sums, rank_by)
    return sorted(amounts, key=lambda group: (-amounts[group], str(group)))


def amount(sums: Sums, of: str) -> Decimal:
    """``of``: REQUESTS, TOKENS, COST."""
    if of == TOKENS:
        return Decimal(sums.prompt_tokens + sums.completion_tokens)
    return sums.cost if of == COST else Decimal(sums.requests)


def environments_of(organization_id: uuid.UUID) -> dict[uuid.UUID, str]:
    return dict(ApiKey.objects.filter(organization_id=organization_id).values_list("id", "environment"))


def _points(
    organization_id: uuid.UUID, span: Span, group_by: str, leading: Sequence[Group], filters: Mapping[str, Any]
) -> dict[Any, dict[datetime, Sums]]:
    hours = timeseries.hours_of(organization_id, span, filters)
    if group_by in {timeseries.NONE, timeseries.STATUS}:
        points: dict[Any, dict[datetime, Sums]] = timeseries.points_of(hours, span, None)
        return points if group_by == timeseries.NONE else _led(timeseries.by_status(points[None]), leading)
    if group_by == timeseries.ENVIRONMENT:
        return timeseries.points_of(timeseries.with_environment(hours, organization_id), span, "environment")
    column = timeseries.COLUMNS[group_by]
    # PostgreSQL puts the others together, so that what comes back is bounded.
    hours = hours.annotate(leads=Case(When(**{f"{column}__in": leading}, then=F(column)), default=None))
    found = timeseries.points_of(hours, span, "leads")
    return {_REST if group is None else group: points for group, points in found.items()}


def _led(points: dict[Any, dict[datetime, Sums]], leading: Sequence[Group]) -> dict[Any, dict[datetime, Sums]]:
    found: dict[Any, dict[datetime, Sums]] = {}
    for group, of_group in points.items():
        into = found.setdefault(group if group in leading else _REST, {})
        for at, sums in of_group.items():
            into.setdefault(at, Sums()).add(sums)
    return found


def _added(every: Sequence[Sums]) -> Sums:
    total = Sums()
    for sums in every:
        total.add(sums)
    return total


def _models(pairs: Sequence[Pair]) -> list[str]:
    return sorted(dict.fromkeys(pair.model for pair in pairs if pair.model and not pair.earlier))[:MODELS]
