"""From the streams into the ledger: nothing twice, nothing lost, whatever dies, breaks or comes garbled."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError, connection, transaction
from redis.exceptions import ConnectionError as RedisConnectionError

from billing import events
from billing.metering import announcing, ledger, meter, partitions
from billing.metering.meter import Meter
from billing.metering.usage_streams import GROUP, UsageStreams
from billing.models import Refusal, UsageMonth, UsageRecord, UsageReject
from helixflow.lib import ids, redis
from tests.billing.sent_events import left, many, pending, running, send, send_raw, stream_of
from tests.billing.usage_events import NOON, drop_partitions, ledger_state, reaped, refused, usage
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


def test_what_is_in_the_streams_is_recorded_and_gone():
    given = many(100)
    send(*given)
    send(refused())
    Meter().drain()
    assert set(UsageRecord.objects.values_list("id", flat=True)) == {event.id for event in given}
    assert Refusal.objects.count() == 1
    assert left() == 0


def test_a_running_meter_takes_what_comes():
    with running(Meter()):
        send(*many(5))
        wait_for(lambda: UsageRecord.objects.count() == 5)
        send(*many(5))
        wait_for(lambda: UsageRecord.objects.count() == 10)
        wait_for(lambda: left() == 0)


def test_what_is_sent_again_changes_nothing():
    given = many(30)
    send(*given)
    Meter().drain()
    before = ledger_state()
    send(*given)
    send(*given, late=True)
    Meter().drain()
    assert ledger_state() == before
    assert left() == 0


@pytest.mark.parametrize("moment", ["before the commit", "between commit and forgetting"])
def test_a_meter_that_is_killed_loses_and_repeats_nothing(monkeypatch, moment):
    given = many(30)
    send(*given)

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "before the commit":
            patch.setattr(announcing, "announce", die)
        else:
            patch.setattr(UsageStreams, "forget", die)
        with pytest.raises(Killed):
            Meter().drain()
    assert left() == 30
    Meter().drain()
    assert UsageRecord.objects.count() == 30
    assert sum(UsageMonth.objects.values_list("requests", flat=True)) == 30
    assert left() == 0


def test_two_meters_at_once_record_each_event_once():
    given = many(3_000)
    send(*given[:1_500])
    with running(Meter(claim_idle_s=0), Meter(claim_idle_s=0), Meter(claim_idle_s=0)):
        send(*given[1_500:], *given[:300])
        wait_for(lambda: left() == 0)
    assert UsageRecord.objects.count() == len(given)
    assert sum(UsageMonth.objects.values_list("requests", flat=True)) == len(given)


POISON = {
    "no event": None,
    "no JSON": b"\xff\xfe{",
    "another tag": b'{"type":"gossip"}',
    "half an event": b'{"type":"usage","id":"8b1ec4a0-0000-7000-8000-000000000000"}',
    "a month that is none": events.encode(usage(month=202613)),
    "an id beyond time": events.encode(usage(id=uuid.UUID(int=2**128 - 1))),
    "a status that is none": events.encode(usage(status=0)),
    "a number beyond all": events.encode(refused(count=10**30)),
    "a minute beyond time": events.encode(refused(minute=10**15)),
    "a reason beyond its column": events.encode(refused(reason="x" * 50)),
    "depth": b"[" * 100_000,
}


@pytest.mark.parametrize("payload", POISON.values(), ids=POISON.keys())
def test_a_poison_event_amid_others_is_set_aside_with_its_reason(payload):
    before, after = [usage() for _ in range(20)], [usage() for _ in range(20)]
    send(*before)
    entry_id = send_raw(payload)
    send(*after)
    Meter().drain()
    assert UsageRecord.objects.count() == 40
    reject = UsageReject.objects.get()
    assert (reject.stream, reject.entry_id) == (stream_of(uuid.UUID(int=1)), entry_id.decode())
    assert payload is None or bytes(reject.payload) == payload
    assert reject.reason
    assert left() == 0


def test_several_poison_events_are_set_aside_and_the_rest_is_recorded():
    for number in range(60):
        if number % 7 == 0:
            send_raw(POISON["a month that is none"])
        send(usage())
    Meter().drain()
    assert (UsageRecord.objects.count(), UsageReject.objects.count(), left()) == (60, 9, 0)


def test_text_of_clients_stops_nothing():
    event = events.encode(usage(model="MODEL", end_user="a\0b", deployment="X"))
    send_raw(event.replace(b"MODEL", rb"gpt\ud800").replace(b'"X"', b'"\xff\xc0"'))
    Meter().drain()
    record = UsageRecord.objects.get()
    assert (record.model, record.end_user, record.deployment) == ("gpt\ufffd", "a\ufffdb", "\ufffd\ufffd")
    assert not UsageReject.objects.exists()


def test_what_the_ledger_cannot_take_is_found_by_halving(monkeypatch):
    given = [usage() for _ in range(64)]
    real = ledger.write

    def write(entries, *, book):
        batch = list(entries)
        if any(entry.event is given_bad or entry.event.id == given_bad.id for entry in batch):
            raise RuntimeError("of a kind that nobody foresaw")
        real(batch, book=book)

    given_bad = given[37]
    monkeypatch.setattr(ledger, "write", write)
    send(*given)
    Meter().drain()
    assert UsageRecord.objects.count() == 63
    assert UsageReject.objects.get().reason == "RuntimeError: of a kind that nobody foresaw"


def test_what_was_set_aside_can_be_retried_once_it_is_mended(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(announcing, "announce", lambda **_: 1 / 0)
        send(*many(6))
        send_raw(POISON["no JSON"])
        Meter().drain()
    assert (UsageRecord.objects.count(), UsageReject.objects.count(), left()) == (0, 7, 0)
    call_command("meter", "--retry-rejects", "--drain")
    assert "6 entries are in the streams again; 1 cannot be read" in capsys.readouterr().out
    assert (UsageRecord.objects.count(), UsageReject.objects.count(), left()) == (6, 1, 0)


def test_a_late_event_corrects_the_reaper_s_record():
    truth = usage()
    send(reaped(truth))
    send(truth, late=True)
    Meter().drain()
    record = UsageRecord.objects.get()
    assert (record.settled_by, record.status) == ("gateway", 200)
    assert UsageMonth.objects.get().requests == 1


def test_entries_that_a_dead_meter_was_given_are_claimed(monkeypatch):
    send(usage(), usage())
    stream = stream_of(uuid.UUID(int=1))
    assert len(UsageStreams().read(stream, 100)) == 2  # by one that dies here
    monkeypatch.setattr(meter, "TEND_EVERY_S", 0.05)
    with running(Meter(claim_idle_s=30)):
        send(usage())
        wait_for(lambda: UsageRecord.objects.count() == 1)
    assert pending(stream) == 2  # it may be at work still
    with running(Meter(claim_idle_s=0.01)):
        wait_for(lambda: left() == 0)
    assert UsageRecord.objects.count() == 3


def test_consumers_that_left_nothing_are_removed_and_others_kept():
    stream = stream_of(uuid.UUID(int=1))
    idle, dead, mine = UsageStreams(), UsageStreams(), UsageStreams()
    idle.read(stream, 1)
    send(usage())
    dead.read(stream, 1)
    mine.remove_silent_consumers(stream, 3_600_000)
    assert len(redis.sync_client().xinfo_consumers(stream, GROUP)) == 2
    mine.remove_silent_consumers(stream, 0)
    assert [each["name"] for each in redis.sync_client().xinfo_consumers(stream, GROUP)] == [dead.consumer.encode()]
    assert pending(stream) == 1


def test_a_meter_that_ends_leaves_no_consumer():
    with running(Meter()):
        send(usage())
        wait_for(lambda: left() == 0)
    stream = stream_of(uuid.UUID(int=1))
    assert redis.sync_client().xinfo_consumers(stream, GROUP) == []


def test_a_flushed_redis_gets_its_groups_again():
    with running(Meter()):
        send(usage())
        wait_for(lambda: UsageRecord.objects.count() == 1)
        redis.sync_client().flushdb()
        send(usage())
        wait_for(lambda: UsageRecord.objects.count() == 2)


def test_it_works_on_a_cluster_also_while_a_stream_moves(on_cluster):
    given = many(120)
    send(*given[:60])
    stream = stream_of(given[0].organization_id)
    assert UsageStreams().read(stream, 1)  # by one that dies here
    with running(Meter(claim_idle_s=0)):
        wait_for(lambda: UsageRecord.objects.count() >= 59)
        home = on_cluster.owner(stream)
        on_cluster.move(stream, on_cluster.other_than(home))
        send(*given[60:])
        wait_for(lambda: UsageRecord.objects.count() >= 119)
    Meter().drain()
    assert set(UsageRecord.objects.values_list("id", flat=True)) == {event.id for event in given}
    assert left() == 0
    on_cluster.move(stream, home)


def end_own_backend():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def without_a_column():
    raise ProgrammingError("column does not exist")


def refuse():
    raise OperationalError("connection refused")


@pytest.mark.parametrize("fail", [end_own_backend, without_a_column, refuse])
def test_a_postgresql_that_is_away_is_waited_for_and_nothing_is_lost(monkeypatch, fail):
    real = ledger.write
    failures: list[int] = []

    def write(entries, *, book):
        if len(failures) < 3:
            failures.append(left())
            fail()
        real(entries, book=book)

    monkeypatch.setattr(ledger, "write", write)
    monkeypatch.setattr(meter, "FIRST_PAUSE_S", 0.01)
    send(*[usage() for _ in range(10)])
    Meter().drain()
    assert failures == [10, 10, 10]  # nothing was forgotten meanwhile
    assert UsageRecord.objects.count() == 10
    assert not UsageReject.objects.exists()
    assert left() == 0


@pytest.mark.parametrize("command", ["read", "forget", "claim", "remove_silent_consumers"])
def test_a_redis_that_is_away_is_waited_for(monkeypatch, command):
    real = getattr(UsageStreams, command)
    failures: list[int] = []

    def away(*arguments):
        if len(failures) < 3:
            failures.append(1)
            raise RedisConnectionError("refused")
        return real(*arguments)

    monkeypatch.setattr(UsageStreams, command, away)
    monkeypatch.setattr(meter, "FIRST_PAUSE_S", 0.01)
    send(*[usage() for _ in range(10)])
    Meter().drain()
    assert len(failures) == 3
    assert (UsageRecord.objects.count(), left()) == (10, 0)


def test_a_meter_that_waits_for_a_server_can_be_stopped(monkeypatch):
    tries = threading.Semaphore(0)

    def write(entries, *, book):
        tries.release()
        raise OperationalError("connection refused")

    monkeypatch.setattr(ledger, "write", write)
    send(usage())
    with running(Meter()):
        assert tries.acquire(timeout=20)
    assert left() == 1


def test_an_entry_that_waits_while_its_partition_is_made_is_written():
    """It was on its way to the default one, which takes no more of its month afterwards."""
    drop_partitions()
    send(usage())
    month = NOON.date().replace(day=1)
    low, high = (ids.first_at(datetime(day.year, day.month, 1, tzinfo=UTC)) for day in (month, month + timedelta(31)))
    metering = threading.Thread(target=drain_here)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(partitions.MAKE.format(name="billing_usagerecord_new", start=low, end=high))
        metering.start()
        wait_for(lambda: someone_waits(cursor))
    metering.join(20)
    assert (UsageRecord.objects.count(), UsageReject.objects.count(), left()) == (1, 0, 0)
    drop_partitions()


def drain_here():
    Meter().drain()
    connection.close()


def someone_waits(cursor):
    cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'billing_usagerecord_default'::regclass")
    return cursor.fetchone()
