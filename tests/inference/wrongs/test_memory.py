"""A real web process under upstreams without end and readers who don't read: its memory stays flat."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from inference.relay import MAX_ANSWER
from tests import web
from tests.fakes.behaviours import Behaviour, Call
from tests.inference.conftest import DataPlane
from tests.inference.wrongs.conftest import Running, World, failure
from tests.inference.wrongs.lanes import LANES, STREAMS, Lane, begin
from tests.inference.wrongs.test_before_the_first_byte import WRONGS
from tests.inference.wrongs.test_callers import Flood, calling, read_until

MiB = 1024 * 1024
READERS = 60
ENDLESS = WRONGS["more than a line"][0]


class Memory:
    """Of the web processes: how much more they ever had than at the beginning."""

    def __init__(self, process: int) -> None:
        self.processes = _family(process)
        self.reset()

    def reset(self) -> None:
        for process in self.processes:
            Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak is what it is now
        self.before = self._peak()

    @property
    def grown_bytes(self) -> int:
        return self._peak() - self.before

    def _peak(self) -> int:
        found = [Path(f"/proc/{process}/status").read_text() for process in self.processes]
        return sum(int(text.partition("VmHWM:")[2].split()[0]) * 1024 for text in found)


def _family(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in _family(int(child)))]


@pytest.fixture
def served(world: World) -> Iterator[tuple[World, Memory]]:
    """Warm: each lane has been answered once."""
    with web.running_web() as running:
        beyond = World(
            DataPlane(f"{running.url}/v1", world.plane.gateway), world.token, world.organization, world.running
        )
        beyond.each(beyond.ask)
        yield beyond, Memory(running.process.pid)


def test_whole_answers_without_end_take_no_more_than_the_largest_may(served: tuple[World, Memory]) -> None:
    world, memory = served
    for running in world.running:
        assert failure(world.ask(running, ENDLESS))[1] == "server_error"
    assert memory.grown_bytes < MAX_ANSWER + 8 * MiB


def test_lines_without_end_take_no_more_than_one_may(served: tuple[World, Memory]) -> None:
    world, memory = served
    lanes = tuple(lane for lane in LANES if lane.framing != "json")
    world.each(lambda running: failure(world.ask(running, ENDLESS)), lanes)
    assert memory.grown_bytes < 16 * MiB


def test_streams_without_end_take_nothing(served: tuple[World, Memory]) -> None:
    world, memory = served

    def listen(running: Running) -> None:
        running.upstream.script(Flood().behaviour(running.lane))
        with calling(world, running) as caller:
            heard = 0
            while heard < 8 * MiB:
                heard += len(caller.recv(65536))

    world.each(listen, STREAMS)
    assert memory.grown_bytes < 8 * MiB


class SmallChunks(Flood):
    """What is written as ours is several times as large."""

    def behaviour(self, lane: Lane) -> Behaviour:
        async def behaviour(call: Call) -> None:
            await begin(call, lane)
            for _ in range(100_000):
                await call.part(b'data:{"choices":[{"delta":{"content":"a"}}]}\n\n' * 400)
                await asyncio.sleep(0)

        return behaviour


@pytest.mark.parametrize("flood", [Flood, SmallChunks])
def test_slow_readers_take_a_quarter_of_a_megabyte_each(served: tuple[World, Memory], flood: type[Flood]) -> None:
    world, memory = served
    (running,) = (running for running in world.running if running.lane.name == "chat-stream")
    with ExitStack() as stack:
        callers = []
        for _ in range(READERS):
            running.upstream.script(flood().behaviour(running.lane))
            callers.append(stack.enter_context(calling(world, running, receive_bytes=16 * 1024)))
        for caller in callers:
            read_until(caller, b"data: ")
        for _ in range(100):
            for caller in callers:
                caller.recv(8192)
        time.sleep(1)
        assert memory.grown_bytes < READERS * 256 * 1024 + 8 * MiB
