"""The spool: nothing that ended is lost, and nothing that began comes to nothing, whatever dies."""

import asyncio
import stat
from collections import Counter

import pytest

from billing.settling import spool
from tests.billing.spooling import ANSWERED, FAILED, Away, Redis, adopted, begin, crash, end, until

# Replay


def test_what_ended_is_replayed_once_and_forgotten(start_spool, spool_directory):
    async def scenario():
        process, redis = start_spool(), Redis()
        requests = [begin(process) for _ in range(5)]
        for request in requests:
            end(process, request)
        assert await process.replay(redis) == 5
        assert await process.replay(redis) == 0
        assert redis.taken == [(request, ANSWERED) for request in requests]
        assert (process.pending_lines, process.pending_bytes) == (0, 0)
        process.close()

    asyncio.run(scenario())
    assert list(spool_directory.iterdir()) == []


def test_asking_costs_nothing_while_there_is_nothing(start_spool, spool_directory):
    assert asyncio.run(start_spool().replay(Redis())) == 0
    assert asyncio.run(start_spool().adopt(Redis())) == 0
    assert not spool_directory.exists()


def test_an_end_without_a_begin_is_settled(start_spool):
    process = start_spool()
    request = end(process)
    redis = Redis()
    asyncio.run(process.replay(redis))
    assert redis.taken == [(request, ANSWERED)]


def test_what_has_only_begun_waits_for_its_end(start_spool):
    async def scenario():
        process, redis = start_spool(), Redis()
        request, other = begin(process), end(process)
        await process.replay(redis)
        assert redis.taken == [(other, ANSWERED)]
        end(process, request)
        await process.replay(redis)
        assert redis.taken[1:] == [(request, ANSWERED)]

    asyncio.run(scenario())


def test_batches_are_bounded(start_spool):
    process, redis = start_spool(), Redis()
    for _ in range(450):
        end(process)
    assert asyncio.run(process.replay(redis)) == 450
    assert [len(batch) for batch in redis.batches] == [200, 200, 50]


def test_a_replay_that_is_interrupted_goes_on_where_it_was(start_spool):
    async def scenario():
        process, redis = start_spool(), Redis(calls=1)
        requests = [end(process) for _ in range(450)]
        with pytest.raises(Away):
            await process.replay(redis)
        end(process)
        redis.calls = None
        assert await process.replay(redis) == 250
        assert await process.replay(redis) == 1
        assert [request for request, _ in redis.taken][:450] == requests

    asyncio.run(scenario())


def test_nothing_is_lost_when_redis_goes_and_then_the_process(start_spool):
    async def scenario():
        process = start_spool()
        requests = {end(process) for _ in range(300)}
        with pytest.raises(Away):
            await process.replay(Redis(calls=1))
        crash(process)
        return requests

    requests = asyncio.run(scenario())
    assert {request for request, _ in adopted(start_spool())} == requests


def test_a_replay_that_is_cancelled_loses_nothing(start_spool):
    async def scenario():
        process, redis = start_spool(), Redis()
        requests = {end(process) for _ in range(300)}
        for turns in range(30):
            replay = asyncio.create_task(process.replay(redis))
            for _ in range(turns):
                await asyncio.sleep(0)
            replay.cancel()
            await asyncio.wait([replay])
            requests.add(end(process))
        while await process.replay(redis):
            pass
        assert {request for request, _ in redis.taken} == requests
        assert process.pending_lines == 0

    asyncio.run(scenario())


def test_what_is_being_sent_is_on_disk(start_spool, spool_directory):
    async def scenario():
        process = start_spool()
        requests = [end(process) for _ in range(100)]

        async def send(batch):
            (segment,) = spool_directory.rglob("*.log")
            content = segment.read_text()
            assert all(str(request) in content for request in requests)

        assert await process.replay(send) == 100

    asyncio.run(scenario())


def test_lines_written_during_a_replay_are_kept(start_spool):
    async def scenario():
        process, late = start_spool(), []
        early = end(process)

        async def send(batch):
            late.append(end(process))
            assert await process.replay(send) == 0  # one at a time
            await process.flush()

        assert await process.replay(send) == 1
        redis = Redis()
        assert await process.replay(redis) == 1
        assert redis.taken == [(late[0], ANSWERED)]
        assert early not in late

    asyncio.run(scenario())


# Other processes


def test_the_dead_are_settled_by_the_living(start_spool):
    async def scenario():
        process = start_spool()
        ended, begun = begin(process), begin(process)
        end(process, ended)
        await process.flush()
        crash(process)
        return ended, begun

    ended, begun = asyncio.run(scenario())
    assert adopted(start_spool("web-2")) == [(ended, ANSWERED), (begun, FAILED)]
    assert adopted(start_spool("web-2")) == []


def test_the_living_are_left_alone(start_spool):
    process = start_spool()
    begin(process)
    asyncio.run(process.flush())
    assert adopted(start_spool("web-2")) == []
    assert adopted(process) == []


def test_one_that_stops_leaves_what_is_left_to_others(start_spool):
    process = start_spool()
    request = begin(process)
    process.close()
    assert adopted(start_spool("web-2")) == [(request, FAILED)]


def test_a_begun_request_survives_replays_and_then_the_process(start_spool):
    """Each replay removes the files it has read, and the begun request with them, unless it is carried on."""

    async def scenario():
        process = start_spool()
        begun = begin(process)
        for _ in range(3):
            end(process)
            assert await process.replay(Redis()) == 1
        crash(process)
        return begun

    begun = asyncio.run(scenario())
    assert adopted(start_spool()) == [(begun, FAILED)]


def test_an_adoption_that_is_interrupted_is_taken_up_again(start_spool):
    async def scenario():
        process = start_spool()
        requests = {begin(process) for _ in range(450)}
        await process.flush()
        crash(process)
        with pytest.raises(Away):
            await start_spool().adopt(Redis(calls=1))
        return requests

    requests = asyncio.run(scenario())
    assert set(adopted(start_spool())) == {(request, FAILED) for request in requests}


def test_two_who_adopt_at_once_do_not_settle_twice(start_spool):
    async def scenario():
        processes = [start_spool(f"web-{number}") for number in range(20)]
        requests = [end(process) for process in processes]
        await asyncio.gather(*(process.flush() for process in processes))
        for process in processes:
            crash(process)
        redis = Redis()
        await asyncio.gather(*(start_spool().adopt(redis) for _ in range(3)))
        assert Counter(redis.taken) == Counter((request, ANSWERED) for request in requests)

    asyncio.run(scenario())


def test_all_of_it_is_private(start_spool, spool_directory):
    process = start_spool("web/1:ü")
    begin(process)
    asyncio.run(process.flush())
    for path in [spool_directory, *spool_directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert len(list(spool_directory.rglob("*.log"))) == 1


def test_lines_share_an_fsync(start_spool, disk):
    process = start_spool()
    for _ in range(5000):
        end(process)
    assert asyncio.run(process.flush())
    assert 10 <= disk.fsyncs < 100  # by 500 at most, however fast the disk


def test_flush_waits_for_the_disk_and_callers_do_not(start_spool, disk):
    async def scenario():
        process = start_spool()
        begin(process)
        await until(lambda: disk.fsyncs)
        disk.may_sync.clear()
        for _ in range(1000):
            end(process)
        flushing = asyncio.create_task(process.flush())
        await until(lambda: process._visitors)
        assert not flushing.done()
        disk.may_sync.set()
        assert await flushing
        assert process.pending_lines == 1001

    asyncio.run(scenario())


def test_a_full_disk_is_survived_in_memory_and_written_later(start_spool, spool_directory, disk, caplog):
    async def scenario():
        process = start_spool()
        requests = [end(process) for _ in range(10)]
        await process.flush()
        disk.full = True
        requests += [end(process) for _ in range(10)]
        assert not await process.flush()
        assert not await process.flush()
        assert process.is_failing
        with process._visit():  # the writer, which takes lines out and puts them back, stays away
            assert process.pending_lines == 20
        assert len(list(spool_directory.rglob("*.log"))) == 1  # no empty one for each try
        assert caplog.text.count("cannot be written") == 1
        disk.full = False
        await until(lambda: not process.is_failing)
        assert await process.flush()
        crash(process)
        return requests

    requests = asyncio.run(scenario())
    assert adopted(start_spool()) == [(request, ANSWERED) for request in requests]
    assert "torn" not in caplog.text  # the half of a line that had fitted was taken back


def test_a_directory_that_cannot_be_made_is_tried_again(start_spool, spool_directory, caplog):
    async def scenario():
        spool_directory.write_text("in the way")
        process = start_spool()
        request = end(process)
        assert not await process.flush()
        spool_directory.unlink()
        await until(lambda: not process.is_failing)
        crash(process)
        return request

    request = asyncio.run(scenario())
    assert adopted(start_spool()) == [(request, ANSWERED)]
    assert caplog.text.count("cannot be written") == 1


def test_redis_returns_before_the_disk_does(start_spool, disk):
    async def scenario():
        process = start_spool()
        on_disk, answered = begin(process), begin(process)
        await process.flush()
        disk.full = "entirely"
        end(process, answered)
        in_memory = begin(process)
        with pytest.raises(Away):
            await process.replay(Redis(calls=0))
        redis = Redis()
        assert await process.replay(redis) == 1
        assert redis.taken == [(answered, ANSWERED)]
        disk.full = False
        await until(lambda: not process.is_failing)
        crash(process)
        return {on_disk, in_memory}

    begun = asyncio.run(scenario())
    assert set(adopted(start_spool())) == {(request, FAILED) for request in begun}


def test_the_writer_keeps_the_order_when_the_disk_returns_during_a_replay(start_spool, disk):
    """What the replay holds comes first: a begin that was written after its end would look like one without."""

    async def scenario():
        process = start_spool()
        disk.full = "entirely"
        request = begin(process)
        end(process)

        async def send(batch):
            disk.full = False
            end(process, request)
            for _ in range(30):  # the writer has its chance
                await asyncio.sleep(0.001)
            raise Away

        with pytest.raises(Away):
            await process.replay(send)
        assert await process.flush()
        crash(process)
        return request

    request = asyncio.run(scenario())
    taken = adopted(start_spool())
    assert (request, ANSWERED) in taken
    assert (request, FAILED) not in taken


def test_replays_against_a_full_disk_do_not_pile_up_lines(start_spool, disk):
    async def scenario():
        process = start_spool()
        begun = {begin(process) for _ in range(20)}
        await process.flush()
        disk.full = "entirely"
        end(process)
        for _ in range(20):
            with pytest.raises(Away):
                await process.replay(Redis(calls=0))
            await process.flush()
        assert len(process._waiting) == 1
        assert len(process._carry) == len(begun)

    asyncio.run(scenario())


def test_memory_is_bounded_and_what_is_dropped_is_told(start_spool, disk, monkeypatch, caplog):
    async def scenario():
        monkeypatch.setattr(spool, "MAX_WAITING", 100)
        process, redis = start_spool(), Redis()
        on_disk = begin(process)
        await process.flush()
        disk.full = "entirely"
        with process._visit():
            begun = [begin(process) for _ in range(60)]
            assert process.dropped_lines == 10  # half of the room is kept for ends
            for request in begun:
                end(process, request)
            end(process, on_disk)
        assert process.dropped_lines == 21
        assert caplog.text.count("has dropped") == 1
        await process.replay(redis)
        return [*begun, on_disk], redis.taken

    requests, taken = asyncio.run(scenario())
    ended = [(request, ANSWERED) for request in requests[:50]]
    # The last eleven lost their ends; the one whose begin was written has a record all the same.
    assert taken == [*ended, (requests[-1], FAILED)]
