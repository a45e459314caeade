"""What upstreams do wrong before anything has gone to the caller: the next deployment answers, and nobody notices."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from billing import events
from inference import catalogue
from inference.upstream import Deadlines
from tests.factories import reread_catalogue
from tests.fakes.behaviours import BEHAVIOURS, Behaviour, Call, body, endless, raw, status
from tests.fakes.upstream import refused_url
from tests.inference.wrongs.conftest import Running, World, failure, said
from tests.inference.wrongs.lanes import (
    LANES,
    Lane,
    Wrong,
    anywhere,
    begin,
    broken,
    closed,
    cut_off,
    half_a_part,
    lying,
    nothing,
    silence,
)

UNAVAILABLE, SENSELESS, LATE = (503, "service_unavailable"), (500, "server_error"), (503, "timeout")
GARBAGE = bytes(range(256)) * 8
HASTE = Deadlines(connect_s=1, first_byte_s=0.5, gap_s=0.5, total_s=5)


def by_framing(**made: Wrong) -> Wrong:
    return lambda lane: made[lane.framing](lane)


def endless_message(lane: Lane) -> Behaviour:
    """Of AWS's event stream: four gigabytes by its own account."""
    return endless(b"\xff" * 16384)


WRONGS: dict[str, tuple[Wrong, tuple[int, str] | dict[str, tuple[int, str]]]] = {
    "status 500": (anywhere(status(500)), UNAVAILABLE),
    "status 529": (anywhere(status(529)), UNAVAILABLE),
    "a proxy's page": (anywhere(BEHAVIOURS["html-502"]), UNAVAILABLE),
    "a wrong key": (anywhere(BEHAVIOURS["status-401"]), UNAVAILABLE),
    "a limit": (anywhere(BEHAVIOURS["status-429"]), UNAVAILABLE),
    "a redirect": (anywhere(BEHAVIOURS["redirect"]), UNAVAILABLE),
    "not HTTP": (anywhere(BEHAVIOURS["not-http"]), SENSELESS),
    "a huge head": (anywhere(BEHAVIOURS["huge-head"]), SENSELESS),
    "a bad chunk": (anywhere(BEHAVIOURS["bad-chunk"]), SENSELESS),
    "compressed": (anywhere(BEHAVIOURS["compressed"]), SENSELESS),
    "closed before the head": (anywhere(BEHAVIOURS["close-before-head"]), UNAVAILABLE),
    "reset before the head": (anywhere(BEHAVIOURS["reset-before-head"]), UNAVAILABLE),
    "closed after the head": (broken(closed, after=nothing), UNAVAILABLE),
    "reset after the head": (broken(cut_off, after=nothing), UNAVAILABLE),
    "closed in the first part": (broken(closed, after=half_a_part), UNAVAILABLE),
    "reset in the first part": (broken(cut_off, after=half_a_part), UNAVAILABLE),
    "nothing at all": (anywhere(body(b"")), {"json": SENSELESS, "sse": UNAVAILABLE, "aws": UNAVAILABLE}),
    "prose": (anywhere(body(b"I am fine, thank you.")), {"json": SENSELESS, "sse": UNAVAILABLE, "aws": SENSELESS}),
    "garbage": (anywhere(body(GARBAGE)), {"json": SENSELESS, "sse": UNAVAILABLE, "aws": SENSELESS}),
    "garbage without a frame": (
        anywhere(raw(b"HTTP/1.1 200 OK\r\n\r\n" + GARBAGE)),
        {"json": SENSELESS, "sse": UNAVAILABLE, "aws": SENSELESS},
    ),
    "an event that is no JSON": (anywhere(body(b"data: {not json\n\n")), SENSELESS),
    "null": (anywhere(body(b"null")), {"json": SENSELESS, "sse": UNAVAILABLE, "aws": UNAVAILABLE}),
    "more than a line": (
        by_framing(
            json=anywhere(BEHAVIOURS["endless-answer"]),
            sse=anywhere(BEHAVIOURS["endless-line"]),
            aws=endless_message,
        ),
        SENSELESS,
    ),
}


def passed_over(world: World, running: Running, wrong: Wrong) -> tuple[str, str, list[str], int]:
    """Who answered with what, who was tried, and what it cost."""
    response = world.ask(running, wrong, model=running.relieved)
    event = world.record(response)
    assert event.usage_source == ("estimated" if running.lane.name == "gemini-embedding" else "provider")
    tried = [f"{attempt.deployment}: {attempt.outcome == 'ok'}" for attempt in event.attempts]
    return response.headers.get("x-helixflow-upstream", ""), said(running.lane, response), tried, event.units


def failed(world: World, running: Running, wrong: Wrong | None) -> tuple[int, str]:
    response = world.ask(running, wrong)
    event = world.record(response)
    assert (event.units, event.usage_source, event.tokens) == (0, "none", events.Tokens())
    assert len(event.attempts) == 1
    told = failure(response)
    assert (event.status, event.error_code) == told
    if told == UNAVAILABLE:
        assert int(response.headers["retry-after"]) >= 1
    assert "127.0.0.1" not in response.text
    return told


def second_answers(lane: Lane) -> tuple[str, str, list[str], int]:
    first, second = f"{lane.name}-first", f"{lane.name}-second"
    return second, lane.text, [f"{first}: False", f"{second}: True"], 1


def test_the_next_deployment_answers(world: World) -> None:
    for name, (wrong, _) in WRONGS.items():
        told = world.each(partial(passed_over, world, wrong=wrong))
        assert (name, told) == (name, {lane.name: second_answers(lane) for lane in LANES})
    assert len(world.settle()) == len(WRONGS) * len(LANES)


def test_without_another_the_caller_is_told(world: World) -> None:
    for name, (wrong, expected) in WRONGS.items():
        told = world.each(partial(failed, world, wrong=wrong))
        wanted = {each.name: expected[each.framing] if isinstance(expected, dict) else expected for each in LANES}
        assert (name, told) == (name, wanted)
    assert len(world.settle()) == len(WRONGS) * len(LANES)


@pytest.mark.parametrize("difference", [-10, 10])
def test_lengths_that_lie(world: World, difference: int) -> None:
    lanes = tuple(lane for lane in LANES if lane.framing == "json")
    wrong = lying(difference)
    assert world.each(lambda running: passed_over(world, running, wrong), lanes) == {
        lane.name: second_answers(lane) for lane in lanes
    }
    assert set(world.each(lambda running: failed(world, running, wrong), lanes).values()) == {
        UNAVAILABLE if difference > 0 else SENSELESS
    }


def _refused(url: str) -> str:
    port = refused_url().split(":")[2].split("/")[0]
    scheme, host, rest = url.split(":")
    _, _, path = rest.partition("/")
    return f"{scheme}:{host}:{port}/{path}"


@pytest.mark.parametrize("moved", [_refused, lambda url: url.replace("http:", "https:")], ids=["refused", "no TLS"])
def test_no_connection(hasty: World, moved: Callable[[str], str]) -> None:
    for running in hasty.running:
        running.provider.base_url = moved(running.provider.base_url)
        running.provider.save()
    reread_catalogue()
    assert set(hasty.each(lambda running: failed(hasty, running, None)).values()) == {UNAVAILABLE}


def test_an_upstreams_limit_is_waited_for(world: World) -> None:
    told = world.each(lambda running: world.ask(running, anywhere(BEHAVIOURS["status-429"])).headers["retry-after"])
    assert set(told.values()) <= {"7", "8"}


def test_a_callers_mistake_is_theirs(world: World) -> None:
    leaky = status(400, "Bad temperature (from http://10.1.2.3:8080/v1, key sk-fake-0123456789abcdefghijklmnop).")

    def mistaken(running: Running) -> tuple[tuple[int, str], list[str], int, int]:
        response = world.ask(running, anywhere(leaky), model=running.relieved)
        event = world.record(response)
        assert "10.1.2.3" not in response.text
        assert "sk-fake" not in response.text
        outcomes = [attempt.outcome for attempt in event.attempts]
        return failure(response), outcomes, event.units, len(running.upstream.requests)

    told = world.each(mistaken)
    assert told == dict.fromkeys(told, ((400, "invalid_request"), ["refused as invalid"], 0, 1))


def test_an_end_without_a_beginning(world: World) -> None:
    ends = {
        "compatible": b"data: [DONE]\n\n",
        "anthropic": b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
    }
    lanes = tuple(lane for lane in LANES if lane.framing == "sse" and lane.kind in ends)

    def only_ending(lane: Lane) -> Behaviour:
        return body(ends[lane.kind], content_type="text/event-stream")

    assert world.each(lambda running: passed_over(world, running, only_ending), lanes) == {
        lane.name: second_answers(lane) for lane in lanes
    }
    assert set(world.each(lambda running: failed(world, running, only_ending), lanes).values()) == {SENSELESS}


# Silence


def keeping_alive(lane: Lane) -> Behaviour:
    """Something comes all the time, and none of it is an answer. Whole answers have white space for that."""
    event = {"json": b" ", "sse": b": keep-alive\n\n", "aws": b""}[lane.framing]

    async def behaviour(call: Call) -> None:
        await begin(call, lane)
        opening = lane.parts(call)[:2] if lane.kind == "anthropic" and lane.streamed else []  # a message that begins
        opening = lane.parts(call)[:1] if lane.framing == "aws" else opening
        for part in opening:
            await call.part(part)
        for _ in range(200):
            await call.part(event or opening[0])
            await asyncio.sleep(0.1)

    return behaviour


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    monkeypatch.setattr(catalogue, "DEADLINES", HASTE)
    reread_catalogue()
    return world


SILENT: dict[str, Wrong] = {
    "before the head": anywhere(BEHAVIOURS["stall-before-head"]),
    "before the first byte": broken(silence, after=nothing),
    "in the first part": broken(silence, after=half_a_part),
}


def test_silence_is_passed_over_or_a_timeout(hasty: World) -> None:
    for name, wrong in SILENT.items():
        told = hasty.each(partial(passed_over, hasty, wrong=wrong))
        assert (name, told) == (name, {lane.name: second_answers(lane) for lane in LANES})
        assert (name, set(hasty.each(partial(failed, hasty, wrong=wrong)).values())) == (name, {LATE})


def test_signs_of_life_are_no_first_token(hasty: World) -> None:
    lanes = tuple(lane for lane in LANES if lane.framing != "json")
    assert hasty.each(lambda running: passed_over(hasty, running, keeping_alive), lanes) == {
        lane.name: second_answers(lane) for lane in lanes
    }
    took = hasty.each(lambda running: hasty.record(hasty.ask(running, keeping_alive)).duration_ms / 1000, lanes)
    assert {name for name, seconds in took.items() if not 0.4 < seconds < 2} == set()


def test_a_dripped_answer_ends_with_the_total(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=0.5, gap_s=0.5, total_s=0.8))
    reread_catalogue()
    lanes = tuple(lane for lane in LANES if lane.framing == "json")
    assert set(world.each(lambda running: failed(world, running, keeping_alive), lanes).values()) == {LATE}


def test_a_refusal_whose_body_never_ends_is_not_waited_for(hasty: World) -> None:
    """Its status has said it all."""

    async def behaviour(call: Call) -> None:
        await call.head(500, "Transfer-Encoding: chunked")
        for _ in range(100):
            await call.part(b" ")
            await asyncio.sleep(0.1)

    assert hasty.each(lambda running: passed_over(hasty, running, anywhere(behaviour))) == {
        lane.name: second_answers(lane) for lane in LANES
    }
    took = [attempt.duration_ms / 1000 for event in hasty.settle() for attempt in event.attempts]
    assert max(took) < 3
