"""POST /v1/chat/completions when upstreams fail, before the first byte and after it."""

import json

import pytest

from inference import catalogue
from inference.upstream import Deadlines
from tests.factories import deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import LEAKY_ADDRESS, LEAKY_KEY
from tests.fakes.upstream import refused_url
from tests.inference.errors_told import error

# What upstreams do wrong, before the first byte


@pytest.mark.parametrize(
    "behaviour",
    [
        "status-500",
        "status-503",
        "html-502",
        "status-401",
        "status-429",
        "not-json",
        "close-before-head",
        "reset-before-head",
        "redirect",
        "truncated-json",
        "endless-line",
        "empty",
        "not-http",
        "bad-chunk",
        "compressed",
        "length-long",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_deployment_is_passed_over(plane, token, upstream, behaviour, stream):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script(behaviour)
    response = plane.chat(token, stream=stream)
    assert response.status_code == 200, response.text
    assert response.headers["x-helixflow-upstream"] == "second"
    assert answers.TEXT[:5] in response.text


def test_a_refused_connection_is_passed_over(plane, token, upstream):
    deploy(refused_url(), name="dead", priority=0)
    deploy(upstream, name="alive", priority=1)
    assert plane.chat(token).headers["x-helixflow-upstream"] == "alive"


@pytest.mark.parametrize("stream", [False, True])
def test_when_all_fail_it_is_503_with_retry_after(plane, token, stream):
    deploy(refused_url(), name="dead")
    deploy(refused_url(), name="dead-too")
    response = plane.chat(token, stream=stream)
    error(response, 503, "service_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert "127.0.0.1" not in response.text


def test_an_upstream_s_429_is_not_the_caller_s(plane, deployment, token, upstream):
    upstream.script("status-429")
    response = plane.chat(token)
    error(response, 503, "service_unavailable")
    assert int(response.headers["retry-after"]) >= 1


def test_an_answer_that_makes_no_sense_is_500(plane, deployment, token, upstream):
    upstream.script("not-json")
    error(plane.chat(token), 500, "server_error")


def test_a_caller_s_mistake_is_told_once_and_without_addresses_or_keys(plane, token, upstream):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script("status-400")
    response = plane.chat(token)
    found = error(response, 400, "invalid_request")
    assert found["message"]
    assert LEAKY_KEY not in response.text
    assert LEAKY_ADDRESS not in response.text
    assert "10.1.2.3" not in response.text
    assert len(upstream.requests) == 1


def test_a_silent_upstream_is_a_timeout(plane, deployment, token, upstream, monkeypatch):
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=0.3, gap_s=0.3, total_s=5))
    reread_catalogue()
    upstream.script("stall-before-head")
    error(plane.chat(token), 503, "timeout")
    upstream.script("stall-before-first")
    error(plane.chat(token, stream=True), 503, "timeout")


# … and after it


def in_stream_error(response):
    """The error of a stream that began well: the last frame, and no [DONE]."""
    assert response.status_code == 200
    text = response.content
    assert b"[DONE]" not in text
    last = text.split(b"\n\n")[-2]
    return json.loads(last.removeprefix(b"data: "))["error"]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("cut-fin", "service_unavailable"),
        ("cut-reset", "service_unavailable"),
        ("garbage-frame", "server_error"),
        ("error-frame", "service_unavailable"),
        ("stall-in-the-middle", "timeout"),
    ],
)
def test_an_error_after_the_first_byte_ends_the_stream(
    plane, deployment, token, upstream, behaviour, code, monkeypatch
):
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=2, gap_s=0.3, total_s=5))
    reread_catalogue()
    upstream.script(behaviour)
    response = plane.chat(token, stream=True)
    found = in_stream_error(response)
    assert found["code"] == code
    assert found["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "behaviour", ["crlf", "cr", "comments", "bytewise", "no-done", "no-last-blank-line", "no-space"]
)
def test_odd_streams_whose_meaning_is_clear_are_tolerated(plane, deployment, token, upstream, behaviour):
    upstream.script(behaviour)
    response = plane.chat(token, stream=True)
    text = response.content.decode()
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(f.removeprefix("data: ")) for f in text.split("\n\n")[:-2]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == answers.TEXT
