"""`manage.py rebuild_rollups`: finds what differs, changes it only when told to, and never against a running meter."""

import random
import threading
from datetime import UTC, date, datetime

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from billing.admission import redis_keys
from billing.metering import partitions, recount
from billing.models import UsageMonth, UsageRecord
from billing.rollup_models import UsageHour
from helixflow.lib import ids, redis
from tests.billing.usage_events import drop_partitions, random_usage, reaped, sums, usage, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _today():
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=True):
        yield


@pytest.fixture
def some():
    """A ledger of two organizations, with a correction of the reaper's among it."""
    dice = random.Random(8)
    given = [random_usage(dice) for _ in range(120)]
    write(*[reaped(event) for event in given[:10]], *given[10:])
    write(*given[:10], late=True)
    return given


@pytest.fixture(autouse=True)
def _unpartitioned(transactional_db):
    drop_partitions()
    yield
    drop_partitions()


def rebuild(*options):
    call_command("rebuild_rollups", *options)


def spoil():
    hour = UsageHour.objects.order_by("id")[0]
    UsageHour.objects.filter(id=hour.id).update(requests=hour.requests + 5, cost=hour.cost + 1)
    UsageHour.objects.filter(id=UsageHour.objects.order_by("-id")[0].id).delete()
    month = UsageMonth.objects.order_by("id")[0]
    UsageMonth.objects.filter(id=month.id).update(units=month.units + 7)
    ghost = UsageHour.objects.order_by("id")[1]
    UsageHour.objects.create(
        organization_id=ghost.organization_id,
        api_key_id=ghost.api_key_id,
        hour=ghost.hour,
        model="never asked for",
        requests=1,
    )


def test_right_sums_are_left_alone(some, capsys):
    before = sums()
    rebuild()
    rebuild("--write")
    assert sums() == before
    assert "Nothing to do: the sums are right. Organizations compared: 2." in capsys.readouterr().out


def test_a_postgresql_that_is_away_is_told_in_a_line_and_is_no_difference(monkeypatch):
    def away(**kwargs):
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(recount, "countable", away)
    with pytest.raises(CommandError, match=r"^PostgreSQL does not answer: connection refused$") as told:
        rebuild()
    assert told.value.returncode == 2


def test_without_records_there_is_nothing_to_do(capsys):
    rebuild()
    assert "no records" in capsys.readouterr().out


def test_what_differs_is_shown_and_left_as_it_is(some, capsys):
    spoil()
    before = sums()
    with pytest.raises(CommandError, match="4 rows differ") as error:
        rebuild()
    assert error.value.returncode == 1
    assert sums() == before
    shown = capsys.readouterr().out
    assert "never asked for" in shown
    assert "month 2026-1" in shown
    kept = UsageHour.objects.order_by("id")[0].requests
    assert f"requests               {kept} kept, {kept - 5} counted" in shown


def test_write_makes_the_sums_what_the_records_come_to(some):
    before = sums()
    spoil()
    assert sums() != before
    rebuild("--write")
    assert sums() == before
    rebuild()


def test_lost_rollups_are_made_from_the_records(some):
    before = sums()
    UsageHour.objects.all().delete()
    UsageMonth.objects.all().delete()
    rebuild("--write")
    assert sums() == before


def test_only_the_chosen_days_and_organization_are_looked_at(some, capsys):
    UsageHour.objects.update(requests=99)
    first = UsageHour.objects.order_by("organization_id").values_list("organization_id", flat=True)[0]
    name = ids.public_id(ids.ORGANIZATION, first)
    rebuild("--write", "--from", "2026-11-01", "--to", "2026-11-01", "--organization", name)
    spoilt = UsageHour.objects.filter(requests=99)
    assert spoilt.filter(organization_id=first, hour__lt=datetime(2026, 11, 1, tzinfo=UTC)).exists()
    assert not spoilt.filter(organization_id=first, hour__gte=datetime(2026, 11, 1, tzinfo=UTC)).exists()
    assert spoilt.exclude(organization_id=first).exists()


def test_a_month_counts_what_was_begun_before_it_by_the_gateway_s_clock():
    write(usage(at=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), month=202611), usage())
    rebuild("--from", "2026-11-05")


def test_sums_of_dropped_records_are_never_touched(some):
    partitions.ensure()
    write(usage())
    partitions.drop_before(date(2026, 11, 1))
    assert UsageRecord.objects.exists()
    before = sums()
    rebuild("--write")
    rebuild("--write", "--from", "2026-01-01")
    assert sums() == before
    UsageHour.objects.filter(hour__gte=datetime(2026, 11, 2, tzinfo=UTC)).update(requests=9)
    rebuild("--write")
    assert sums() == before


def test_a_repaired_month_is_counted_anew_by_admission(some):
    month = UsageMonth.objects.order_by("id")[0]
    key = redis_keys.month(month.organization_id, month.month.year * 100 + month.month.month)
    redis.sync_client().hset(key, "used", "1")
    UsageMonth.objects.filter(id=month.id).update(units=month.units + 7)
    rebuild("--write")
    assert not redis.sync_client().exists(key)


def test_meters_that_write_meanwhile_are_neither_missed_nor_counted_twice(some):
    dice = random.Random(9)
    events = [random_usage(dice) for _ in range(200)]
    failures: list[Exception] = []

    def meter():
        try:
            for start in range(0, 200, 5):
                write(*events[start : start + 5])
        except Exception as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    period = recount.Period(date(2026, 10, 31), date(2026, 11, 1))
    thread = threading.Thread(target=meter)
    thread.start()
    rounds = 0
    while thread.is_alive() or not rounds:
        for organization_id in recount.organizations(period):
            assert recount.compare(organization_id, period) == []
            everything = UsageHour.objects.filter(organization_id=organization_id)[:3]
            for row in everything:
                recount._repair_hour(organization_id, row.hour)
        rounds += 1
    thread.join()
    assert not failures
    rebuild()
    assert sum(row[0] for row in sums()[1].values()) == 320


@pytest.mark.parametrize("name", ["acme", "org-", "key_0000000000000000000000"])
def test_an_organization_that_is_none_is_refused(name):
    with pytest.raises(CommandError, match="--organization"):
        rebuild("--organization", name)


def test_a_day_that_is_none_is_refused():
    with pytest.raises(CommandError, match="--from"):
        rebuild("--from", "yesterday")
