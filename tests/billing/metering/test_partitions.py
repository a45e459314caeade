"""Partitions by month: ahead of time, filled from the default one, dropped whole."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from billing.metering import partitions
from billing.models import UsageRecord
from billing.rollup_models import UsageHour
from tests.billing.usage_events import drop_partitions, usage, write

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _today(db):
    drop_partitions()
    with time_machine.travel(NOW, tick=True):
        yield


def rows_by_partition():
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text, count(*) FROM billing_usagerecord GROUP BY 1")
        return dict(cursor.fetchall())


@pytest.mark.django_db
def test_this_month_and_three_ahead_are_made_once():
    made = partitions.ensure()
    assert made == [f"billing_usagerecord_{month}" for month in ("202611", "202612", "202701", "202702")]
    assert partitions.ensure() == []
    assert [(each.starts_on, each.ends_on) for each in partitions.known()][:2] == [
        (date(2026, 11, 1), date(2026, 12, 1)),
        (date(2026, 12, 1), date(2027, 1, 1)),
    ]


@pytest.mark.django_db
def test_records_are_in_the_partition_of_their_month_from_its_first_to_its_last_millisecond():
    partitions.ensure()
    first = datetime(2026, 12, 1, tzinfo=UTC)
    write(usage(at=first - timedelta(milliseconds=1)), usage(at=first), usage(at=datetime(2027, 2, 28, 23, tzinfo=UTC)))
    assert rows_by_partition() == {
        "billing_usagerecord_202611": 1,
        "billing_usagerecord_202612": 1,
        "billing_usagerecord_202702": 1,
    }


@pytest.mark.django_db
def test_records_that_came_before_their_partition_move_into_it():
    kept = usage(at=datetime(2026, 8, 3, tzinfo=UTC))
    write(kept, usage(), usage(at=datetime(2028, 1, 1, tzinfo=UTC)))
    assert rows_by_partition() == {"billing_usagerecord_default": 3}
    assert "billing_usagerecord_202608" in partitions.ensure()
    assert rows_by_partition() == {
        "billing_usagerecord_202608": 1,
        "billing_usagerecord_202611": 1,
        "billing_usagerecord_default": 1,  # of a time that is not near: a wrong clock's
    }
    write(kept)
    assert UsageRecord.objects.count() == 3


@pytest.mark.django_db
def test_a_month_that_was_dropped_does_not_come_back_for_a_record_that_strays_into_it():
    partitions.ensure()
    write(usage(at=datetime(2026, 8, 3, tzinfo=UTC)))
    assert partitions.ensure() == []
    assert rows_by_partition() == {"billing_usagerecord_default": 1}
    partitions.drop_before(date(2026, 11, 1))
    assert rows_by_partition() == {}


@pytest.mark.django_db
def test_a_partition_has_the_indexes_of_the_table():
    partitions.ensure()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'billing_usagerecord_202611'::regclass")
        own = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'billing_usagerecord'::regclass")
        assert own == cursor.fetchone()


@pytest.mark.django_db
def test_only_what_is_wholly_older_is_dropped_and_sums_stay():
    write(*[usage(at=datetime(2026, month, 15, tzinfo=UTC)) for month in (8, 9, 10)])
    partitions.ensure()
    dropped = partitions.drop_before(date(2026, 10, 31))
    assert [partition.name for partition in dropped] == ["billing_usagerecord_202608", "billing_usagerecord_202609"]
    assert UsageRecord.objects.get().month == date(2026, 10, 1)
    assert UsageHour.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_each_partition_once():
    made = []

    def run():
        try:
            made.extend(partitions.ensure())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == sorted(set(made))
    assert len(partitions.known()) == 4


def keep(months, *options, **streams):
    call_command("drop_old_records", "--keep-months", str(months), *options, **streams)


@pytest.mark.django_db
def test_the_command_keeps_this_month_and_as_many_before_it_as_it_is_told(capsys):
    write(*[usage(at=datetime(2026, month, 15, tzinfo=UTC)) for month in (8, 9, 10, 11)])
    keep(1, "--no-input")
    assert sorted(UsageRecord.objects.values_list("month", flat=True)) == [date(2026, 10, 1), date(2026, 11, 1)]
    assert "2026-08" in capsys.readouterr().out


@pytest.mark.django_db
def test_a_dry_run_says_what_it_would_drop_and_drops_nothing(capsys):
    write(usage(at=datetime(2026, 8, 15, tzinfo=UTC)))
    keep(1, "--dry-run")
    assert UsageRecord.objects.exists()
    assert "2026-08" in capsys.readouterr().out


@pytest.mark.django_db
def test_without_a_yes_nothing_is_dropped(monkeypatch):
    write(usage(at=datetime(2026, 8, 15, tzinfo=UTC)))
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was dropped"):
        keep(1)
    assert UsageRecord.objects.exists()
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    keep(1)
    assert not UsageRecord.objects.exists()


@pytest.mark.django_db
def test_the_command_says_when_there_is_nothing_to_drop(capsys):
    keep(1)
    assert "Nothing is older" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize("months", [-1, 100_000])
def test_a_number_of_months_that_makes_no_sense_is_refused(months):
    with pytest.raises(CommandError, match="keep-months"):
        keep(months, "--no-input")


def test_a_postgresql_that_is_away_is_told_in_a_line(monkeypatch):
    def away():
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(partitions, "ensure", away)
    with pytest.raises(CommandError, match=r"^PostgreSQL does not answer: connection refused$"):
        call_command("drop_old_records", "--keep-months", "1")
