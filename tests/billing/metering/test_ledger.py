"""Batches become records and sums, once, whatever comes twice, late or broken."""

import random
import threading
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from billing import events
from billing.admission import quota
from billing.metering import announcing, ledger, rollups
from billing.models import Refusal, UsageMonth, UsageRecord
from billing.prices import Cost, PriceBook
from billing.rollup_models import UsageHour
from helixflow.lib import redis
from tests.billing.usage_events import (
    NOON,
    PRICE_ID,
    FlatPrice,
    ledger_state,
    random_usage,
    reaped,
    refused,
    sums,
    usage,
    write,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def raised(monkeypatch):
    """What is announced, and what Redis is told."""
    told: dict[str, list[Any]] = {"announced": [], "spent": []}
    monkeypatch.setattr(announcing, "announce", lambda **given: told["announced"].append(given))
    monkeypatch.setattr(quota, "tell_spent", lambda **given: told["spent"].append(given))
    return told


def test_an_event_becomes_one_record_with_everything_it_says():
    event = usage(
        user_id=uuid.UUID(int=9),
        streamed=True,
        end_user="alice",
        tokens=events.Tokens(1, 2, 3, 4, 5, 6, 7),
        attempts=[events.Attempt("second", "timeout", 9.5), events.Attempt("first", "ok", 100.0)],
    )
    write(event)
    record = UsageRecord.objects.get()
    assert record.started_at == NOON
    for name in ("id", "organization_id", "api_key_id", "user_id", "units", "model", "deployment", "status"):
        assert getattr(record, name) == getattr(event, name)
    for name in ("streamed", "end_user", "usage_source", "duration_ms", "first_token_ms", "settled_by", "error_code"):
        assert getattr(record, name) == getattr(event, name)
    assert record.month == date(2026, 11, 1)
    assert record.attempts[0] == {"deployment": "second", "outcome": "timeout", "duration_ms": 9.5}
    assert (record.prompt_tokens, record.completion_tokens) == (10, 18)
    assert (record.price_id, record.currency, record.cost) == (PRICE_ID, "USD", Decimal("0.006"))


def test_it_is_added_to_its_hour_and_its_month():
    write(usage(tokens=events.Tokens(input=10, cached_input=4, output=5)))
    write(usage(status=503, error_code="timeout", units=0, first_token_ms=None, at=NOON + timedelta(minutes=59)))
    hour = UsageHour.objects.get()
    assert (hour.hour, hour.model, hour.deployment) == (NOON, "gpt-4", "first")
    assert (hour.requests, hour.units, hour.failures) == (2, 1, {"timeout": 1})
    assert (hour.prompt_tokens, hour.cached_tokens, hour.completion_tokens) == (24, 4, 10)
    assert (sum(hour.duration_histogram), sum(hour.first_token_histogram)) == (2, 1)
    month = UsageMonth.objects.get()
    assert (month.month, month.requests, month.units, month.cost) == (date(2026, 11, 1), 2, 1, Decimal("0.03"))


def test_the_month_is_that_of_the_quota_and_the_hour_that_of_the_request():
    write(usage(at=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), month=202611))
    assert UsageMonth.objects.get().month == date(2026, 11, 1)
    assert UsageHour.objects.get().hour == datetime(2026, 10, 31, 23, tzinfo=UTC)


def test_what_comes_again_changes_nothing():
    first, second, other = usage(), usage(), refused()
    write(first, other)
    write(first, second, second, other)
    before = ledger_state()
    write(second, first, other)
    write(first, late=True)
    assert ledger_state() == before
    assert UsageRecord.objects.count() == 2
    assert UsageMonth.objects.get().requests == 2
    assert Refusal.objects.get().count == 3


def test_a_late_event_replaces_the_reaper_s_record_and_corrects_the_sums():
    truth, other = usage(units=0, status=503, error_code="timeout"), usage()
    write(reaped(truth), other)
    assert UsageRecord.objects.get(id=truth.id).settled_by == "reaper"
    write(truth, late=True)
    assert UsageRecord.objects.get(id=truth.id).settled_by == "gateway"
    corrected = sums()
    for model in (UsageRecord, UsageHour, UsageMonth):
        model.objects.all().delete()
    write(truth, other)
    assert sums() == corrected


def test_a_late_event_in_one_batch_with_the_reaper_s_wins_in_either_order():
    for turned in (False, True):
        truth = usage()
        entries = [ledger.Entry(reaped(truth)), ledger.Entry(truth, late=True)]
        ledger.write(reversed(entries) if turned else entries, book=FlatPrice())
        assert UsageRecord.objects.get(id=truth.id).settled_by == "gateway"
    hour = UsageHour.objects.get()
    assert (hour.requests, hour.failures, sum(hour.duration_histogram)) == (2, {}, 2)


def test_a_late_event_without_a_record_is_written_as_any_other():
    event = usage()
    write(event, late=True)
    assert UsageRecord.objects.get().id == event.id
    assert UsageMonth.objects.get().requests == 1


def test_a_late_event_changes_nothing_that_a_gateway_said():
    event = usage()
    write(event)
    before = ledger_state()
    write(usage(id=event.id, status=500, error_code="server_error"), late=True)
    assert ledger_state() == before


def test_the_reaper_s_word_changes_nothing_that_a_gateway_said():
    event = usage()
    write(event)
    before = ledger_state()
    write(reaped(event))
    write(reaped(event), late=True)
    assert ledger_state() == before


def test_client_text_that_postgresql_refuses_is_cleaned():
    write(
        usage(
            model="gpt\ud800-4",
            end_user="a\0b",
            error_code="\udfff",
            deployment="x" * 10_000,
            attempts=[events.Attempt("\0", "\ud900", 1.0)],
        ),
        refused(reason="min\0ute"),
    )
    record = UsageRecord.objects.get()
    assert (record.model, record.end_user, record.error_code) == ("gpt\ufffd-4", "a\ufffdb", "\ufffd")
    assert len(record.deployment) == ledger.LONGEST_TEXT
    assert record.attempts[0]["deployment"] == "\ufffd"
    assert Refusal.objects.get().reason == "min\ufffdute"


def test_text_at_its_longest_fits_the_index():
    dice = random.Random(1)
    text = "".join(chr(dice.randrange(0x10000, 0x10FFFF)) for _ in range(ledger.LONGEST_TEXT + 1))
    write(usage(model=text, deployment=text))
    assert UsageHour.objects.get().model == text[:-1]


@pytest.mark.parametrize(
    "fields",
    [
        {"month": 202613},
        {"units": 2},
        {"units": -1},
        {"status": 70_000},
        {"duration_ms": -1.0},
        {"duration_ms": float("nan")},
        {"first_token_ms": float("inf")},
        {"tokens": events.Tokens(input=-1)},
        {"tokens": events.Tokens(output=2**63)},
        {"usage_source": "hearsay"},
        {"settled_by": "somebody"},
        {"id": uuid.UUID(int=2**128 - 1)},
    ],
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValueError):  # noqa: PT011  # whose text is for the operator
        write(usage(**fields))
    assert not UsageRecord.objects.exists()


def test_units_before_and_after_are_announced(raised):
    write(usage(), usage(api_key_id=uuid.UUID(int=3)), usage(units=0))
    write(usage(), usage(organization_id=uuid.UUID(int=5), month=202612))
    place = uuid.UUID(int=1), date(2026, 11, 1)
    grown = [each["grown"] for each in raised["announced"]]
    assert grown == [{place: (0, 2)}, {place: (2, 3), (uuid.UUID(int=5), date(2026, 12, 1)): (0, 1)}]


def test_what_is_not_new_is_not_announced(raised):
    event, other, refusal = usage(), usage(units=0), refused()
    write(event, refusal)
    write(event, refusal, other)
    first, second = raised["announced"]
    assert ([each.id for each in first["ended"]], first["refusals"]) == ([event.id], [refusal])
    assert ([each.id for each in second["ended"]], second["refusals"], second["grown"]) == ([other.id], [], {})


def test_redis_is_told_what_was_spent_in_all_and_by_key(raised):
    key, other = uuid.UUID(int=2), uuid.UUID(int=3)
    write(usage(), usage(api_key_id=other))
    write(usage(), usage(organization_id=uuid.UUID(int=5), tokens=events.Tokens()))
    assert raised["spent"] == [
        {
            "organization_id": uuid.UUID(int=1),
            "month": 202611,
            "spent": {None: Decimal("0.03"), key: Decimal("0.015"), other: Decimal("0.015")},
        },
        {
            "organization_id": uuid.UUID(int=1),
            "month": 202611,
            "spent": {None: Decimal("0.045"), key: Decimal("0.03")},
        },
    ]


def test_a_redis_that_is_away_does_not_undo_what_was_written(monkeypatch):
    def away(**given):
        raise redis.RedisError("away")

    monkeypatch.setattr(quota, "tell_spent", away)
    write(usage())
    assert UsageRecord.objects.exists()


def test_rollups_equal_a_recomputation_from_the_records():
    dice = random.Random(20261123)
    batch = [random_usage(dice) for _ in range(150)]
    write(*[reaped(event) for event in batch[:20]], *batch[40:100])
    write(*batch[:60], late=True)
    write(*batch)
    again = rollups.Rollup()
    for record in UsageRecord.objects.all():
        again.add(record)
    before = sums()
    UsageHour.objects.all().delete()
    UsageMonth.objects.all().delete()
    again.apply()
    assert sums() == before
    assert sum(row[0] for row in before[1].values()) == len(batch)
    assert sum(row[1] for row in before[1].values()) == sum(event.units for event in batch)


@pytest.mark.django_db(transaction=True)
def test_meters_on_overlapping_batches_wait_for_each_other_and_write_each_event_once():
    """Orders turned around and late corrections among them: what would deadlock without the locks."""
    dice = random.Random(5)
    batch = [random_usage(dice, organizations=6) for _ in range(120)]
    write(*[reaped(event) for event in batch[:40]])
    mixed = [ledger.Entry(event, late=index < 60) for index, event in enumerate(batch)]
    failures = []

    def meter(seed):
        mine = random.Random(seed)
        try:
            for _ in range(8):
                ledger.write(mine.sample(mixed, 90), book=FlatPrice())
        except Exception as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    meters = [threading.Thread(target=meter, args=(seed,)) for seed in range(3)]
    for thread in meters:
        thread.start()
    for thread in meters:
        thread.join(60)
    ledger.write(mixed, book=FlatPrice())
    assert not failures
    assert UsageRecord.objects.count() == len(batch)
    kept = sums()
    for model in (UsageRecord, UsageHour, UsageMonth):
        model.objects.all().delete()
    ledger.write([replace(entry, late=False) for entry in mixed], book=FlatPrice())
    assert sums() == kept


def test_made_up_models_share_one_row_of_sums():
    for name in ("no-such-model", "nor-this-one"):
        write(usage(model=name, deployment="", attempts=[], status=404, error_code="model_not_found", units=0))
    assert UsageHour.objects.get().requests == 2
    assert set(UsageRecord.objects.values_list("model", flat=True)) == {"no-such-model", "nor-this-one"}


def test_a_fallback_is_charged_by_its_own_price():
    class ByModel(PriceBook):
        def cost(self, *, model, tokens, at):
            return Cost(PRICE_ID, "USD", Decimal(3 if model == "gpt-4" else 1))

    record = ledger.record_of(usage(fallback_model="gpt-4o"), ByModel())
    assert (record.model, record.fallback_model, record.cost) == ("gpt-4", "gpt-4o", Decimal(1))
    assert ledger.record_of(usage(), ByModel()).cost == 3
