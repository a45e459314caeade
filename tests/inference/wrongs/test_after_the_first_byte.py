"""What upstreams do wrong within a stream: an error in it where it means nothing any more, and no notice where it does.
What was produced is recorded, once."""

import asyncio
from functools import partial

import pytest

from inference import catalogue
from inference.upstream import Deadlines
from tests.factories import reread_catalogue
from tests.fakes.behaviours import Behaviour, Call, raw
from tests.inference.wrongs.conftest import Running, World, failure, said
from tests.inference.wrongs.lanes import (
    CONTENT_TYPES,
    LANES,
    STREAMS,
    Lane,
    Wrong,
    broken,
    closed,
    cut_off,
    half,
    reshaped,
    silence,
)

UNAVAILABLE, SENSELESS, LATE = (200, "service_unavailable"), (200, "server_error"), (200, "timeout")
STATUSES = {"service_unavailable": 503, "server_error": 500, "timeout": 503}
HASTE = Deadlines(connect_s=1, first_byte_s=2, gap_s=0.5, total_s=5)


async def ended(call: Call) -> None:
    await call.end_stream()


async def garbage(call: Call) -> None:
    await call.part(b"data: \xff\xfe{not json\r\n\r\n" * 8)
    await call.end_stream()


async def bad_chunk(call: Call) -> None:
    await call.send(b"nonsense\r\n")


async def endless_line(call: Call) -> None:
    await call.part(b"data: {")
    for _ in range(2 * 1024**3 // 16384):
        await call.part(b"x" * 16384)
        await asyncio.sleep(0)


def short(lane: Lane) -> Behaviour:
    """It ends as it said it would, but in the middle."""

    async def behaviour(call: Call) -> None:
        parts = lane.parts(call)
        length = sum(map(len, half(parts)))
        await call.head(200, f"Content-Length: {length}", content_type=CONTENT_TYPES[lane.framing])
        await call.send(b"".join(parts)[:length])

    return behaviour


def unframed(lane: Lane) -> Behaviour:
    """Neither a length nor chunks: the connection's end is the answer's."""

    async def behaviour(call: Call) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPES[lane.framing]}\r\n\r\n"
        await raw(head.encode(), b"".join(half(lane.parts(call))))(call)

    return behaviour


def whole_and_unframed(lane: Lane) -> Behaviour:
    async def behaviour(call: Call) -> None:
        head = f"HTTP/1.0 200 OK\r\nContent-Type: {CONTENT_TYPES[lane.framing]}\r\n\r\n"
        await raw(head.encode(), *lane.parts(call))(call)

    return behaviour


BROKEN: dict[str, tuple[Wrong, tuple[int, str]]] = {
    "closed": (broken(closed, after=half), UNAVAILABLE),
    "reset": (broken(cut_off, after=half), UNAVAILABLE),
    "ended too early": (broken(ended, after=half), UNAVAILABLE),
    "shorter than it is": (short, UNAVAILABLE),
    "cut without a frame": (unframed, UNAVAILABLE),
    "garbage": (broken(garbage, after=half), SENSELESS),
    "a bad chunk": (broken(bad_chunk, after=half), SENSELESS),
    "an endless line": (broken(endless_line, after=half), SENSELESS),
    "silence": (broken(silence, after=half), LATE),
}


def break_off(running: Running, world: World, wrong: Wrong) -> tuple[int, str]:
    response = world.ask(running, wrong, model=running.relieved)  # the second may not be asked any more
    told = failure(response)
    assert response.content.count(b"data: ") > 2, response.text
    event = world.record(response)
    assert (event.status, event.error_code, event.units) == (STATUSES[told[1]], told[1], 1)
    assert event.usage_source == ("provider" if running.lane.kind == "gemini" else "estimated")
    assert event.tokens.input > 0
    assert event.tokens.output + event.tokens.reasoning > 0
    assert [attempt.deployment for attempt in event.attempts] == [f"{running.lane.name}-first"]
    assert event.attempts[0].outcome != "ok"
    return told


def test_a_stream_that_breaks_ends_with_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "DEADLINES", HASTE)
    reread_catalogue()
    for name, (wrong, expected) in BROKEN.items():
        told = world.each(partial(break_off, world=world, wrong=wrong), STREAMS)
        assert (name, told) == (name, {lane.name: expected for lane in STREAMS})
    assert len(world.settle()) == len(BROKEN) * len(STREAMS)


def test_a_dripped_stream_ends_with_the_total(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gap is short enough."""
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=1, gap_s=0.5, total_s=1))
    reread_catalogue()
    dripped = reshaped(
        lambda parts: [*half(parts), *[part for part in half(parts)[2:] for _ in range(40)]], pause_s=0.1
    )
    told = world.each(partial(break_off, world=world, wrong=dripped), STREAMS)
    assert told == {lane.name: LATE for lane in STREAMS}


# What is tolerated


def with_line_ends(end: bytes) -> Wrong:
    return reshaped(lambda parts: [part.replace(b"\r\n", b"\n").replace(b"\n", end) for part in parts])


def _commented(parts: list[bytes]) -> list[bytes]:
    return [b": keep-alive\n\n", *(b": more\nid: 7\nretry: 10\n" + part for part in parts), b":\n\n"]


def _bytewise(parts: list[bytes]) -> list[bytes]:
    return [bytes([byte]) for byte in b"".join(parts)]


TOLERATED: dict[str, tuple[Wrong, tuple[str, ...]]] = {
    "LF": (with_line_ends(b"\n"), ("sse",)),
    "CR": (with_line_ends(b"\r"), ("sse",)),
    "CRLF": (with_line_ends(b"\r\n"), ("sse",)),
    "comments": (reshaped(_commented), ("sse",)),
    "no space": (reshaped(lambda parts: [part.replace(b"data: ", b"data:") for part in parts]), ("sse",)),
    "a byte order mark": (reshaped(lambda parts: [b"\xef\xbb\xbf", *parts]), ("sse",)),
    "no blank line at the end": (reshaped(lambda parts: [*parts[:-1], parts[-1].rstrip()]), ("sse",)),
    "all at once": (reshaped(lambda parts: [b"".join(parts)]), ("json", "sse", "aws")),
    "byte by byte": (reshaped(_bytewise), ("json", "sse", "aws")),
    "no frame": (whole_and_unframed, ("json", "sse", "aws")),
}


def heed(running: Running, world: World, wrong: Wrong) -> str:
    response = world.ask(running, wrong)
    event = world.record(response)
    assert (event.status, event.units, len(event.attempts), event.attempts[0].outcome) == (200, 1, 1, "ok")
    assert event.usage_source == "provider"
    return said(running.lane, response)


def test_what_is_odd_and_clear_is_understood(world: World) -> None:
    for name, (wrong, framings) in TOLERATED.items():
        lanes = tuple(lane for lane in LANES if lane.framing in framings)
        told = world.each(partial(heed, world=world, wrong=wrong), lanes)
        assert (name, told) == (name, {lane.name: lane.text for lane in lanes})


def test_an_end_that_is_not_said_is_clear_from_the_reason_to_stop(world: World) -> None:
    """Gemini says no more than that."""
    lanes = tuple(lane for lane in LANES if lane.framing == "sse" and lane.kind != "gemini")
    told = world.each(partial(heed, world=world, wrong=reshaped(lambda parts: parts[:-1])), lanes)
    assert told == {lane.name: lane.text for lane in lanes}
