"""The spool with processes that are really killed, and with anything in any order."""

import asyncio
import signal
import subprocess
import sys
import uuid
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing.settling import spool
from billing.settling.spool import Spool
from tests.billing.spooling import ANSWERED, FAILED, Away, Disk, Redis, adopted, begin, crash, end, until

CHILD = """
import asyncio, sys, uuid
from pathlib import Path
import msgspec
from billing.settling.settlement import Settlement
from billing.settling.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), "child")
    for number in range(1_000_000):
        request = uuid.UUID(int=number)
        spool.begin(Settlement(request, request, request, 202611, 0, False, msgspec.Raw(b'"begun"')))
        if number % 3:
            spool.end(Settlement(request, request, request, 202611, 1, False, msgspec.Raw(b'"ended"')))
        if number % 50 == 49:
            await spool.flush()
            print(number, flush=True)

asyncio.run(main())
"""

FORKING = """
import asyncio, os, sys, uuid
from pathlib import Path
from billing.settling.settlement import Settlement
from billing.settling.spool import Spool

spool = Spool(Path(sys.argv[1]), "forked")  # as a module would, before the workers are forked
child = os.fork()
request = uuid.UUID(int=1 if child else 2)
spool.begin(Settlement(request, request, request, 202611, 0))
assert asyncio.run(spool.flush())
if child:
    assert os.waitpid(child, 0)[1] == 9
    print(len(list(Path(sys.argv[1]).iterdir())), flush=True)
os.kill(os.getpid(), 9)
"""


def _python(code, directory):
    return subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("reports", [1, 7])
def test_a_killed_process_loses_nothing_it_had_written(start_spool, spool_directory, reports):
    child = _python(CHILD, spool_directory)
    try:
        last = [int(child.stdout.readline()) for _ in range(reports)][-1]
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    taken = Counter(adopted(start_spool()))
    assert set(taken.values()) == {1}
    for number in range(last + 1):
        assert taken[uuid.UUID(int=number), ANSWERED if number % 3 else FAILED] == 1
        assert (uuid.UUID(int=number), FAILED if number % 3 else ANSWERED) not in taken


def test_a_spool_made_before_a_fork_is_each_process_s_own(start_spool, spool_directory):
    parent = _python(FORKING, spool_directory)
    output, _ = parent.communicate(timeout=60)
    assert (parent.returncode, output) == (-signal.SIGKILL, "2\n")
    assert set(adopted(start_spool())) == {(uuid.UUID(int=1), FAILED), (uuid.UUID(int=2), FAILED)}


async def _replay_in_vain(process):
    """Cancelled while Redis hangs, so that the next one begins again, with more segments than one."""
    asked = asyncio.Event()

    async def hang(batch):
        asked.set()
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(process.replay(hang)), asyncio.create_task(asked.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _outage(process, redis):
    """Some requests and replays. Gives what is known to be on disk when it ends, or the disk does."""
    safe = set()
    requests = [begin(process) for _ in range(4)]
    for number, ended in enumerate(requests):
        end(process, ended)
        begun = begin(process)
        if await process.flush():
            safe |= {*requests, begun}
        if number == 1:
            await _replay_in_vain(process)
        else:
            with suppress(Away):
                await process.replay(redis)
    return safe


def test_a_death_between_any_two_changes_on_disk_is_survived(spool_directory, monkeypatch):
    """A disk that takes nothing from one moment on leaves what a death at that moment leaves."""

    async def scenario(lasts):
        with monkeypatch.context() as patch:
            disk, redis = Disk(spool_directory, patch), Redis()
            disk.lasts = lasts
            process = Spool(spool_directory, "one")
            redis.is_away = lambda: disk.lasts < 0  # the dead send nothing
            safe = await _outage(process, redis)
            crash(process)
            redis.is_away = lambda: False
        other = Spool(spool_directory, "other")
        await other.adopt(redis)
        await other.adopt(redis)
        other.close()
        taken = set(redis.taken)
        assert safe <= {request for request, _ in taken}
        assert not {request for request, units in taken if units == FAILED and (request, ANSWERED) in taken}
        assert list(spool_directory.glob("*.*")) == []
        return disk.lasts < 0

    monkeypatch.setattr(spool, "RETRY_S", 0.01)
    deaths = 0
    while asyncio.run(scenario(deaths)):
        deaths += 1
    assert deaths > 15


steps = st.lists(
    st.one_of(
        st.just(("begin",)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.just(("replay",)),
        st.tuples(st.just("replay until away"), st.integers(0, 2)),
        st.just(("flush",)),
        st.just(("crash",)),
        st.just(("kill",)),
        st.just(("adopt",)),
        st.tuples(st.just("disk is full"), st.booleans()),
    ),
    max_size=40,
)


class Model:
    """What must be true of everything that two processes on one directory did, one of which dies again and again."""

    def __init__(self, directory, disk):
        self.directory, self.disk = directory, disk
        self.redis = Redis()
        self.other = Spool(directory, "other")
        self.process = Spool(directory, "one")
        self.open = []
        self.safe_begun, self.safe_ended = set(), set()
        self.begun, self.ended = set(), set()  # since it started, and maybe in memory only
        self.disk_was_full = False

    async def step(self, name, value=None):
        process = self.process
        if name == "begin":
            self.open.append(begin(process))
            self.begun.add(self.open[-1])
        elif name == "end" and self.open:
            request = self.open.pop(value % len(self.open))
            self.ended.add(end(process, request))
        elif name == "replay":
            await process.replay(self.redis)
        elif name == "replay until away":
            self.redis.calls = value
            with suppress(Away):
                await process.replay(self.redis)
            self.redis.calls = None
        elif name == "flush":
            await self.flush()
        elif name == "crash":
            if not await self.flush():
                return
            self.restart()
        elif name == "kill":
            self.restart()
        elif name == "adopt":
            await self.other.adopt(self.redis)
        elif name == "disk is full":
            self.disk.full = value and "entirely"
            self.disk_was_full |= value
        self.check_open()

    async def flush(self):
        flushed = await self.process.flush()
        if flushed:
            self.safe_begun |= self.begun
            self.safe_ended |= self.ended
        return flushed

    def restart(self):
        crash(self.process)
        self.process = Spool(self.directory, "one")
        self.open, self.begun, self.ended = [], set(), set()

    def check_open(self):
        settled = {request for request, _ in self.redis.taken}
        assert settled.isdisjoint(self.open)

    async def check_all(self):
        self.disk.full = False
        await until(lambda: not self.process.is_failing)
        assert await self.flush()
        self.restart()
        await self.other.adopt(self.redis)
        taken = set(self.redis.taken)
        for request in self.safe_ended:
            assert (request, ANSWERED) in taken
        for request in self.safe_begun:
            assert (request, ANSWERED) in taken or (request, FAILED) in taken
        if not self.disk_was_full:  # else a kill may come between what was sent from memory and its begin on disk
            assert not {request for request, units in taken if units == FAILED and (request, ANSWERED) in taken}
        self.process.close()
        self.other.close()
        assert list(self.directory.glob("*")) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
@example([("begin",), ("begin",), ("end", 0), ("replay until away", 0), ("end", 0), ("replay",), ("crash",)])
@example([("begin",), ("disk is full", True), ("end", 0), ("replay",)])
@example(
    [("begin",), ("flush",), ("disk is full", True), ("end", 0), ("replay until away", 0), ("begin",), ("replay",)]
)
def test_no_order_of_things_loses_an_end_or_a_begun_request(tmp_path_factory, monkeypatch, steps):
    async def scenario():
        directory = tmp_path_factory.mktemp("model") / "spool"
        with monkeypatch.context() as patch:
            patch.setattr(spool, "GATHER_S", 0.001)
            patch.setattr(spool, "RETRY_S", 0.01)
            patch.setattr(spool, "BATCH", 3)
            model = Model(directory, Disk(directory, patch))
            for step in steps:
                await model.step(*step)
            await model.check_all()

    asyncio.run(scenario())
