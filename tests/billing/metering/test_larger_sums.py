"""Larger sums are what their hours come to, whatever is done to the hours."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.metering import histograms
from billing.reports import timeseries
from billing.rollup_models import UsageDay, UsageDayOfAllKeys, UsageHour, UsageHourOfAllKeys
from tests.billing import usage_events

pytestmark = pytest.mark.django_db

LARGER = ((UsageDay, True, True), (UsageDayOfAllKeys, True, False), (UsageHourOfAllKeys, False, False))


def check_all():
    for table, by_day, by_key in LARGER:
        hours = told(UsageHour.objects.all(), by_day=by_day, by_key=by_key)
        assert told(table.objects.all(), by_day=by_day, by_key=by_key) == hours, table.__name__


def told(rows, *, by_day, by_key):
    """By organization, day or hour, key, model and deployment."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        begins = row.hour.replace(hour=0) if by_day else row.hour
        key = (row.organization_id, begins, row.api_key_id if by_key else None, row.model, row.deployment)
        sums = found.setdefault(key, [0, 0, {}, 0, 0, 0, 0, 0, 0])
        for at, value in enumerate((row.requests, row.units)):
            sums[at] += value
        for code, times in row.failures.items():
            sums[2][code] = sums[2].get(code, 0) + times
        amounts = (
            row.prompt_tokens,
            row.cached_tokens,
            row.completion_tokens,
            row.cost,
            row.duration_digits,
            row.first_token_digits,
        )
        for at, value in enumerate(amounts, start=3):
            sums[at] = timeseries._EXACTLY.add(sums[at], value) if at >= 7 else sums[at] + value
    return found


def test_days_follow_hours_that_are_added_changed_and_taken_away():
    dice = random.Random(11)
    written = []
    for _ in range(80):
        event = usage_events.random_usage(dice)
        if dice.random() < 0.3:
            usage_events.write(usage_events.reaped(event))
            usage_events.write(event, late=True)
        else:
            usage_events.write(event)
        written.append(event)
    check_all()
    assert sum(day.requests for day in UsageDay.objects.all()) == len(written)
    UsageHour.objects.filter(hour__lt=datetime(2026, 11, 1, tzinfo=UTC)).delete()
    check_all()
    UsageHour.objects.all().delete()
    assert not any(table.objects.exists() for table, _, _ in LARGER)


def test_the_digits_of_a_day_are_its_histogram():
    for ms in (100.0, 100.0, 5_000.0):
        usage_events.write(usage_events.usage(duration_ms=ms))
    expected: list[int] = []
    for ms in (100.0, 100.0, 5_000.0):
        histograms.add(expected, ms)
    (day,) = UsageDay.objects.all()
    assert usage_events.trimmed(timeseries.histogram_of(day.duration_digits)) == expected
