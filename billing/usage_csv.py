"""Usage over time as a table for ``csv_export``, read part by part: every group, none put together with others."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet

from accounts.models import ApiKey
from billing import money
from billing.reports import timeseries
from billing.reports.timeseries import Span, Sums, TooMuch
from billing.rollup_models import UsageSums
from helixflow.lib import clock, ids

ROWS: Final = 100_000  # at most; a row is a group in a bucket
PERCENTILES: Final = ("p50", "p95", "p99")

_GROUP_COLUMNS: Final = {"key": ("api_key", "api_key_name")}
_REQUESTS: Final = ("requests", "failed")
_AMOUNTS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens", "cost", "currency")
_TIMES: Final = tuple(f"{name}_{each}" for name in ("duration_ms", "first_token_ms") for each in PERCENTILES)


def header(group_by: str) -> list[str]:
    columns = _GROUP_COLUMNS.get(group_by, () if group_by == timeseries.NONE else (group_by,))
    return ["start", *columns, *_REQUESTS, *(() if group_by == timeseries.STATUS else (*_AMOUNTS, *_TIMES))]


def rows(organization_id: uuid.UUID, span: Span, group_by: str, filters: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Beneath ``header``; buckets without a request have none. Raises TooMuch before the first."""
    groups = _groups(organization_id, span, group_by, filters)
    starts = list(span.starts())
    if groups * len(starts) > ROWS:
        raise TooMuch(f"A file of {groups:,} groups and {len(starts):,} points can have more than {ROWS:,} lines.")
    return _rows(organization_id, span, group_by, filters, max(1, timeseries.MAX_POINTS // max(1, groups)))


def filename(span: Span, group_by: str) -> str:
    last = span.end - timedelta(seconds=1)
    by = "" if group_by == timeseries.NONE else f"-by-{group_by}"
    return f"usage-{span.start:%Y-%m-%d}-to-{last:%Y-%m-%d}{by}.csv"


def _groups(organization_id: uuid.UUID, span: Span, group_by: str, filters: Mapping[str, Any]) -> int:
    """How many there are, or at most can be."""
    if group_by not in {"key", "model"}:
        return 20  # environments are three, error codes a dozen
    hours = timeseries.sums_of(organization_id, span, filters, by_key=group_by in timeseries.BY_KEY)
    return int(hours.order_by().values(timeseries.COLUMNS[group_by]).distinct().count())


def _rows(
    organization_id: uuid.UUID, span: Span, group_by: str, filters: Mapping[str, Any], at_once: int
) -> Iterator[list[Any]]:
    by_status = group_by == timeseries.STATUS
    keys: dict[uuid.UUID, str] = {}
    if group_by == "key":
        keys = dict(ApiKey.objects.filter(organization_id=organization_id).values_list("id", "name"))
    for part in _parts(span, at_once):
        hours = timeseries.sums_of(organization_id, part, filters, by_key=group_by in timeseries.BY_KEY)
        if group_by == timeseries.ENVIRONMENT:
            hours = timeseries.with_environment(hours, organization_id)
        for at, group, sums in _sorted(hours, part, group_by):
            yield [clock.rfc3339(at), *_group(group_by, group, keys), *_cells(sums, by_status=by_status)]


def _sorted(hours: "QuerySet[UsageSums]", span: Span, group_by: str) -> list[tuple[Any, Any, Sums]]:
    points = timeseries.points_of(hours, span, timeseries.COLUMNS.get(group_by))
    if group_by == timeseries.STATUS:
        points = timeseries.by_status(points[None])
    found = [(at, group, sums) for group, of_group in points.items() for at, sums in of_group.items()]
    return sorted(found, key=lambda row: (row[0], -row[2].requests, str(row[1])))


def _parts(span: Span, at_once: int) -> Iterator[Span]:
    """``at_once`` buckets each, but for the last."""
    starts = span.starts()
    while part := list(islice(starts, at_once)):
        yield Span(part[0], timeseries.following(part[-1], span.bucket), span.bucket)


def _group(group_by: str, group: Any, keys: Mapping[uuid.UUID, str]) -> Sequence[str]:
    if group_by == timeseries.NONE:
        return ()
    return (ids.public_id(ids.API_KEY, group), keys.get(group, "")) if group_by == "key" else (group,)


def _cells(sums: Sums, *, by_status: bool) -> Iterator[object]:
    yield from (sums.requests, sums.failed)
    if by_status:
        return
    yield from (sums.prompt_tokens, sums.cached_tokens, sums.completion_tokens)
    yield from (sums.prompt_tokens + sums.completion_tokens, money.text(sums.cost), settings.CURRENCY)
    for digits in (sums.duration_digits, sums.first_token_digits):
        quantiles = sums.quantiles(digits) or {}
        yield from (quantiles.get(name, "") for name in PERCENTILES)
