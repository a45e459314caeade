"""Buckets, and histograms that travel as numbers."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import DecimalField, GeneratedField

from billing.metering import histograms
from billing.reports import timeseries
from billing.reports.timeseries import Span
from billing.rollup_models import UsageHour
from tests.billing import usage_events

JUNE = datetime(2026, 6, 15, 13, 45, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("bucket", "starts", "follows"),
    [
        ("hour", datetime(2026, 6, 15, 13, tzinfo=UTC), datetime(2026, 6, 15, 14, tzinfo=UTC)),
        ("day", datetime(2026, 6, 15, tzinfo=UTC), datetime(2026, 6, 16, tzinfo=UTC)),
        ("month", datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)),
    ],
)
def test_a_bucket_begins_and_is_followed(bucket, starts, follows):
    assert timeseries.floor(JUNE, bucket) == starts
    assert timeseries.following(starts, bucket) == follows


def test_months_follow_each_other_whatever_their_length():
    span = Span(datetime(2027, 12, 1, tzinfo=UTC), datetime(2028, 4, 1, tzinfo=UTC), "month")
    assert [f"{at:%Y-%m-%d}" for at in span.starts()] == ["2027-12-01", "2028-01-01", "2028-02-01", "2028-03-01"]


def test_a_span_is_of_whole_buckets_and_ends_where_its_end_touches_one():
    span = Span.around(JUNE, JUNE + timedelta(days=1), "day")
    assert (span.start, span.end) == (datetime(2026, 6, 15, tzinfo=UTC), datetime(2026, 6, 17, tzinfo=UTC))
    midnight = datetime(2026, 6, 16, tzinfo=UTC)
    assert Span.around(JUNE, midnight, "day").end == midnight


def test_times_of_another_zone_are_in_the_buckets_of_utc():
    tokyo = datetime.fromisoformat("2026-06-15T05:00:00+09:00")  # the evening before, in UTC
    assert Span.around(tokyo, tokyo + timedelta(hours=1), "day").start == datetime(2026, 6, 14, tzinfo=UTC)


@pytest.mark.parametrize("bucket", ["hour", "day", "month"])
def test_more_buckets_than_the_most_are_refused(bucket):
    hours = {"hour": 1, "day": 24, "month": 24 * 31}[bucket]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    timeseries.check_buckets(Span(start, start + timedelta(hours=hours * timeseries.MAX_BUCKETS), bucket))
    with pytest.raises(timeseries.TooMuch, match="2,000"):
        timeseries.check_buckets(Span(start, start + timedelta(hours=hours * timeseries.MAX_BUCKETS + hours), bucket))


def test_every_bucket_of_a_histogram_has_its_digits():
    field = UsageHour._meta.get_field("duration_digits")
    assert isinstance(field, GeneratedField)
    assert isinstance(field.output_field, DecimalField)
    assert field.output_field.max_digits >= histograms.BUCKETS * timeseries._BUCKET_DIGITS


@pytest.mark.django_db
def test_adding_the_numbers_adds_the_histograms():
    """What PostgreSQL sums is what ``histograms.merge`` makes of the arrays."""
    dice = random.Random(7)
    for _ in range(60):
        usage_events.write(usage_events.random_usage(dice, organizations=1))
    rows = list(UsageHour.objects.all())
    span = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), "month")
    (series,) = timeseries.read(rows[0].organization_id, span)
    for name in ("duration", "first_token"):
        merged = histograms.merge(*(getattr(row, f"{name}_histogram") for row in rows))
        found = timeseries.histogram_of(getattr(series.totals, f"{name}_digits"))
        assert usage_events.trimmed(found) == usage_events.trimmed(merged)
        assert sum(found) > 0


@pytest.mark.django_db
def test_a_row_that_is_corrected_keeps_its_number_right():
    event = usage_events.usage(duration_ms=50.0)
    usage_events.write(usage_events.reaped(event))
    usage_events.write(event, late=True)
    (row,) = UsageHour.objects.filter(requests__gt=0)
    assert usage_events.trimmed(timeseries.histogram_of(row.duration_digits)) == row.duration_histogram


def test_no_histogram_is_no_quantiles():
    assert timeseries.histogram_of(Decimal(0)) == [0]
    assert timeseries.Sums().quantiles(Decimal(0)) is None
