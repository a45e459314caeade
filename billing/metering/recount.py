"""Rollups against the records they were added up from: compare, and write anew (docs/ledger.md).

Safe beside running meters. A comparison reads records and rollups of an organization in one snapshot, and a meter
writes both in one transaction, so neither is ever seen without the other. A repair takes the meters' lock, counts one
hour or month again, and writes what it counted, all in one short transaction.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from django.db import connection, transaction
from django.db.models import Min, QuerySet

from billing import months
from billing.admission import redis_keys
from billing.metering import partitions, rollups
from billing.metering.rollups import HourKey, HourSums, MonthKey, MonthSums
from billing.models import UsageMonth, UsageRecord
from billing.rollup_models import UsageHour
from helixflow.lib import ids, redis

CHUNK: Final = 2_000
HISTOGRAMS: Final = ("duration_histogram", "first_token_histogram")
_NEEDED: Final = (
    *("organization", "api_key", "month", "units", "model", "deployment", "error_code"),
    *("input_tokens", "cached_input_tokens", "cache_write_tokens", "input_audio_tokens"),
    *("output_tokens", "reasoning_tokens", "output_audio_tokens", "cost", "duration_ms", "first_token_ms"),
)

Sums = TypeVar("Sums", HourSums, MonthSums)


class Period(NamedTuple):
    """Days, the last one included."""

    first: date
    last: date

    @property
    def months(self) -> list[date]:
        """All that it touches."""
        found = [self.first.replace(day=1)]
        while (following := _following(found[-1])) <= self.last:
            found.append(following)
        return found


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of the rollups that isn't what its records come to. A row that is missing is one of zeros."""

    key: HourKey | MonthKey
    kept: HourSums | MonthSums
    counted: HourSums | MonthSums

    def fields(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, what is kept and what was counted, where these are not the same."""
        for name in msgspec.structs.asdict(self.kept):
            kept, counted = getattr(self.kept, name), getattr(self.counted, name)
            if kept != counted:
                yield name, kept, counted


def countable(*, first: date | None, last: date | None) -> Period | None:
    """What can be counted of a period: only days whose records were not dropped. None: there is nothing."""
    begins = UsageHour.objects.aggregate(Min("hour"))["hour__min"]
    oldest = UsageRecord.objects.order_by("id").values_list("id", flat=True).first()
    days = [begins.date()] if begins else []
    days += [ids.time_of(oldest).date()] if oldest else []
    if not days:
        return None
    first = max(first or min(days), _kept_since() or min(days))
    last = last or datetime.now(UTC).date()
    return Period(first, last) if first <= last else None


def organizations(period: Period) -> list[uuid.UUID]:
    """All that have records or rollups in it."""
    start, end = _bounds(period)
    found: set[uuid.UUID] = set()
    for rows in (
        UsageHour.objects.filter(hour__gte=start, hour__lt=end),
        UsageMonth.objects.filter(month__in=period.months),
        UsageRecord.objects.filter(id__gte=ids.first_at(start), id__lt=ids.first_at(end)),
    ):
        found.update(rows.order_by().values_list("organization_id", flat=True).distinct())
    return sorted(found)


def compare(organization_id: uuid.UUID, period: Period) -> list[Difference]:
    """Its hours in the period, and the months that it touches. Must not be called in a transaction."""
    start, end = _bounds(period)
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        whole = _whole_months(organization_id, period)
        kept_hours = {_hour_key(row): _sums(HourSums, row) for row in _hours(organization_id, start, end)}
        kept_months = {_month_key(row): _sums(MonthSums, row) for row in _months(organization_id, whole)}
        counted_hours, counted_months = _count(organization_id, start, end, whole)
    return [*_differences(kept_hours, counted_hours), *_differences(kept_months, counted_months)]


def repair(differences: Iterable[Difference]) -> None:
    """Count again and write, hour by hour and month by month."""
    keys = [each.key for each in differences]
    for organization_id, hour in sorted({key[:2] for key in keys if isinstance(key, HourKey)}):
        _repair_hour(organization_id, hour)
    for organization_id, month in sorted({key[:2] for key in keys if isinstance(key, MonthKey)}):
        _repair_month(organization_id, month)


@transaction.atomic
def _repair_hour(organization_id: uuid.UUID, hour: datetime) -> None:
    rollups.lock([organization_id])
    until = hour + timedelta(hours=1)
    counted, _ = _count(organization_id, hour, until, [])
    _hours(organization_id, hour, until).delete()
    UsageHour.objects.bulk_create(UsageHour(**_columns(key, sums)) for key, sums in counted.items())


def _repair_month(organization_id: uuid.UUID, month: date) -> None:
    with transaction.atomic():
        rollups.lock([organization_id])
        _, counted = _count(organization_id, _midnight(month), _midnight(month), [month])
        _months(organization_id, [month]).delete()
        UsageMonth.objects.bulk_create(UsageMonth(**_columns(key, sums)) for key, sums in counted.items())
    # What it was seeded from was wrong: the next admission counts it anew. Raises RedisError.
    redis.sync_client().delete(redis_keys.month(organization_id, months.of_day(month)))


def _count(
    organization_id: uuid.UUID, start: datetime, end: datetime, whole: list[date]
) -> tuple[dict[HourKey, HourSums], dict[MonthKey, MonthSums]]:
    """What the records of some hours, and of some months of the quota, come to."""
    hours: dict[HourKey, HourSums] = {}
    by_month: dict[MonthKey, MonthSums] = {}
    low, high = ids.first_at(start), ids.first_at(end)
    first, last = low, high
    if whole:
        # The month is the limiter's and the id the gateway's: their clocks may differ, so the neighbours count too.
        first = min(first, ids.first_at(_midnight((whole[0] - timedelta(days=1)).replace(day=1))))
        last = max(last, ids.first_at(_midnight(_following(_following(whole[-1])))))
    records = UsageRecord.objects.filter(organization_id=organization_id, id__gte=first, id__lt=last).only(*_NEEDED)
    for record in records.iterator(CHUNK):
        if low <= record.id < high:
            hours.setdefault(rollups.hour_key(record), HourSums()).add(record, 1)
        if record.month in whole:
            by_month.setdefault(rollups.month_key(record), MonthSums()).add(record, 1)
    return hours, by_month


def _differences(kept: dict[Any, Any], counted: dict[Any, Any]) -> list[Difference]:
    keys = sorted(kept.keys() | counted.keys())
    pairs = [(key, kept.get(key) or type(counted[key])(), counted.get(key) or type(kept[key])()) for key in keys]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _whole_months(organization_id: uuid.UUID, period: Period) -> list[date]:
    """The months of a period whose records are all there. Of those with ids of a month before, some may be dropped."""
    since = _kept_since()
    if (
        since is None
        or not UsageHour.objects.filter(organization_id=organization_id, hour__lt=_midnight(since)).exists()
    ):
        return period.months
    return [month for month in period.months if month > since]


def _kept_since() -> date | None:
    """The first day of the oldest month that was not dropped. None: none ever was."""
    return next((partition.starts_on for partition in partitions.known()), None)


def _hours(organization_id: uuid.UUID, start: datetime, end: datetime) -> QuerySet[UsageHour]:
    return UsageHour.objects.filter(organization_id=organization_id, hour__gte=start, hour__lt=end)


def _months(organization_id: uuid.UUID, whole: list[date]) -> QuerySet[UsageMonth]:
    return UsageMonth.objects.filter(organization_id=organization_id, month__in=whole)


def _hour_key(row: UsageHour) -> HourKey:
    return HourKey(row.organization_id, row.hour, row.api_key_id, row.model, row.deployment)


def _month_key(row: UsageMonth) -> MonthKey:
    return MonthKey(row.organization_id, row.month, row.api_key_id)


def _sums(kind: type[Sums], row: UsageHour | UsageMonth) -> Sums:
    """Of a row. Corrections can leave zeros at the end of a histogram."""
    values = {name: getattr(row, name) for name in kind.__struct_fields__}
    for name in HISTOGRAMS:
        if name in values:
            values[name] = _trimmed(values[name])
    return kind(**values)


def _trimmed(histogram: list[int]) -> list[int]:
    end = max((index + 1 for index, count in enumerate(histogram) if count), default=0)
    return histogram[:end]


def _columns(key: HourKey | MonthKey, sums: HourSums | MonthSums) -> dict[str, Any]:
    return key._asdict() | msgspec.structs.asdict(sums)


def _bounds(period: Period) -> tuple[datetime, datetime]:
    return _midnight(period.first), _midnight(period.last + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
