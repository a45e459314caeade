"""Callers who go away, or read slowly: the upstream stops, or waits, on each kind and operation."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.fakes.behaviours import Behaviour, Call
from tests.inference.wrongs.conftest import Running, World
from tests.inference.wrongs.lanes import STREAMS, Lane, Wrong, begin, broken, half, nothing, silence
from tests.stack import wait_for

MiB = 1024 * 1024


def kernel_buffers_bytes() -> int:
    """What Linux may hold between an upstream and a caller who doesn't read: two send buffers, one receive buffer."""
    most = [int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[-1]) for way in ("w", "w", "r")]
    return sum(most)


@contextmanager
def calling(world: World, running: Running, *, receive_bytes: int = 0) -> Iterator[socket.socket]:
    """A caller on a socket; leaving the block is leaving the call."""
    body = json.dumps(running.lane.body(running.lane.name)).encode()
    host, port = world.plane.url.split("/")[2].split(":")
    with socket.socket() as caller:
        if receive_bytes:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        caller.settimeout(20)
        caller.connect((host, int(port)))
        caller.sendall(
            b"POST /v1%b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (running.lane.path.encode(), world.token.encode(), len(body), body)
        )
        yield caller


def read_until(caller: socket.socket, text: bytes) -> str:
    """The id of the request."""
    received = b""
    while text not in received:
        part = caller.recv(4096)
        assert part, received
        received += part
    head = received.partition(b"\r\n\r\n")[0].decode()
    return next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("x-request-id"))


def leave(running: Running, world: World, wrong: Wrong, begun: bool) -> float:
    """How long the upstream was left working."""
    running.upstream.script(wrong(running.lane))
    with calling(world, running) as caller:
        if begun:
            read_until(caller, b"data: ")
        else:
            wait_for(lambda: running.upstream.requests)
            time.sleep(0.1)
        left = time.monotonic()
    assert running.upstream.disconnected.wait(5)
    return running.upstream.disconnects[0] - left


def test_who_leaves_before_the_first_byte_stops_the_upstream_and_pays_nothing(world: World) -> None:
    took = world.each(partial(leave, world=world, wrong=broken(silence, after=nothing), begun=False))
    assert {name: seconds for name, seconds in took.items() if seconds > 1} == {}
    told = [(event.status, event.error_code, event.units, event.usage_source) for event in world.settle()]
    assert told == [(499, "client_disconnected", 0, "none")] * len(took)


def test_who_leaves_a_stream_stops_the_upstream_and_pays_for_what_there_was(world: World) -> None:
    took = world.each(partial(leave, world=world, wrong=broken(silence, after=half), begun=True), STREAMS)
    assert {name: seconds for name, seconds in took.items() if seconds > 1} == {}
    settled = world.settle()
    told = [(event.status, event.error_code, event.units) for event in settled]
    assert told == [(499, "client_disconnected", 1)] * len(took)
    assert all(event.tokens.input and event.tokens.output + event.tokens.reasoning for event in settled)


# Slow readers


class Flood:
    """A right answer that doesn't end. ``sent_bytes`` counts what the gateway has taken of it."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    def behaviour(self, lane: Lane) -> Behaviour:
        async def behaviour(call: Call) -> None:
            await begin(call, lane)
            first, more = half(lane.parts(call))[:-1], half(lane.parts(call))[-1]
            for part in first:
                await call.part(part)
            for _ in range(2 * 1024 * MiB // len(more)):
                await call.part(more)
                self.sent_bytes += len(more)
                await asyncio.sleep(0)

        return behaviour


def read_slowly(running: Running, world: World) -> tuple[bool, bool]:
    """Whether the upstream had to wait, and went on once something was read."""
    flood = Flood()
    running.upstream.script(flood.behaviour(running.lane))
    with calling(world, running, receive_bytes=16 * 1024) as caller:
        read_until(caller, b"data: ")
        held = wait_until_it_stands_still(flood)
        for _ in range(400):
            caller.recv(16 * 1024)
        wait_for(lambda: flood.sent_bytes > held, seconds=10)
        left = time.monotonic()
    assert running.upstream.disconnected.wait(5)
    assert running.upstream.disconnects[0] - left < 1
    return held < kernel_buffers_bytes() + MiB, flood.sent_bytes > held


def wait_until_it_stands_still(flood: Flood) -> int:
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 0.7:
        if flood.sent_bytes != before:
            before, since = flood.sent_bytes, time.monotonic()
        assert before < 128 * MiB
        threading.Event().wait(0.02)
    return before


def test_a_slow_reader_makes_the_upstream_wait(world: World) -> None:
    told = world.each(partial(read_slowly, world=world), STREAMS)
    assert told == dict.fromkeys(told, (True, True))
    settled = world.settle()
    assert [(event.status, event.units) for event in settled] == [(499, 1)] * len(told)
