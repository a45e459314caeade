"""A request that is sent again under its Idempotency-Key: one call upstream, one record, the same answer."""

import asyncio
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import transaction

from accounts import api_keys, generation
from billing.models import Plan, Subscription
from tests.factories import MODEL
from tests.fakes.behaviours import Call, normal
from tests.inference.errors_told import error
from tests.inference.settled import usage_events, used
from tests.stack import wait_for

ONCE = {"Idempotency-Key": "order-4711"}


def limit_to(organization, per_minute):
    plan, _ = Plan.objects.get_or_create(slug="test", defaults={"name": "Test"})
    Subscription.objects.create(
        organization=organization, plan=plan, requests_per_minute=per_minute, requests_per_month=1000
    )


@pytest.mark.parametrize("stream", [False, True])
def test_ten_at_once_are_one(plane, deployment, token, upstream, organization, settled, stream):
    upstream.script("drip" if stream else "normal")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: plane.chat(token, headers=ONCE, stream=stream), range(10)))
        bodies = {answer.content for answer in answers}
    assert {answer.status_code for answer in answers} == {200}
    assert len(bodies) == 1
    assert len({answer.headers["content-type"] for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 10
    assert {answer.headers["x-helixflow-upstream"] for answer in answers} == {"first"}
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == [""] + ["true"] * 9
    assert len(upstream.requests) == 1
    assert settled().units == 1


def test_a_retry_costs_nothing(plane, deployment, token, organization, settled):
    limit_to(organization, 5)
    first = plane.chat(token, headers=ONCE)
    again = plane.chat(token, headers=ONCE)
    assert again.content == first.content
    left = "x-ratelimit-remaining-month"
    assert again.headers[left] == first.headers[left]
    settled()


def test_a_retry_is_answered_at_the_rate_limit_too(plane, deployment, token, organization):
    limit_to(organization, 1)
    first = plane.chat(token, headers=ONCE)
    error(plane.chat(token), 429, "rate_limit_exceeded")
    assert plane.chat(token, headers=ONCE).content == first.content


def test_a_refused_first_request_leaves_its_key_free(plane, deployment, token, organization, upstream):
    limit_to(organization, 0)
    error(plane.chat(token, headers=ONCE), 429, "rate_limit_exceeded")
    with transaction.atomic():
        Subscription.objects.filter(organization=organization).update(requests_per_minute=10)
        generation.bump(organization.id)
    assert plane.chat(token, headers=ONCE).status_code == 200
    assert len(upstream.requests) == 1


def test_another_body_under_the_same_key_is_refused(plane, deployment, token, upstream):
    plane.chat(token, headers=ONCE)
    response = plane.chat(token, headers=ONCE, temperature=0.5)
    error(response, 400, "invalid_request")
    assert "x-ratelimit-limit" in response.headers
    assert len(upstream.requests) == 1


def test_keys_of_two_api_keys_are_apart(plane, deployment, token, organization, owner, upstream):
    _, other = api_keys.create(organization=organization, user=owner, name="other")
    assert plane.chat(token, headers=ONCE).content != plane.chat(other, headers=ONCE).content
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "ü"])
def test_a_key_that_is_none_is_refused(plane, deployment, token, upstream, key):
    response = plane.chat(token, headers={"Idempotency-Key": key.encode("latin-1")})
    assert "Idempotency-Key" in error(response, 400, "invalid_request")["message"]
    assert not upstream.requests


@pytest.mark.parametrize(("behaviour", "status"), [("status-500", 503), ("status-400", 400)])
def test_a_failure_frees_the_key(plane, deployment, token, upstream, organization, behaviour, status):
    upstream.script(behaviour)
    assert plane.chat(token, headers=ONCE).status_code == status
    assert plane.chat(token, headers=ONCE).status_code == 200
    wait_for(lambda: len(usage_events(organization)) == 2, what="they were not settled")
    assert used(organization) == 1


def test_a_stream_that_broke_off_is_not_kept(plane, deployment, token, upstream):
    upstream.script("cut-fin")
    assert b"[DONE]" not in plane.chat(token, headers=ONCE, stream=True).content
    assert plane.chat(token, headers=ONCE, stream=True).content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_of_a_caller_who_left_is_finished_and_kept(plane, deployment, token, upstream, settled, stream):
    arrived: list[int] = []
    leave: list[int] = []

    async def slowly(call: Call) -> None:
        arrived.append(1)
        while not leave:
            await asyncio.sleep(0.01)
        await normal(call)

    upstream.script(slowly)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}).encode()
    address = plane.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((address[0], int(address[1]))) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nIdempotency-Key: order-4711\r\nContent-Length: %d\r\n\r\n%b"
            % (token.encode(), len(body), body)
        )
        wait_for(lambda: arrived, what="the upstream was not asked")
    leave.append(1)
    assert settled().status == 200
    again = plane.chat(token, body, headers=ONCE | {"Content-Type": "application/json"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.status_code == 200
    assert len(upstream.requests) == 1
    assert not upstream.disconnects


def test_an_invalid_body_costs_what_it_costs_without_a_key(plane, deployment, token, organization):
    response = plane.chat(token, b"{", headers=ONCE | {"Content-Type": "application/json"})
    error(response, 400, "invalid_request")
    assert response.headers["x-ratelimit-remaining"] == "99"


def test_a_bad_key_is_refused_before_its_body(plane, deployment):
    error(plane.chat("hflow_nonsense", b"{", headers=ONCE), 401, "invalid_api_key")


def test_revocation_holds_for_retries(plane, deployment, token, organization, owner):
    plane.chat(token, headers=ONCE)
    api_keys.revoke(key=organization.api_keys.get(), user=owner)
    error(plane.chat(token, headers=ONCE), 401, "invalid_api_key")


# The response cache


@pytest.fixture
def caching(organization):
    organization.cache_ttl_s = 600
    organization.save()


def without_what_is_its_own(body):
    return re.sub(r'"chatcmpl-\w+"|"created":\d+', "", body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_is_the_answer_again_at_no_cost(plane, deployment, caching, token, upstream, organization, stream):
    first = plane.chat(token, stream=stream, temperature=0)
    assert first.headers["x-helixflow-cache"] == "miss"
    text = first.content

    def hit():
        return plane.chat(token, stream=stream, temperature=0)

    wait_for(lambda: hit().headers["x-helixflow-cache"] == "hit", what="it was not cached")
    again = hit()
    assert f'"chatcmpl-{again.headers["x-request-id"].removeprefix("req_")}"' in again.text
    assert without_what_is_its_own(again.text) == without_what_is_its_own(text.decode())
    assert again.headers["content-type"] == first.headers["content-type"]
    left = "x-ratelimit-remaining-month"  # not of the minute, which may have changed
    assert len(upstream.requests) < int(first.headers[left]) - int(again.headers[left]) + 1

    def from_cache():
        return [event for event in usage_events(organization) if event.deployment == "cache"]

    wait_for(from_cache, what="it was not settled")
    event = from_cache()[0]
    assert (event.units, event.tokens.items(), event.attempts, event.usage_source) == (1, (), [], "none")


def test_what_may_differ_is_not_cached(plane, deployment, caching, token, upstream):
    for _ in range(2):
        assert "x-helixflow-cache" not in plane.chat(token).headers
    assert len(upstream.requests) == 2


def test_nothing_is_cached_unless_the_organization_asks(plane, deployment, token, upstream):
    for _ in range(2):
        assert "x-helixflow-cache" not in plane.chat(token, temperature=0).headers
    assert len(upstream.requests) == 2


def test_no_store_neither_reads_nor_writes(plane, deployment, caching, token, upstream):
    for _ in range(3):
        response = plane.chat(token, temperature=0, headers={"Cache-Control": "no-store"})
        assert "x-helixflow-cache" not in response.headers
    assert plane.chat(token, temperature=0).headers["x-helixflow-cache"] == "miss"
    assert len(upstream.requests) == 4
