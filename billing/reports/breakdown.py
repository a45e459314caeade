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
from django.db.models import Case, F, JSONField, Q, Sum, Value, When

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
    """What one key used of one model, without times. ``api_key_id`` None: all keys together."""

    api_key_id: uuid.UUID | None
    model: str
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
    found = _pairs(organization_id, span, by_key=group_by in timeseries.BY_KEY or "api_key_id" in filters)
    earlier = _pairs(organization_id, before, by_key="api_key_id" in filters)
    chosen, chosen_before = _chosen(found, filters), _chosen(earlier, filters)
    ranked = _ranked(organization_id, chosen, group_by, rank_by)
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
        before=_added([pair.sums for pair in chosen_before]),
        series=series,
        others=others,
        more=len(ranked) - len(leading),
        models=_models(found),
    )


_REST: Final = object()


def _pairs(organization_id: uuid.UUID, span: Span, *, by_key: bool) -> list[Pair]:
    """The busiest of a period. Those of a period before need no keys, unless one was chosen."""
    rows = (
        timeseries.sums_of(organization_id, span, {}, by_key=by_key)
        .values("model", *(["api_key_id"] if by_key else []))
        .order_by()
        .annotate(
            total_requests=Sum("requests"),
            total_prompt=Sum("prompt_tokens"),
            total_completion=Sum("completion_tokens"),
            total_cost=Sum("cost"),
            all_failures=JSONBAgg("failures", filter=~Q(failures={}), default=Value([], JSONField())),
        )
        .order_by("-total_requests")[:PAIRS]
    )
    return [
        Pair(
            row.get("api_key_id"),
            row["model"],
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


def _chosen(pairs: Sequence[Pair], filters: Mapping[str, Any]) -> list[Pair]:
    return [pair for pair in pairs if all(getattr(pair, name) == value for name, value in filters.items())]


def _ranked(organization_id: uuid.UUID, pairs: Sequence[Pair], group_by: str, rank_by: str) -> list[Group]:
    """The groups there are, those with most first."""
    if group_by == timeseries.NONE:
        return [None]
    amounts: dict[Group, Decimal] = defaultdict(Decimal)
    environments: dict[uuid.UUID | None, str] = {}
    if group_by == timeseries.ENVIRONMENT:
        environments = dict(environments_of(organization_id).items())
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
    sums = timeseries.sums_of(organization_id, span, filters, by_key=group_by in timeseries.BY_KEY)
    if group_by in {timeseries.NONE, timeseries.STATUS}:
        points: dict[Any, dict[datetime, Sums]] = timeseries.points_of(sums, span, None)
        return points if group_by == timeseries.NONE else _led(timeseries.by_status(points[None]), leading)
    if group_by == timeseries.ENVIRONMENT:
        return timeseries.points_of(timeseries.with_environment(sums, organization_id), span, "environment")
    if group_by == "key":
        return _points_of_keys(organization_id, span, leading, filters)
    # PostgreSQL puts the others together, so that what comes back is bounded.
    column = timeseries.COLUMNS[group_by]
    sums = sums.annotate(leads=Case(When(**{f"{column}__in": leading}, then=F(column)), default=None))
    found = timeseries.points_of(sums, span, "leads")
    return {_REST if group is None else group: points for group, points in found.items()}


def _points_of_keys(
    organization_id: uuid.UUID, span: Span, leading: Sequence[Group], filters: Mapping[str, Any]
) -> dict[Any, dict[datetime, Sums]]:
    """The others are all keys together but for the leading ones: two short readings in place of one of every key."""
    sums: Any = timeseries.sums_of(organization_id, span, filters, by_key=True)
    found: dict[Any, dict[datetime, Sums]] = timeseries.points_of(
        sums.filter(api_key_id__in=leading), span, "api_key_id"
    )
    if "api_key_id" in filters:
        return found
    rest = timeseries.points_of(timeseries.sums_of(organization_id, span, filters), span, None)[None]
    for points in found.values():
        for at, of_key in points.items():
            rest.setdefault(at, Sums()).subtract(of_key)
    rest = {at: of_rest for at, of_rest in rest.items() if of_rest.requests > 0}
    return found | ({_REST: rest} if rest else {})


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
    return sorted(dict.fromkeys(pair.model for pair in pairs if pair.model))[:MODELS]
