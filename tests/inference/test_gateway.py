"""POST /v1/chat/completions on a real socket: who may call, what is answered, what it says when something is wrong."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection

import pytest
import requests
from django.db import transaction
from django.utils import timezone

from accounts import api_keys, generation, keys
from accounts.models import Organization
from billing.models import Plan, Subscription
from inference import responder
from inference.models import Model
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import stream
from tests.inference.errors_told import error

# What works


def test_it_answers_as_the_reference_prints(plane, deployment, token, upstream):
    response = plane.chat(token)
    assert response.status_code == 200
    answer = response.json()
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", MODEL)
    assert answer["choices"][0]["message"]["content"] == answers.TEXT
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == answers.USAGE
    assert upstream.last.json["model"] == f"upstream-{MODEL}"
    assert upstream.last.headers["authorization"] == "Bearer sk-provider-secret-0123456789"


def test_every_answer_carries_its_headers(plane, deployment, token):
    headers = plane.chat(token).headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-helixflow-upstream"] == "first"
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("100", "99")
    assert int(headers["x-ratelimit-reset"]) % 60 == 0


def test_a_completion_is_found_by_its_request_and_the_reverse(plane, deployment, token):
    response = plane.chat(token)
    assert response.json()["id"].removeprefix("chatcmpl-") == response.headers["x-request-id"].removeprefix("req_")


def test_nothing_of_the_upstream_s_own_making_leaks(plane, deployment, token):
    for options in ({}, {"stream": True}):
        text = plane.chat(token, **options).text
        assert answers.UPSTREAM_ID not in text
        assert answers.UPSTREAM_MODEL not in text
        assert all(name not in text for name in answers.VENDOR_FIELDS)


def test_it_streams_as_the_reference_prints(plane, deployment, token):
    response = plane.chat(token, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-helixflow-upstream"] == "first"
    assert response.headers["x-ratelimit-remaining"] == "99"
    *frames, last, nothing = response.content.split(b"\n\n")
    assert (last, nothing) == (b"data: [DONE]", b"")
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == answers.TEXT
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_is_streamed_only_if_asked_for_and_always_asked_of_the_upstream(plane, deployment, token, upstream):
    plain = plane.chat(token, stream=True).text
    assert upstream.last.json["stream_options"] == {"include_usage": True}
    asked = plane.chat(token, stream=True, stream_options={"include_usage": True}).text
    assert '"total_tokens"' not in plain
    assert '"total_tokens":21' in asked


def test_the_connection_to_the_upstream_is_kept(plane, deployment, token, upstream):
    for options in ({}, {"stream": True}, {}, {"stream": True}):
        assert plane.chat(token, **options).content
    assert upstream.accepted == 1


def test_a_provider_that_needs_a_stream_gets_one_and_the_caller_one_answer(plane, token, upstream):
    deploy(upstream, stream_always=True)
    answer = plane.chat(token).json()
    assert upstream.last.json["stream"] is True
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == answers.TEXT
    assert answer["usage"] == answers.USAGE


# Who may call


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic abc", "hflow_" + "a" * 49, "Bearer  "],
)
def test_it_requires_credentials(plane, deployment, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    response = plane.chat(None, headers=headers)
    error(response, 401, "authentication_failed")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token",
    [
        "hflow_" + "a" * 49,
        "' OR 1=1 --",
        "hflow_" + "a" * 8000,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "unknown, but well formed",
        "sk-proj-something",
    ],
)
def test_it_refuses_a_key_that_is_none(plane, deployment, token):
    response = plane.chat(keys.generate() if token.startswith("unknown") else token)
    error(response, 401, "invalid_api_key")
    assert "x-ratelimit-limit" not in response.headers


def test_lower_case_bearer_is_bearer(plane, deployment, token):
    assert plane.chat(None, headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_a_key_in_the_query_string_is_no_credential(plane, deployment, token):
    response = requests.post(f"{plane.url}/chat/completions?api_key={token}&key={token}", json={}, timeout=5)
    error(response, 401, "authentication_failed")


def test_401_wins_over_400(plane, deployment):
    error(plane.chat(keys.generate(), b"{"), 401, "invalid_api_key")


def test_a_revoked_key_is_refused_on_the_next_request(plane, deployment, token, owner, organization):
    assert plane.chat(token).status_code == 200
    api_keys.revoke(key=organization.api_keys.get(), user=owner)
    assert "revoked" in error(plane.chat(token), 401, "invalid_api_key")["message"]


def test_a_rotated_key_works_through_its_grace_and_the_new_one_at_once(plane, deployment, token, owner, organization):
    new = api_keys.rotate(key=organization.api_keys.get(), user=owner, grace=timedelta(days=1))[1]
    assert plane.chat(token).status_code == plane.chat(new).status_code == 200


@pytest.mark.parametrize("field", ["disabled_at", "deletion_due_at"])
def test_a_disabled_organization_is_403(plane, deployment, token, organization, field):
    plane.chat(token)
    with transaction.atomic():
        Organization.objects.filter(id=organization.id).update(**{field: timezone.now()})
        generation.bump(organization.id)
    told = error(plane.chat(token), 403, "authorization_failed")["message"]
    assert told == "This organization is disabled, or is to be deleted: see its dashboard."


def test_a_model_that_is_not_on_the_key_s_list_is_403(plane, deployment, organization, owner):
    other = api_keys.create(organization=organization, user=owner, name="narrow", models=["gpt-4"])[1]
    assert error(plane.chat(other), 403, "authorization_failed")["param"] == "model"


def test_an_unknown_model_is_404(plane, deployment, token):
    found = error(plane.chat(token, model="nope"), 404, "model_not_found")
    assert found["param"] == "model"


def test_a_model_offered_to_others_does_not_exist_for_me(plane, deployment, token, organization, outsider):
    model = Model.objects.get(name=MODEL)
    model.only_for.add(outsider.memberships.get().organization)
    reread_catalogue()
    error(plane.chat(token), 404, "model_not_found")
    model.only_for.add(organization)
    reread_catalogue()
    assert plane.chat(token).status_code == 200


def test_a_disabled_model_deployment_or_provider_is_404(plane, deployment, token):
    for thing in (deployment, deployment.provider, deployment.model):
        type(thing).objects.filter(pk=thing.pk).update(enabled=False)
        reread_catalogue()
        error(plane.chat(token), 404, "model_not_found")
        type(thing).objects.filter(pk=thing.pk).update(enabled=True)


# What is asked


def test_only_post(plane, token):
    response = requests.get(f"{plane.url}/chat/completions", headers={"Authorization": f"Bearer {token}"}, timeout=5)
    error(response, 405, "invalid_request")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_only_json(plane, deployment, token, content_type):
    error(plane.chat(token, b"{}", headers={"Content-Type": content_type}), 415, "invalid_request")


def test_no_compressed_bodies(plane, deployment, token):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    error(plane.chat(token, b"{}", headers=headers), 415, "invalid_request")


def test_a_body_over_10_mib_is_refused_by_its_length(plane, deployment, token):
    headers = {"Content-Type": "application/json"}
    error(plane.chat(token, b" " * (10 * 1024 * 1024 + 1), headers=headers), 413, "invalid_request")


def test_a_chunked_body_over_10_mib_is_refused_too(plane, deployment, token):
    response = requests.post(
        f"{plane.url}/chat/completions",
        data=(b" " * 65536 for _ in range(200)),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        timeout=20,
    )
    error(response, 413, "invalid_request")


def test_a_body_that_drips_is_not_waited_for_without_end(plane, deployment, token, monkeypatch):
    monkeypatch.setattr(responder, "BODY_S", -1.0)
    caller = HTTPConnection(plane.url.removeprefix("http://").removesuffix("/v1"), timeout=5)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Content-Length": "99"}
    caller.request("POST", "/v1/chat/completions", b"{", headers)
    answer = caller.getresponse()
    assert answer.status == 400
    assert json.load(answer)["error"]["message"].startswith("The body did not arrive")
    caller.close()


def test_an_invalid_body_names_the_field_and_costs_a_unit_of_the_minute(plane, deployment, token, upstream):
    response = plane.chat(token, temperature="10")
    found = error(response, 400, "invalid_request")
    assert found["param"] == "temperature"
    assert "temperature" in found["details"]
    assert response.headers["x-ratelimit-remaining"] == "99"
    assert plane.chat(token).headers["x-ratelimit-remaining"] == "98"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "extra_headers", "headers", "organization"])
def test_nothing_in_a_body_reaches_the_upstream_s_address_or_credentials(plane, deployment, token, upstream, field):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], field: "http://169.254.169.254/"}
    found = error(plane.chat(token, body), 400, "invalid_request")
    assert field in found["message"]
    assert upstream.requests == []


def test_a_caller_s_request_id_is_never_echoed(plane, deployment, token):
    response = plane.chat(token, headers={"X-Request-ID": "mine"})
    assert response.headers["x-request-id"].startswith("req_")


# Limits


def test_100_parallel_at_a_limit_of_10_pass_exactly_10(plane, deployment, token, organization, upstream):
    plan = Plan.objects.create(slug="enterprise", name="Enterprise")
    Subscription.objects.create(organization=organization, plan=plan, requests_per_minute=10)
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda _: plane.chat(token), range(100)))
    passed = [r for r in responses if r.status_code == 200]
    refused = [r for r in responses if r.status_code == 429]
    assert (len(passed), len(refused)) == (10, 90)
    assert len(upstream.requests) == 10
    for response in refused:
        error(response, 429, "rate_limit_exceeded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.headers["x-ratelimit-remaining"] == "0"


# Callers who leave


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_stops_the_upstream_within_a_second(plane, deployment, token, upstream, stream):
    upstream.script("drip" if stream else "stall-before-head")
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
    host, port = plane.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=5) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token.encode(), len(body), body)
        )
        if stream:
            assert b"200 OK" in caller.recv(4096)
        else:
            while not upstream.requests:
                threading.Event().wait(0.01)
        left = time.monotonic()
    assert upstream.disconnected.wait(2)
    assert upstream.disconnects[0] - left < 1


def test_last_use_is_recorded_at_shutdown_at_the_latest(plane, deployment, token, organization):
    plane.chat(token)
    plane.gateway._record_uses()
    assert organization.api_keys.get().last_used_at is not None


def test_openai_itself_gets_the_limit_by_its_newer_name(plane, token, upstream):
    deploy(upstream, kind="openai")
    plane.chat(token)
    assert "max_tokens" not in upstream.last.json
    assert upstream.last.json["max_completion_tokens"] == 150


def test_a_stream_that_comes_all_at_once_is_passed_on_whole(plane, deployment, token, upstream):
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%d "},"finish_reason":null}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    upstream.script(stream(b"".join(chunk % number for number in range(3000)) + end))
    frames = plane.chat(token, stream=True).content.split(b"\n\n")
    assert frames[-2:] == [b"data: [DONE]", b""]
    deltas = [json.loads(frame.removeprefix(b"data: "))["choices"][0]["delta"] for frame in frames[:-2]]
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(f"{number} " for number in range(3000))
