"""Usage over time: hourly sums added up to hours, days or months, and by key, model, status … (docs/usage-api.md).

Records are never counted here, so a year is as cheap as its hours are few.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from django.contrib.postgres.aggregates import JSONBAgg
from django.db.models import Case, DateTimeField, JSONField, Q, QuerySet, Sum, TextField, Value, When
from django.db.models.functions import Trunc

from accounts.models import ApiKey
from billing.metering import histograms
from billing.rollup_models import UsageDay, UsageDayOfAllKeys, UsageHour, UsageHourOfAllKeys, UsageSums

HOUR: Final = "hour"
DAY: Final = "day"
MONTH: Final = "month"
NONE: Final = "none"
ENVIRONMENT: Final = "environment"
STATUS: Final = "status"
COLUMNS: Final = {"key": "api_key_id", "model": "model", "deployment": "deployment", ENVIRONMENT: "environment"}
GROUPS: Final = (*COLUMNS, STATUS)
OK: Final = "ok"  # the status of what went well; the others are error codes

MAX_BUCKETS: Final = 2_000
MAX_SERIES: Final = 100
MAX_POINTS: Final = 10_000  # buckets × series

_BUCKET_DIGITS: Final = 10  # as billing_histogram_digits() writes them (billing/migrations)
_ZERO: Final = "0" * _BUCKET_DIGITS
_counts = re.compile(f"[0-9]{{{_BUCKET_DIGITS}}}").findall
_EXACTLY: Final = Context(prec=1_000)


class TooMuch(Exception):
    """The answer would be too long. The message says for what."""


class Span(NamedTuple):
    """Whole buckets in UTC; ``end`` is not in it."""

    start: datetime
    end: datetime
    bucket: str

    @classmethod
    def around(cls, start: datetime, end: datetime, bucket: str) -> "Span":
        """The whole buckets that [start, end) touches."""
        last = floor(end.astimezone(UTC), bucket)
        return cls(floor(start.astimezone(UTC), bucket), last if last == end else following(last, bucket), bucket)

    def starts(self) -> Iterator[datetime]:
        moment = self.start
        while moment < self.end:
            yield moment
            moment = following(moment, self.bucket)


@dataclass(slots=True)
class Sums:
    """What some hours come to. The histograms are whole numbers as the rows keep them: adding them adds histograms."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    duration_digits: Decimal = Decimal(0)
    first_token_digits: Decimal = Decimal(0)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def add(self, other: "Sums") -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens
        self.cost += other.cost
        self.duration_digits = _EXACTLY.add(self.duration_digits, other.duration_digits)
        self.first_token_digits = _EXACTLY.add(self.first_token_digits, other.first_token_digits)
        for code, times in other.failures.items():
            self.failures[code] = self.failures.get(code, 0) + times

    def subtract(self, part: "Sums") -> None:
        """``part`` is in these sums; what moved between two readings can't make them less than nothing."""
        self.requests = max(0, self.requests - part.requests)
        self.prompt_tokens = max(0, self.prompt_tokens - part.prompt_tokens)
        self.cached_tokens = max(0, self.cached_tokens - part.cached_tokens)
        self.completion_tokens = max(0, self.completion_tokens - part.completion_tokens)
        self.cost = max(Decimal(0), self.cost - part.cost)
        self.duration_digits = _without(self.duration_digits, part.duration_digits)
        self.first_token_digits = _without(self.first_token_digits, part.first_token_digits)
        for code, times in part.failures.items():
            self.failures[code] = max(0, self.failures.get(code, 0) - times)
        self.failures = {code: times for code, times in self.failures.items() if times}

    def quantiles(self, digits: Decimal) -> dict[str, float] | None:
        """Of ``duration_digits`` or ``first_token_digits``, in milliseconds."""
        histogram = histogram_of(digits)
        found = {f"p{percent}": histograms.quantile(histogram, percent / 100) for percent in (50, 95, 99)}
        return {name: round(value, 1) for name, value in found.items() if value is not None} or None


@dataclass(frozen=True, slots=True)
class Series:
    """``group`` is an API key's UUID or a name: of a model, a deployment, an environment (empty of keys that are gone),
    ``ok`` or an error code. None if there is one series of all. By status, only requests are counted.

    ``points`` has the buckets in which something happened.
    """

    group: uuid.UUID | str | None
    totals: Sums
    points: dict[datetime, Sums]


def _without(whole: Decimal, part: Decimal) -> Decimal:
    """Histogram by histogram: taken as numbers, a bucket that is short would borrow from its neighbour."""
    counts, taken = histogram_of(whole), histogram_of(part)
    taken += [0] * (len(counts) - len(taken))
    left = [max(0, count - less) for count, less in zip(counts, taken, strict=False)]
    return Decimal("".join(f"{count:0{_BUCKET_DIGITS}d}" for count in reversed(left)) or "0")


def floor(moment: datetime, bucket: str) -> datetime:
    """The beginning of the bucket that ``moment``, in UTC, is in."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if bucket == HOUR:
        return hour
    return hour.replace(hour=0) if bucket == DAY else hour.replace(hour=0, day=1)


def following(start: datetime, bucket: str) -> datetime:
    """The beginning of the next bucket."""
    if bucket == MONTH:
        return (start + timedelta(days=31)).replace(day=1)
    return start + (timedelta(hours=1) if bucket == HOUR else timedelta(days=1))


def histogram_of(digits: Decimal) -> list[int]:
    """The counts of ``billing.metering.histograms`` that ``digits`` is made of."""
    text = str(digits)
    text = text.zfill(-(-len(text) // _BUCKET_DIGITS) * _BUCKET_DIGITS)
    return [0 if count == _ZERO else int(count) for count in reversed(_counts(text))]  # as most are


def read(
    organization_id: uuid.UUID, span: Span, *, group_by: str = NONE, filters: Mapping[str, Any] | None = None
) -> list[Series]:
    """The series of an organization, the busiest first. ``filters``: api_key_id and model. Raises TooMuch."""
    hours = sums_of(organization_id, span, filters or {}, by_key=group_by in BY_KEY)
    if group_by == ENVIRONMENT:
        hours = with_environment(hours, organization_id)
    points = points_of(hours, span, COLUMNS.get(group_by))
    if group_by == STATUS:
        points = by_status(points[None])
    _refuse_too_much(span, len(points), group_by)
    series = [Series(group, total(of_group), of_group) for group, of_group in points.items()]
    return sorted(series, key=lambda each: (-each.totals.requests, str(each.group)))


def points_of(hours: "QuerySet[UsageSums]", span: Span, column: str | None) -> dict[Any, dict[datetime, Sums]]:
    """By the values of ``column``; without one there is one group, None. Raises TooMuch."""
    points: dict[Any, dict[datetime, Sums]] = {} if column else {None: {}}
    for row in _sums(hours, span, column):
        points.setdefault(row[column] if column else None, {})[row["at"]] = Sums(
            requests=int(row["total_requests"]),
            prompt_tokens=int(row["total_prompt"]),
            cached_tokens=int(row["total_cached"]),
            completion_tokens=int(row["total_completion"]),
            cost=row["total_cost"],
            duration_digits=row["total_duration"],
            first_token_digits=row["total_first_token"],
            failures=add_up(row["all_failures"]),
        )
    return points


def sums_of(
    organization_id: uuid.UUID, span: Span, filters: Mapping[str, Any], *, by_key: bool = False
) -> "QuerySet[UsageSums]":
    """The largest sums that ``span`` can be made of: days where it has whole ones, and hours; ``hour`` is their begin.

    ``by_key``: of each key, as filters for a key need as well. They have the same columns otherwise.
    """
    by_key |= "api_key_id" in filters
    is_of_days = floor(span.start, DAY) == span.start and floor(span.end, DAY) == span.end and span.bucket != HOUR
    table: Any = _TABLES[is_of_days, by_key]
    found: QuerySet[UsageSums] = table.objects.filter(
        organization_id=organization_id, hour__gte=span.start, hour__lt=span.end, **filters
    )
    return found


_TABLES: Final = {
    (False, False): UsageHourOfAllKeys,
    (False, True): UsageHour,
    (True, False): UsageDayOfAllKeys,
    (True, True): UsageDay,
}
BY_KEY: Final = frozenset({"key", ENVIRONMENT})  # groupings that need to know the key


def with_environment(hours: "QuerySet[UsageSums]", organization_id: uuid.UUID) -> "QuerySet[UsageSums]":
    """Each hour with the ``environment`` of its key, by the keys' ids: a join would be made for every hour."""
    keys: dict[str, list[uuid.UUID]] = {}
    for key_id, name in ApiKey.objects.filter(organization_id=organization_id).values_list("id", "environment"):
        keys.setdefault(name, []).append(key_id)
    cases = [When(api_key_id__in=key_ids, then=Value(name)) for name, key_ids in keys.items()]
    return hours.annotate(environment=Case(*cases, default=Value(""), output_field=TextField()))


def by_status(points: Mapping[datetime, Sums]) -> dict[Any, dict[datetime, Sums]]:
    """The requests of each bucket by how they ended: ``OK``, or their error code."""
    found: dict[Any, dict[datetime, Sums]] = {}
    for at, sums in points.items():
        if well := sums.requests - sums.failed:
            found.setdefault(OK, {})[at] = Sums(requests=well)
        for code, times in sums.failures.items():
            found.setdefault(code, {})[at] = Sums(requests=times, failures={code: times})
    return found


def _sums(hours: "QuerySet[UsageSums]", span: Span, column: str | None) -> list[dict[str, Any]]:
    at = Trunc("hour", span.bucket, output_field=DateTimeField(), tzinfo=UTC)
    grouped = hours.annotate(at=at).values("at", *([column] if column else []))
    rows = grouped.order_by().annotate(
        total_requests=Sum("requests"),
        total_prompt=Sum("prompt_tokens"),
        total_cached=Sum("cached_tokens"),
        total_completion=Sum("completion_tokens"),
        total_cost=Sum("cost"),
        total_duration=Sum("duration_digits"),
        total_first_token=Sum("first_token_digits"),
        # Most hours have none, and taking objects apart is dear in SQL: they are added up here.
        all_failures=JSONBAgg("failures", filter=~Q(failures={}), default=Value([], JSONField())),
    )
    found = list(rows[: MAX_POINTS + 1])
    if len(found) > MAX_POINTS:
        raise TooMuch(f"There are more than {MAX_POINTS:,} points.")
    return found


def add_up(failures: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in failures:
        for code, times in each.items():
            total[code] = total.get(code, 0) + times
    return total


def total(points: dict[datetime, Sums]) -> Sums:
    total = Sums()
    for sums in points.values():
        total.add(sums)
    return total


def check_buckets(span: Span) -> None:
    """Raises TooMuch."""
    hours = (span.end - span.start) / timedelta(hours=1)
    count = hours / {HOUR: 1, DAY: 24, MONTH: 24 * 31}[span.bucket]
    if count > MAX_BUCKETS:
        raise TooMuch(f"From start to end there are more than {MAX_BUCKETS:,} buckets of one {span.bucket}.")


def _refuse_too_much(span: Span, series: int, group_by: str) -> None:
    if series > MAX_SERIES:
        raise TooMuch(f"There are {series:,} different values of {group_by}, more than {MAX_SERIES}.")
    points = series * sum(1 for _ in span.starts())
    if points > MAX_POINTS:
        raise TooMuch(f"{series} series of one point a {span.bucket} are {points:,} points, more than {MAX_POINTS:,}.")
