"""What callers are told where no deployment answers, and which deployments are blamed for it."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import pytest

from billing.admission import limits
from inference import calls, health
from inference.breaker import State
from inference.providers.adapter import Unsupported
from tests.factories import MODEL, deploy
from tests.fakes.behaviours import status, stream
from tests.fakes.upstream import Upstream
from tests.inference.errors_told import error
from tests.inference.settled import notes, usage_events
from tests.stack import wait_for

HURRY = {"X-HelixFlow-Timeout": "0.4"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """The board is the process's, and so would be its budgets."""
    monkeypatch.setattr(health.board, "standings", {})
    monkeypatch.setattr(health.board, "_budgets", {})


def only_standing() -> health.Standing:
    (found,) = health.board.standings.values()
    return found


@pytest.mark.parametrize(("code", "least"), [(503, 40), (429, 40)])
def test_who_fails_is_told_when_it_may_be_asked_again(plane, deployment, token, upstream, code, least):
    upstream.script(status(code, "No.", "Retry-After: 40"))
    response = plane.chat(token)
    error(response, 503, "service_unavailable")
    assert least <= int(response.headers["retry-after"]) <= least * 1.1


def test_the_pause_is_that_of_the_first_to_come_back(plane, token, upstream):
    deploy(upstream, name="first")
    with Upstream() as other:
        deploy(other, name="second", priority=1)
        upstream.script(status(503, "No.", "Retry-After: 20"))
        other.script(status(429, "No.", "Retry-After: 200"))
        response = plane.chat(token)
    error(response, 503, "service_unavailable")
    assert 20 <= int(response.headers["retry-after"]) <= 22


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "said",
    [{"code": 429}, {"code": "rate_limit_exceeded"}, {"type": "rate_limit_error"}, {"status": "RESOURCE_EXHAUSTED"}],
)
def test_a_limit_that_is_told_in_the_answer_is_one(plane, deployment, token, upstream, said, streamed):
    body = json.dumps({"error": {"message": "Slow down."} | said}).encode()
    upstream.script(stream(b"data: " + body + b"\n\n") if streamed else _answer(body))
    error(plane.chat(token, stream=streamed), 503, "service_unavailable")
    assert only_standing().breaker.cut_off is State.LIMITED
    assert only_standing().failures == 0


def _answer(body: bytes):
    async def behaviour(call):
        await call.answer(body)

    return behaviour


@pytest.fixture
def unreachable() -> Iterator[str]:
    """Connecting to it takes for ever: its queue is full."""
    with socket.socket() as listener, socket.socket() as queued, socket.socket() as queued_too:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (queued, queued_too):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_caller_s_deadline_that_passes_while_connecting_is_no_failure(plane, token, unreachable, upstream, streamed):
    deploy(unreachable, name="first")
    deploy(upstream, name="second", priority=1)
    error(plane.chat(token, stream=streamed, headers=HURRY), 503, "timeout")
    assert only_standing().failures == 0
    assert only_standing().in_flight == 0
    assert not upstream.requests


def test_nor_is_one_that_passes_while_a_token_is_waited_for(plane, deployment, token, monkeypatch):
    async def wait(self, deployment, *, stream):
        await asyncio.sleep(10)

    monkeypatch.setattr(calls.ChatCall, "wire", wait)
    response = plane.chat(token, headers=HURRY)
    error(response, 503, "timeout")
    assert response.elapsed.total_seconds() < 3
    assert only_standing().failures == 0


def test_a_refusal_says_nothing_of_how_long_answers_take(plane, deployment, token, upstream):
    upstream.script("status-400")
    error(plane.chat(token), 400, "invalid_request")
    assert only_standing().latency_s is None
    assert only_standing().in_flight == 0


def test_what_one_can_t_do_is_not_refused_while_another_could_but_is_cut_off(plane, token, upstream, monkeypatch):
    deploy(upstream, name="unable")
    deploy(upstream, name="able", priority=1)
    upstream.script(status(503, "No.", "Retry-After: 30"), status(503, "No.", "Retry-After: 30"))
    plane.chat(token)
    unable = min(health.board.standings.values(), key=lambda each: each.breaker.failed_at)
    unable.breaker.close(health.board.clock())
    health.board.budget(MODEL)._left = 0.0

    async def wire(self, deployment, *, stream):
        raise Unsupported("messages", "It can't.")

    monkeypatch.setattr(calls.ChatCall, "wire", wire)
    response = plane.chat(token)
    error(response, 503, "service_unavailable")


@pytest.mark.parametrize("streamed", [False, True])
def test_who_leaves_while_admitted_under_a_key_is_settled(
    plane, deployment, token, organization, monkeypatch, streamed
):
    """Redis has counted by then, and nobody else would give it back."""
    entered: list[int] = []
    leave: list[int] = []
    ask = limits.admit

    async def slowly(*arguments):
        verdict = await ask(*arguments)
        entered.append(1)
        while not leave:
            await asyncio.sleep(0.01)
        return verdict

    monkeypatch.setattr(limits, "admit", slowly)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": streamed}).encode()
    host, port = plane.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nIdempotency-Key: order-4711\r\nContent-Length: %d\r\n\r\n%b"
            % (token.encode(), len(body), body)
        )
        wait_for(lambda: entered, what="it was not admitted")
    time.sleep(0.2)  # for the server to hear of it
    leave.append(1)
    wait_for(lambda: usage_events(organization) and not notes(organization), what="it was not settled")
    assert len(usage_events(organization)) == 1
