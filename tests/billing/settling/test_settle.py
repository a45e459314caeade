"""Settlement: what the script does with notes, units, leases and events, and a settler that loses nothing."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from billing import events
from billing.admission import limits, notes
from billing.admission.breaker import Breaker
from billing.settling import settle
from billing.settling.settle import Settler, heartbeat_key
from billing.settling.settlement import Settlement
from helixflow.lib import ids, pipelined_redis, redis
from tests.billing import admitting
from tests.billing.admitting import Account, forget_snapshots, usage_of
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _cold(monkeypatch):
    forget_snapshots()
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


@pytest.fixture
def account(db):
    return Account.make(max_parallel=1_000)


def admitted(account):
    request_id = ids.uuid7()
    return account.admit(request_id), request_id


# The script


@pytest.mark.parametrize("units", [0, 1])
def test_it_drops_the_note_gives_back_lease_and_unit_and_tells_the_meter(account, units):
    verdict, request_id = admitted(account)
    event = account.settle(verdict, request_id, units=units)
    assert (account.notes(), account.leases()) == ({}, 0)
    assert (account.used(), account.month()[f"k:{account.key.row.id.hex}"]) == (units, units)
    entry = account.stream()[0]
    assert (entry.event, entry.late) == (event, False)


def test_what_has_no_note_is_told_as_late_and_the_counter_is_made_anew(account):
    verdict, request_id = admitted(account)
    account.settle(verdict, request_id)
    account.settle(verdict, request_id)
    assert [entry.late for entry in account.stream()] == [False, True]
    assert account.used() is None
    account.admit()
    assert account.used() == 2  # the one that was told twice, and this


def test_an_admission_that_is_cancelled_leaves_nothing(account):
    verdict, request_id = admitted(account)
    cancelled = Settlement(request_id, account.id, account.key.row.id, verdict.month, 0, leased=True)
    admitting.settle(cancelled)
    admitting.settle(cancelled)
    assert (account.notes(), account.leases(), account.used(), account.stream()) == ({}, 0, 0, [])


def test_a_batch_of_several_organizations_reaches_each_shard(account):
    others = [Account.make(f"other-{number}") for number in range(5)]
    pairs = [(each, *admitted(each)) for each in (account, *others) for _ in range(3)]
    admitting.settle(*(Settlement.of(usage_of(verdict, request_id)) for _, verdict, request_id in pairs))
    for each in (account, *others):
        assert (len(each.stream()), each.notes(), each.used()) == (3, {}, 3)


# The settler


@asynccontextmanager
async def running():
    settler = Settler()
    await settler.start()
    try:
        yield settler
    finally:
        await settler.stop()


def run(work):
    """``await work(settler)`` with a settler that runs meanwhile."""

    async def main():
        async with running() as settler:
            return await work(settler)

    return asyncio.run(main())


async def until(condition):
    await asyncio.to_thread(wait_for, condition)


def settlements(account, count):
    """Of requests that are admitted."""
    made = [admitted(account) for _ in range(count)]
    return [Settlement.of(usage_of(verdict, request_id), leased=True) for verdict, request_id in made]


def test_what_is_queued_is_sent_before_long(account):
    (settlement,) = settlements(account, 1)

    async def work(settler):
        settler.settle(settlement)
        await until(account.stream)

    run(work)
    assert account.notes() == {}


def test_what_is_queued_when_it_stops_is_sent(account):
    queued = settlements(account, 250)  # several batches

    async def work(settler):
        for settlement in queued:
            settler.settle(settlement)

    run(work)
    assert len(account.stream()) == 250
    assert (account.notes(), account.used()) == ({}, 250)


def test_it_beats_while_it_lives(account):
    async def work(settler):
        await until(lambda: redis.sync_client().exists(heartbeat_key(settler.process)))
        return settler.process

    process = run(work)
    assert not redis.sync_client().exists(heartbeat_key(process))


class Request:
    """Under way, and answering."""

    def __init__(self, account, request_id):
        self.request_id, self.organization_id = request_id, account.id

    def mark(self):
        attempt = events.Attempt("first", "under way", 0.0)
        return notes.Mark(model="gpt-4", streamed=True, deployment="first", attempts=[attempt], answering=True)


def test_a_request_that_lasts_has_its_mark_in_its_note(account):
    _, request_id = admitted(account)
    request = Request(account, request_id)

    async def work(settler):
        settler.touch(request)
        await until(lambda: account.notes()[request_id].mark == request.mark())

    run(work)


def test_a_mark_waits_while_redis_is_away(account, settings):
    _, request_id = admitted(account)
    request, reachable = Request(account, request_id), settings.REDIS_URL

    async def lose_redis():
        settings.REDIS_URL = NOWHERE
        settler = Settler()
        settler.touch(request)
        await settler._send_marks()  # it only lasts from the second time on
        with pytest.raises(redis.RedisError):
            await settler._send_marks()
        return settler

    async def find_it(settler):
        await settler._send_marks()

    settler = asyncio.run(lose_redis())
    settings.REDIS_URL = reachable
    asyncio.run(find_it(settler))
    assert account.notes()[request_id].mark.answering


def test_a_request_that_is_over_is_marked_no_more(account):
    _, request_id = admitted(account)
    request = Request(account, request_id)

    async def work():
        settler = Settler()
        settler.touch(request)
        await settler._send_marks()
        settler.forget(request)
        await settler._send_marks()

    asyncio.run(work())
    assert account.notes()[request_id].mark == notes.Mark()


# Redis goes away and comes back


def test_what_redis_does_not_take_is_spooled_and_settled_by_the_next_process(account, settings):
    queued, reachable = settlements(account, 3), settings.REDIS_URL
    settings.REDIS_URL = NOWHERE

    async def work(settler):
        for settlement in queued:
            settler.settle(settlement)

    run(work)
    settings.REDIS_URL = reachable
    assert len(account.notes()) == 3
    limits.breaker = Breaker()

    async def next_process(settler):
        await until(lambda: len(account.stream()) == 3)

    run(next_process)
    assert (account.notes(), account.used()) == ({}, 3)


def test_a_redis_that_hangs_is_not_waited_for_with_every_batch(account, monkeypatch):
    tried = []

    async def hangs(keys, *arguments):
        tried.append(keys)
        raise redis.RedisError("no reply in time")

    monkeypatch.setattr(settle._settle, "run", hangs)
    verdict = account.admit()
    many = [Settlement.of(usage_of(verdict, ids.uuid7())) for _ in range(20 * settle.BATCH)]
    assert asyncio.run(Settler()._send(many)) == many
    assert len(tried) == 1


def test_it_beats_while_it_replays_a_long_spool(account, monkeypatch):
    monkeypatch.setattr(settle, "TEND_EVERY_S", 0.01)
    verdict, request_id = admitted(account)

    async def work(settler):
        replaying, ended = asyncio.Event(), asyncio.Event()

        async def replay(send):
            replaying.set()
            await ended.wait()

        settler.spool.replay = replay
        settler.admitted_here(Settlement.of(usage_of(verdict, request_id)))
        await replaying.wait()
        redis.sync_client().delete(heartbeat_key(settler.process))
        await until(lambda: redis.sync_client().exists(heartbeat_key(settler.process)))
        ended.set()

    run(work)


def test_a_refusal_that_cannot_be_told_keeps_no_settlement_from_the_spool(account, settings):
    account.limit(requests_per_minute=1)
    verdict, request_id = admitted(account)
    refused, reachable = account.admit(), settings.REDIS_URL

    async def work():
        settings.REDIS_URL = NOWHERE
        settler = Settler()
        await settler.start()
        settler.refused(refused)
        settler.settle(Settlement.of(usage_of(verdict, request_id)))
        await settler.stop()

    asyncio.run(work())
    settings.REDIS_URL = reachable
    limits.breaker = Breaker()
    run(lambda settler: until(account.stream))
    assert [entry.event.id for entry in account.stream()] == [request_id]


def test_a_request_served_without_redis_is_settled_when_it_is_back(account, settings):
    reachable = settings.REDIS_URL
    account.admit()

    async def away():
        settings.REDIS_URL = NOWHERE
        request_id = ids.uuid7()
        verdict = await limits.admit(account.key.token, request_id, "here")
        return verdict, request_id

    verdict, request_id = asyncio.run(away())
    settings.REDIS_URL = reachable
    event = usage_of(verdict, request_id)

    async def work(settler):
        settler.admitted_here(Settlement.of(usage_of(verdict, request_id, status=500), leased=True))
        settler.settle(Settlement.of(event, leased=True), spooled=True)
        await until(account.stream)

    run(work)
    assert [(entry.event, entry.late) for entry in account.stream()] == [(event, True)]
    account.admit()
    assert account.used() == 3


def test_a_redis_that_was_restarted_is_told_of_the_last_seconds_again(account, monkeypatch):
    """It may have lost its last second: notes are back, events are gone."""
    (settlement,) = settlements(account, 1)
    epoch = 1
    monkeypatch.setattr(pipelined_redis, "epoch", lambda: epoch)

    async def work():
        nonlocal epoch
        settler = Settler()
        await settler._tend()
        await settler._send([settlement])
        await settler._tend()
        before = len(account.stream())
        epoch = 2
        await settler._tend()
        return before

    assert asyncio.run(work()) == 1
    assert [entry.late for entry in account.stream()] == [False, True]


def test_a_redis_that_was_flushed_is_told_again(account):
    (settlement,) = settlements(account, 1)

    async def work():
        settler = Settler()
        await settler._tend()
        await settler._send([settlement])
        redis.sync_client().flushdb()
        await settler._tend()

    asyncio.run(work())
    assert [entry.event.id for entry in account.stream()] == [settlement.id]


def test_a_redis_that_was_restarted_before_it_was_ever_tended_is_told_again(account, settings, monkeypatch):
    """The first look came to nothing: what was settled meanwhile is in doubt all the same."""
    (settlement,) = settlements(account, 1)
    reachable, settler = settings.REDIS_URL, Settler()

    async def first_look():
        settings.REDIS_URL = NOWHERE
        with pytest.raises(redis.RedisError):
            await settler._tend()

    async def settled():
        settings.REDIS_URL = reachable
        await settler._send([settlement])

    async def second_look():
        redis.sync_client().flushdb()
        monkeypatch.setattr(pipelined_redis, "epoch", lambda: 1)
        await settler._tend()

    for act in (first_look, settled, second_look):
        asyncio.run(act())
    assert [entry.event.id for entry in account.stream()] == [settlement.id]


def test_however_long_redis_is_away_its_last_seconds_are_remembered(account, settings, monkeypatch):
    (settlement,) = settlements(account, 1)
    monkeypatch.setattr(settle, "KEEP_S", -1.0)  # everything is old at once
    reachable, settler = settings.REDIS_URL, Settler()

    async def before():
        await settler._tend()
        await settler._send([settlement])

    async def while_it_is_away():
        settings.REDIS_URL = NOWHERE
        with pytest.raises(redis.RedisError):
            await settler._tend()

    async def after():
        settings.REDIS_URL = reachable
        redis.sync_client().flushdb()
        await settler._tend()
        await settler._tend()

    for act in (before, while_it_is_away, after):
        asyncio.run(act())
    assert [entry.event.id for entry in account.stream()] == [settlement.id]
    assert not settler._recent


def test_a_settler_that_stops_leaves_its_spool_to_others(account, settings):
    reachable = settings.REDIS_URL
    queued = settlements(account, 1)
    settings.REDIS_URL = NOWHERE
    stopped = Settler()

    async def work():
        await stopped.start()
        stopped.settle(queued[0])
        await stopped.stop()

    asyncio.run(work())
    settings.REDIS_URL = reachable
    limits.breaker = Breaker()

    async def adopt():
        await Settler()._adopt()

    asyncio.run(adopt())
    assert [entry.event.id for entry in account.stream()] == [queued[0].id]
