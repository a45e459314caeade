"""What its gateway can't settle any more is settled from its note."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import time_machine

from billing import events
from billing.admission import limits, notes, redis_keys
from billing.settling import reaper
from billing.settling.reaper import Reaper
from billing.settling.settle import _mark, heartbeat_key
from helixflow.lib import ids, redis
from tests.billing.admitting import PROCESS, Account, beat, drain, forget_snapshots
from tests.billing.usage_events import FlatPrice, sums

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cold(monkeypatch):
    forget_snapshots()
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))


@pytest.fixture
def account(db):
    return Account.make(max_parallel=9)


def admitted(account):
    request_id = ids.uuid7()
    return account.admit(request_id), request_id


def mark(account, request_id, **fields):
    text = msgspec.json.encode(notes.Mark(**fields))
    asyncio.run(_mark.run((redis_keys.notes(account.tag),), request_id.hex, text))


def reap():
    return Reaper(grace_s=0).run_once()


def test_a_request_whose_gateway_is_gone_is_settled_as_far_as_its_note_tells(account):
    verdict, request_id = admitted(account)
    attempts = [events.Attempt("first", "status 500", 3.0), events.Attempt("second", "under way", 0.0)]
    mark(account, request_id, model="gpt-4", attempts=attempts[:1])
    said = {"model": "gpt-4", "streamed": True, "end_user": "alice", "deployment": "second"}
    said |= {"usage_source": "estimated", "tokens": events.Tokens(input=9, output=40), "first_token_ms": 12.5}
    mark(account, request_id, **said, attempts=attempts, elapsed_ms=2_000.0)
    assert reap() == 1
    (entry,) = account.stream()
    event = entry.event
    assert isinstance(event, events.Usage)
    assert not entry.late
    assert {name: getattr(event, name) for name in said} == said
    assert event.duration_ms == 2_000
    assert event.attempts == [attempts[0], events.Attempt("second", reaper.CUT_OFF, 0.0)]
    assert (event.id, event.organization_id, event.api_key_id) == (request_id, account.id, account.key.row.id)
    assert (event.user_id, event.month, event.settled_by) == (account.owner.id, verdict.month, "reaper")
    assert (event.status, event.error_code) == (500, "server_error")


@pytest.mark.parametrize("answering", [False, True])
def test_the_unit_is_kept_if_there_was_a_first_byte(account, answering):
    _, request_id = admitted(account)
    mark(account, request_id, model="gpt-4", answering=answering)
    reap()
    assert (account.used(), account.leases(), account.notes()) == (int(answering), 0, {})


def test_what_lives_is_left_alone(account):
    admitted(account)
    beat()
    assert reap() == 0
    assert len(account.notes()) == 1


def test_only_the_dead_one_s_requests_are_settled(account):
    _, request_id = admitted(account)
    account.admit(process="alive")
    beat("alive")
    assert reap() == 1
    assert [entry.event.id for entry in account.stream()] == [request_id]


class Clock:
    """The reaper's own."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("billing.settling.reaper.time", clock)
    return clock


def test_a_silence_is_given_its_time(account, clock):
    admitted(account)
    patient = Reaper(grace_s=10)
    assert patient.run_once() == 0
    clock.now += 9
    assert patient.run_once() == 0
    clock.now += 2
    assert patient.run_once() == 1


def test_who_beats_again_is_forgiven(account, clock):
    admitted(account)
    patient = Reaper(grace_s=10)
    patient.run_once()
    beat()
    clock.now += 5
    patient.run_once()
    redis.sync_client().delete(heartbeat_key(PROCESS))
    clock.now += 7
    assert patient.run_once() == 0


def test_what_is_older_than_any_exchange_is_lost_even_if_its_gateway_lives(account, monkeypatch):
    admitted(account)
    beat()
    monkeypatch.setattr(limits, "clock_offset_s", notes.LIFE_S + 5)
    assert reap() == 1


def test_a_meter_whose_own_clock_is_wrong_reaps_nobody(account):
    admitted(account)
    beat()
    with time_machine.travel(datetime(2031, 1, 1, tzinfo=UTC), tick=True):
        assert reap() == 0


def test_what_is_settled_while_it_looks_is_left_alone(account, monkeypatch):
    verdict, request_id = admitted(account)
    dead = Reaper._dead

    def settled_meanwhile(self, processes):
        account.settle(verdict, request_id)
        return dead(self, processes)

    monkeypatch.setattr(Reaper, "_dead", settled_meanwhile)
    assert reap() == 0
    (entry,) = account.stream()
    assert (entry.event.settled_by, entry.late, account.used()) == ("gateway", False, 1)


def test_a_note_that_says_nothing_is_dropped_and_stops_nobody(account):
    client: Any = redis.sync_client()
    client.hset(redis_keys.notes(account.tag), mapping={"what": "is this", ids.uuid7().hex: "nonsense"})
    _, request_id = admitted(account)
    assert reap() == 1
    assert [entry.event.id for entry in account.stream()] == [request_id]
    assert client.hlen(redis_keys.notes(account.tag)) == 0


@pytest.mark.parametrize("metered_first", [False, True])
@pytest.mark.parametrize(("answering", "units"), [(False, 1), (True, 0), (True, 1)])
def test_a_gateway_that_was_only_asleep_has_the_last_word(account, metered_first, answering, units):
    """In the ledger, in its sums, and in the counter."""
    verdict, request_id = admitted(account)
    mark(account, request_id, model="gpt-4", answering=answering)
    reap()
    if metered_first:
        drain(book=FlatPrice())
    event = account.settle(verdict, request_id, units=units, tokens=events.Tokens(3, output=4))
    account.admit()  # the counter is made anew for it
    assert account.used() == units + 1
    drain(book=FlatPrice())
    (record,) = account.records()
    assert (record.settled_by, record.units, record.status, record.output_tokens) == ("gateway", units, 200, 4)
    assert account.used() == units + 1
    hours, months = sums()
    assert [(row[0], row[1], row[2]) for row in hours.values()] == [(1, units, {})]
    assert [row[:2] for row in months.values()] == [(1, units)]
    assert event.settled_by == "gateway"
