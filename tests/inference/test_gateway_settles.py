"""Whatever becomes of an admitted request, it is settled once, with what it produced, and its answer tells limits."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, transaction
from django.utils import timezone

from accounts import api_keys, generation
from accounts.models import Organization
from billing import events
from billing.admission import limits, redis_keys, snapshots
from billing.models import Plan, Subscription
from helixflow.lib import ids, pipelined_redis, redis
from inference import catalogue, relay
from inference.upstream import Deadlines
from tests.billing.admitting import current_month, read_stream
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import body, reshaped
from tests.fakes.upstream import refused_url
from tests.inference.settled import notes, usage_events, used
from tests.stack import wait_for

HEADERS = {
    f"x-ratelimit-{what}{whose}" for what in ("limit", "remaining", "reset") for whose in ("", "-month")
}  # fmt: skip


def outcomes(event):
    return [(attempt.deployment, attempt.outcome) for attempt in event.attempts]


def ended(response, event):
    """How it ended for both sides. Every answer to a key tells its limits."""
    assert {name.lower() for name in response.headers} >= HEADERS
    assert response.headers["x-request-id"] == ids.public_id(ids.REQUEST, event.id)
    return event.status, event.error_code, event.units


# It works


def test_a_completion(plane, deployment, token, organization, owner, settled):
    response = plane.chat(token, user="alice")
    event = settled()
    assert ended(response, event) == (200, "", 1)
    assert (event.organization_id, event.api_key_id) == (organization.id, organization.api_keys.get().id)
    assert (event.user_id, event.end_user, event.month) == (owner.id, "alice", current_month())
    assert (event.model, event.deployment, event.streamed) == (MODEL, "first", False)
    assert outcomes(event) == [("first", "ok")]
    assert (event.usage_source, event.tokens) == ("provider", events.Tokens(input=9, output=12))
    assert event.settled_by == "gateway"
    assert 0 < event.attempts[0].duration_ms <= event.duration_ms


def test_a_stream(plane, deployment, token, settled):
    response = plane.chat(token, stream=True)
    assert response.text.endswith("data: [DONE]\n\n")
    event = settled()
    assert ended(response, event) == (200, "", 1)
    assert (event.streamed, event.usage_source, event.tokens) == (True, "provider", events.Tokens(input=9, output=12))
    assert event.first_token_ms is not None
    assert event.first_token_ms <= event.duration_ms


def test_a_stream_that_was_put_together_for_a_caller_who_wants_none(plane, token, upstream, settled):
    deploy(upstream, stream_always=True)
    response = plane.chat(token)
    event = settled()
    assert ended(response, event) == (200, "", 1)
    assert (event.streamed, event.tokens) == (False, events.Tokens(input=9, output=12))


def test_classes_of_tokens_are_disjoint(plane, deployment, token, upstream, settled):
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 4},
    }
    upstream.script(body(json.dumps(answers.completion({}) | {"usage": usage}).encode()))
    plane.chat(token)
    expected = events.Tokens(
        input=35, cached_input=60, input_audio=5, output=16, reasoning=30, output_audio=4
    )  # fmt: skip
    assert settled().tokens == expected


@pytest.mark.parametrize("year", [2024, 2031])
def test_a_clock_that_jumps_changes_neither_limits_nor_durations(plane, deployment, token, settled, year):
    client: Any = redis.sync_client()
    before, _ = client.time()
    with time_machine.travel(datetime(year, 1, 1, tzinfo=UTC), tick=True):
        response = plane.chat(token)
    event = settled()
    assert ended(response, event) == (200, "", 1)
    assert event.month == current_month()
    assert before < int(response.headers["x-ratelimit-reset"]) <= client.time()[0] + 60
    assert 0 < event.duration_ms < 60_000


# Usage that nobody reports


def without_usage(frames):
    return [frame for frame in frames if b'"usage"' not in frame]


def test_usage_that_is_not_reported_is_estimated(plane, deployment, token, upstream, settled):
    answer = {name: value for name, value in answers.completion({}).items() if name != "usage"}
    upstream.script(body(json.dumps(answer).encode()))
    told = plane.chat(token).json()["usage"]
    event = settled()
    assert event.usage_source == "estimated"
    assert (event.tokens.input, event.tokens.output) == (told["prompt_tokens"], told["completion_tokens"])
    assert told["completion_tokens"] >= 1


def test_a_caller_who_asks_for_usage_gets_the_estimate(plane, deployment, token, upstream, settled):
    upstream.script(reshaped(without_usage))
    text = plane.chat(token, stream=True, stream_options={"include_usage": True}).text
    last = json.loads(text.split("\n\n")[-3].removeprefix("data: "))
    event = settled()
    assert (event.status, event.units, event.usage_source) == (200, 1, "estimated")
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], event.tokens.output)
    assert last["usage"]["prompt_tokens"] == event.tokens.input


def test_a_caller_who_does_not_ask_gets_none(plane, deployment, token, upstream, settled):
    upstream.script(reshaped(without_usage))
    assert '"usage"' not in plane.chat(token, stream=True).text
    assert settled().usage_source == "estimated"


def test_a_count_that_never_ran_is_estimated(plane, deployment, token, upstream, settled):
    """Some report usage from the first chunk on, all zeros until the end; this stream has none."""

    def counting(frames):
        zeros = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
        chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in without_usage(frames)[:-1]]
        return [b"data: " + json.dumps(chunk | {"usage": zeros}).encode() + b"\n\n" for chunk in chunks[:-1]]

    upstream.script(reshaped(counting))
    assert '"error"' in plane.chat(token, stream=True).text
    event = settled()
    assert event.usage_source == "estimated"
    assert event.tokens.output > 0


# Upstreams that fail


def test_the_second_deployment_answers(plane, token, upstream, settled):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script("status-500")
    response = plane.chat(token)
    event = settled()
    assert ended(response, event) == (200, "", 1)
    assert outcomes(event) == [("first", "status 500"), ("second", "ok")]
    assert event.deployment == "second"


def test_another_deployment_is_not_tried_for_ever(plane, token, upstream, settled, monkeypatch):
    monkeypatch.setattr(relay, "RETRY_WITHIN_S", 0)
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script("status-500")
    response = plane.chat(token)
    assert ended(response, settled()) == (503, "service_unavailable", 0)
    assert len(upstream.requests) == 1


def test_what_is_sent_again_is_an_attempt_of_its_own(plane, deployment, token, upstream, organization):
    """A kept connection that ends before any answer: the upstream may have seen the request on both."""
    plane.chat(token)
    upstream.script("reset-before-head")
    response = plane.chat(token)
    wait_for(lambda: len(usage_events(organization)) == 2)
    event = usage_events(organization)[-1]
    assert ended(response, event) == (200, "", 1)
    assert outcomes(event) == [("first", relay.REPEATED), ("first", "ok")]
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_all_fail(plane, token, settled, stream):
    deploy(refused_url(), name="dead", priority=0)
    deploy(refused_url(), name="dead-too", priority=1)
    response = plane.chat(token, stream=stream)
    event = settled()
    assert ended(response, event) == (503, "service_unavailable", 0)
    assert [name for name, _ in outcomes(event)] == ["dead", "dead-too"]
    assert (event.usage_source, event.tokens, event.deployment) == ("none", events.Tokens(), "")


@pytest.mark.parametrize(("behaviour", "stream"), [("stall-before-head", False), ("stall-before-first", True)])
def test_a_timeout_before_the_first_byte(plane, deployment, token, upstream, settled, monkeypatch, behaviour, stream):
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=0.3, gap_s=0.3, total_s=5))
    reread_catalogue()
    upstream.script(behaviour)
    response = plane.chat(token, stream=stream)
    event = settled()
    assert ended(response, event) == (503, "timeout", 0)
    assert len(event.attempts) == 1
    assert event.attempts[0].outcome.startswith("UpstreamTimeout")


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("cut-fin", 503, "service_unavailable"),
        ("cut-reset", 503, "service_unavailable"),
        ("garbage-frame", 500, "server_error"),
        ("error-frame", 503, "service_unavailable"),
        ("stall-in-the-middle", 503, "timeout"),
    ],
)
def test_an_error_within_a_stream_keeps_the_unit(
    plane, deployment, token, upstream, settled, monkeypatch, behaviour, status, code
):
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=5, gap_s=0.3, total_s=9))
    reread_catalogue()
    upstream.script(behaviour)
    response = plane.chat(token, stream=True)
    assert response.status_code == 200
    assert f'"code":"{code}"' in response.text.replace(" ", "")
    event = settled()
    assert ended(response, event) == (status, code, 1)
    assert len(event.attempts) == 1
    assert event.attempts[0].outcome != "ok"
    assert event.usage_source == "estimated"
    assert event.tokens.input > 0


# Requests that never reach one


def test_an_invalid_body(plane, deployment, token, settled):
    response = plane.chat(token, b"{", headers={"Content-Type": "application/json"})
    event = settled()
    assert ended(response, event) == (400, "invalid_request", 0)
    assert (event.model, event.attempts, event.tokens) == ("", [], events.Tokens())


def test_a_wrong_content_type(plane, deployment, token, settled):
    response = plane.chat(token, b"{}", headers={"Content-Type": "text/plain"})
    assert ended(response, settled()) == (415, "invalid_request", 0)


def test_a_model_that_is_not_on_the_key_s_list(plane, deployment, organization, owner, settled):
    narrow = api_keys.create(organization=organization, user=owner, name="narrow", models=["gpt-4"])[1]
    response = plane.chat(narrow)
    event = settled()
    assert ended(response, event) == (403, "authorization_failed", 0)
    assert event.model == MODEL


def test_an_unknown_model(plane, deployment, token, settled):
    response = plane.chat(token, model="nope")
    event = settled()
    assert ended(response, event) == (404, "model_not_found", 0)
    assert event.model == "nope"


def test_what_the_upstream_refuses_as_the_caller_s_mistake(plane, deployment, token, upstream, settled):
    upstream.script("status-400")
    response = plane.chat(token)
    event = settled()
    assert ended(response, event) == (400, "invalid_request", 0)
    assert outcomes(event) == [("first", "refused as invalid")]


def test_a_disabled_organization(plane, deployment, token, organization, settled):
    with transaction.atomic():
        Organization.objects.filter(id=organization.id).update(disabled_at=timezone.now())
        generation.bump(organization.id)
    assert ended(plane.chat(token), settled()) == (403, "authorization_failed", 0)


def test_a_refusal_leaves_nothing_of_an_admission_that_was_not_heard_of(
    plane, deployment, token, organization, settled, monkeypatch
):
    """Redis answers too late, and by then the key must be read again, which PostgreSQL does not allow."""
    assert plane.chat(token).status_code == 200
    settled()
    run = pipelined_redis.Prepared.run

    async def too_late(self, last):
        await run(self, last)
        raise redis.RedisError("no reply in time")

    def away(token):
        raise OperationalError("connection refused")

    monkeypatch.setattr(pipelined_redis.Prepared, "run", too_late)
    monkeypatch.setattr(limits, "MAX_AGE_S", -1.0)
    monkeypatch.setattr(snapshots, "load", away)
    assert plane.chat(token).status_code == 503
    settled()


def test_a_refused_request_leaves_no_record(plane, deployment, token, organization):
    plan = Plan.objects.create(slug="enterprise", name="Enterprise")
    Subscription.objects.create(
        organization=organization, plan=plan, requests_per_minute=0, requests_per_month=10, max_parallel=1
    )
    response = plane.chat(token)
    assert response.status_code == 429
    assert {name.lower() for name in response.headers} >= HEADERS

    def told():
        return [entry.event for _, entry in read_stream(redis.shard_tag(organization.id))]

    wait_for(told)
    assert [(type(event), event.count, event.reason) for event in told()] == [(events.Refused, 1, "minute")]
    assert (notes(organization), used(organization)) == ([], 0)


# Callers who leave


@contextmanager
def calling(plane, token, *, stream: bool, sent_share: float = 1.0) -> Iterator[socket.socket]:
    """A caller on a socket; leaving the block is leaving the call."""
    message = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    sent = json.dumps(message).encode()
    host, port = plane.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (token.encode(), len(sent))
        )
        caller.sendall(sent[: int(len(sent) * sent_share)])
        yield caller


def read_until(caller: socket.socket, text: bytes) -> None:
    received = b""
    while text not in received:
        part = caller.recv(4096)
        assert part, received
        received += part


def test_a_caller_who_leaves_within_a_stream_pays_for_what_was_produced(
    plane, deployment, token, upstream, settled, organization
):
    upstream.script("stall-in-the-middle")
    with calling(plane, token, stream=True) as caller:
        read_until(caller, b"Hello")
        wait_for(lambda: notes(organization))
    event = settled()
    assert (event.status, event.error_code, event.units) == (499, "client_disconnected", 1)
    assert (event.streamed, event.usage_source) == (True, "estimated")
    assert event.tokens.input > 0
    assert event.tokens.output >= 1
    assert [name for name, _ in outcomes(event)] == ["first"]


@pytest.mark.parametrize(("behaviour", "stream"), [("stall-before-head", False), ("stall-before-first", True)])
def test_a_caller_who_leaves_before_the_first_byte_gets_the_unit_back(
    plane, deployment, token, upstream, settled, behaviour, stream
):
    upstream.script(behaviour)
    with calling(plane, token, stream=stream):
        wait_for(lambda: upstream.requests)
    event = settled()
    assert (event.status, event.error_code, event.units) == (499, "client_disconnected", 0)
    assert outcomes(event) == [("first", "left")]
    assert event.usage_source == "none"


def test_a_caller_who_leaves_within_the_body_gets_the_unit_back(plane, deployment, token, settled, organization):
    with calling(plane, token, stream=False, sent_share=0.5):
        wait_for(lambda: notes(organization))
    event = settled()
    assert (event.status, event.units, event.attempts) == (499, 0, [])


def test_while_it_lasts_its_note_says_how_far_it_got(plane, deployment, token, upstream, organization, settled):
    upstream.script("stall-in-the-middle")
    client: Any = redis.sync_client()
    name = redis_keys.notes(redis.shard_tag(organization.id))
    with calling(plane, token, stream=True) as caller:
        read_until(caller, b"Hello")
        wait_for(lambda: any(b'"answering":true' in text for text in client.hvals(name)))
    assert settled().units == 1
