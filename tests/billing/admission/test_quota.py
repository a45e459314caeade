"""The month's counter is seeded from notes, stream and ledger: each request once, wherever it is at that moment."""

import threading
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection

from billing import events, months
from billing.admission import limits, quota, redis_keys, snapshots, unsettled
from billing.reports import balance
from billing.settling.settlement import Settlement
from helixflow.lib import ids, redis
from tests.billing.admitting import Account, current_month, drain, forget_snapshots, settle, usage_of
from tests.billing.usage_events import FlatPrice

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cold(monkeypatch):
    forget_snapshots()
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))


@pytest.fixture
def account(db):
    return Account.make()


def seed(account, month=None):
    return quota.seed(snapshots.cache.get_sync(account.key.token), month or current_month())


def lose(account):
    redis.sync_client().delete(redis_keys.month(account.id, current_month()))


def serve(account, count=1, *, key=None, **fields):
    """Admitted and settled."""
    for _ in range(count):
        request_id = ids.uuid7()
        account.settle(account.admit(request_id, key=key), request_id, **fields)


def test_notes_stream_and_ledger_count_once_each(account):
    other = account.new_key()
    serve(account, 2, tokens=events.Tokens(1000, output=500))
    drain(book=FlatPrice())
    serve(account, 1)
    serve(account, 1, key=other)
    serve(account, 1, units=0)
    account.admit()
    before = account.month()
    lose(account)
    seed(account)
    key, second = account.key.row.id.hex, other.row.id.hex
    assert account.month() == {
        "used": 5, f"k:{key}": 4, f"k:{second}": 1, "spent": 3_000_000, f"s:{key}": 3_000_000, f"s:{second}": 0
    }  # fmt: skip
    assert account.used() == before["used"]


def test_a_guess_that_comes_late_corrects_no_other(account):
    """The reaper's, which knew of a first byte, and what a dead gateway's spool says: the meter leaves the first."""
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    account.settle(verdict, request_id, settled_by=events.REAPER)
    drain()
    account.settle(verdict, request_id, units=0, settled_by=events.REAPER)
    assert not balance.draw(account.id).differs
    seed(account)
    assert not balance.draw(account.id).differs
    drain()
    assert [record.units for record in account.records()] == [account.used()] == [1]


def test_an_unused_month_begins_at_nothing(account):
    seed(account)
    assert account.month() == {"used": 0, "spent": 0}


def test_a_counter_that_is_there_is_left_alone(account):
    account.admit()
    client: Any = redis.sync_client()
    client.hset(redis_keys.month(account.id, current_month()), "used", 77)
    seed(account)
    assert account.used() == 77


def test_it_outlives_its_month_by_a_while(account):
    seed(account)
    client: Any = redis.sync_client()
    end = months.bounds(current_month())[1]
    assert client.expiretime(redis_keys.month(account.id, current_month())) == end + quota.KEEP_S


def test_other_months_and_other_organizations_are_not_mine(account):
    neighbours = [Account.make(f"neighbour-{number}") for number in range(20)]  # some share the shard
    for each in (account, *neighbours):
        serve(each)
        each.admit()
    verdict = account.admit()
    past = usage_of(verdict, ids.uuid7())
    past.month = 202501
    settle(Settlement.of(past))
    lose(account)
    seed(account)
    assert account.used() == 3
    seed(account, 202501)
    assert account.used(202501) == 1


def test_what_nobody_can_read_is_passed_over(account):
    serve(account)
    client: Any = redis.sync_client()
    stream = redis_keys.usage_stream(account.tag)
    for fields in ({"o": account.id.hex, "e": "{"}, {"o": account.id.hex}, {"what": "is this"}, {"o": "\xff", "e": ""}):
        client.xadd(stream, fields)
    lose(account)
    seed(account)
    assert account.used() == 1


def test_a_long_stream_is_read_to_its_end(account, monkeypatch):
    monkeypatch.setattr(unsettled, "PAGE", 3)
    verdict = account.admit()
    settle(*(Settlement.of(usage_of(verdict, ids.uuid7())) for _ in range(10)))
    seed(account)
    assert account.used() == 11


def test_many_who_seed_at_once_agree(account):
    serve(account, 3)
    account.admit()
    lose(account)
    failures = []

    def one():
        try:
            seed(account)
        except Exception as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert account.used() == 4


def test_it_gives_up_where_it_is_disturbed_over_and_over(account, monkeypatch):
    totals = quota._totals

    def disturbed(*given):
        lose(account)
        return totals(*given)

    monkeypatch.setattr(quota, "_totals", disturbed)
    assert not seed(account)
    assert account.used() is None


def test_who_goes_on_without_a_counter_waits_for_the_last_try(account, monkeypatch):
    """Else many processes that do could disturb each other's seeding for ever."""
    totals = quota._totals
    outcomes = []

    def meanwhile(*given):
        verdict = account.admit_leniently()
        outcomes.append(verdict)
        return totals(*given)

    account.admit()
    lose(account)
    monkeypatch.setattr(quota, "_totals", meanwhile)
    assert seed(account)
    assert outcomes == [limits.ADMITTED] * (quota.TRIES - 1) + [limits.UNSEEDED]
    assert account.used() == quota.TRIES


def test_a_redis_that_goes_away_while_a_month_is_counted_refuses_nobody(account, monkeypatch):
    def away(*given):
        raise redis.RedisError("away")

    monkeypatch.setattr(quota, "_noted", away)
    verdict = account.admit()
    assert (verdict.admitted, verdict.local) == (True, True)
    assert account.notes() == {}


def test_a_last_try_that_fails_keeps_nobody_out(account, monkeypatch):
    account.admit()

    def away(*given):
        if client.hexists(name, "exclusive"):
            raise OperationalError("the ledger is away")
        client.delete(name)
        return {None: 0}, {}

    client: Any = redis.sync_client()
    name = redis_keys.month(account.id, current_month())
    client.delete(name)
    monkeypatch.setattr(quota, "_totals", away)
    with pytest.raises(OperationalError):
        seed(account)
    assert account.admit_leniently() == limits.ADMITTED


def test_both_months_are_counted_anew_where_note_and_settlement_differ(account):
    """A gateway that never heard the answer names the month of its own clock."""
    verdict = account.admit()
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    other = months.of(months.bounds(verdict.month)[1])
    seed(account, other)
    settle(Settlement(request_id, account.id, account.key.row.id, other, 0))
    assert (account.month(), account.month(other)) == ({}, {})
    seed(account)
    assert account.used() == 1


def test_a_unit_given_back_while_the_ledger_is_read_is_not_counted(account, monkeypatch):
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    lose(account)
    totals = quota._totals

    def meanwhile(*given):
        monkeypatch.setattr(quota, "_totals", totals)
        account.settle(verdict, request_id, units=0)
        return totals(*given)

    monkeypatch.setattr(quota, "_totals", meanwhile)
    seed(account)
    assert account.used() == 0


def test_a_request_that_moves_on_while_it_is_looked_for_is_found_once(account, monkeypatch):
    """From its note into the stream, and from there into the ledger, each between two readings."""
    request_id = ids.uuid7()
    verdict = account.admit(request_id)
    lose(account)
    happenings = [lambda: None, lambda: account.settle(verdict, request_id), lambda: drain(book=FlatPrice())]

    def after_something(real):
        def read(*given):
            happenings.pop(0)()
            found = real(*given)
            return found if isinstance(found, tuple) else list(found)

        return read

    for name in ("_noted", "_streamed", "_totals"):
        monkeypatch.setattr(quota, name, after_something(getattr(quota, name)))
    seed(account)
    assert account.used() == 1


# What was spent


def test_spending_is_told_in_all_and_by_key_and_never_lowered(account):
    account.admit()
    account.spend("1.50")
    account.spend("1.25")
    month = account.month()
    assert (month["spent"], month[f"s:{account.key.row.id.hex}"]) == (1_500_000, 1_500_000)


def test_spending_makes_no_counter(account):
    account.spend("1.50")
    assert account.month() == {}


def test_spending_that_is_told_while_the_month_is_seeded_is_not_lost(account, monkeypatch):
    serve(account, tokens=events.Tokens(1000))
    lose(account)
    totals = quota._totals

    def metered_afterwards(*given):
        monkeypatch.setattr(quota, "_totals", totals)
        found = totals(*given)
        drain(book=FlatPrice())
        return found

    monkeypatch.setattr(quota, "_totals", metered_afterwards)
    seed(account)
    key = account.key.row.id.hex
    assert account.month() == {"used": 1, f"k:{key}": 1, "spent": 1_000_000, f"s:{key}": 1_000_000}


def test_the_meter_tells_what_its_batches_cost(account):
    serve(account, 2, tokens=events.Tokens(1000))
    drain(book=FlatPrice())
    assert account.month()["spent"] == quota.millionths(Decimal("2.000"))


def test_a_key_of_another_organization_has_nothing_to_do_with_it(account):
    stranger: dict[uuid.UUID | None, Decimal] = {None: Decimal(1), uuid.uuid4(): Decimal(1)}
    account.admit()
    quota.tell_spent(organization_id=uuid.uuid4(), month=current_month(), spent=stranger)
    assert account.month()["spent"] == 0
