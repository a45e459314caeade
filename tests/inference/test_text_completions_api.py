"""POST /v1/completions on a real socket: as chat, with texts in place of messages."""

import json

import pytest

from accounts import api_keys
from billing import events
from helixflow.lib import ids
from inference.models import Model
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import body, stream
from tests.inference.errors_told import error


def chunks(response):
    *frames, last, nothing = response.content.split(b"\n\n")
    assert (last, nothing) == (b"data: [DONE]", b"")
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames]


def test_it_answers_as_openai_does(plane, deployment, token, upstream):
    response = plane.complete(token, prompt="Say hello")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["object"], answer["model"]) == ("text_completion", MODEL)
    assert answer["id"].removeprefix("cmpl-") == response.headers["x-request-id"].removeprefix("req_")
    assert answer["choices"] == [{"text": answers.TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == answers.USAGE
    assert upstream.last.path == "/v1/completions"
    assert upstream.last.json == {"model": f"upstream-{MODEL}", "prompt": "Say hello", "max_tokens": 16}


def test_every_answer_carries_its_headers(plane, deployment, token):
    headers = plane.complete(token).headers
    assert headers["x-helixflow-upstream"] == "first"
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("100", "99")


def test_it_streams(plane, deployment, token, upstream):
    response = plane.complete(token, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = chunks(response)
    assert {chunk["object"] for chunk in found} == {"text_completion"}
    assert {chunk["id"] for chunk in found} == {
        response.headers["x-request-id"].replace(ids.REQUEST, ids.TEXT_COMPLETION)
    }
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == answers.TEXT
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in found)
    assert upstream.last.json["stream_options"] == {"include_usage": True}


def test_usage_is_streamed_if_asked_for(plane, deployment, token):
    *found, last = chunks(plane.complete(token, stream=True, stream_options={"include_usage": True}))
    assert (last["choices"], last["usage"]) == ([], answers.USAGE)
    assert all(chunk["usage"] is None for chunk in found)


@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_of_the_upstream_s_own_making_leaks(plane, deployment, token, streamed):
    text = plane.complete(token, stream=streamed).text
    assert answers.UPSTREAM_MODEL not in text
    assert "cmpl-upstream" not in text
    assert all(name not in text for name in answers.VENDOR_FIELDS)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_ledger_is_told(plane, deployment, token, settled, streamed):
    assert plane.complete(token, stream=streamed, user="alice").content
    event = settled()
    assert (event.status, event.units, event.model, event.streamed, event.end_user) == (
        200,
        1,
        MODEL,
        streamed,
        "alice",
    )
    assert (event.usage_source, event.tokens) == ("provider", events.Tokens(input=9, output=12))
    assert [(attempt.deployment, attempt.outcome) for attempt in event.attempts] == [("first", "ok")]


@pytest.mark.parametrize("n", [1, 2])
def test_a_provider_that_needs_a_stream_gets_one_and_the_caller_one_answer(plane, token, upstream, n):
    deploy(upstream, stream_always=True)
    answer = plane.complete(token, prompt=["one", "two"], n=n).json()
    assert upstream.last.json["stream"] is True
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * n))
    assert {choice["text"] for choice in answer["choices"]} == {answers.TEXT}
    assert answer["usage"] == answers.USAGE


def test_the_best_of_several_is_never_streamed(plane, token, upstream):
    deploy(upstream, stream_always=True)
    assert plane.complete(token, best_of=3).status_code == 200
    assert "stream" not in upstream.last.json


def test_usage_that_is_not_reported_is_estimated(plane, deployment, token, upstream, settled):
    upstream.script(body(b'{"choices": [{"text": "12345678"}]}'))
    answer = plane.complete(token, prompt=[1, 2, 3]).json()
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    event = settled()
    assert (event.usage_source, event.tokens) == ("estimated", events.Tokens(input=3, output=2))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("behaviour", ["status-500", "not-json", "close-before-head", "status-429", "empty"])
def test_a_failing_deployment_is_passed_over(plane, token, upstream, behaviour, streamed):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script(behaviour)
    response = plane.complete(token, stream=streamed)
    assert response.headers["x-helixflow-upstream"] == "second"
    assert answers.TEXT[:5] in response.text


@pytest.mark.parametrize("behaviour", ["cut-fin", "garbage-frame", "error-frame"])
def test_a_stream_that_breaks_ends_with_an_error(plane, deployment, token, upstream, behaviour, settled):
    upstream.script(behaviour)
    text = plane.complete(token, stream=True).text
    assert "[DONE]" not in text
    assert '"error"' in text.split("\n\n")[-2]
    event = settled()
    assert (event.units, event.usage_source) == (1, "estimated")


def test_a_caller_who_leaves_stops_the_upstream(plane, deployment, token, upstream):
    upstream.script("stall-in-the-middle")
    response = plane.complete(token, stream=True)
    next(response.iter_content(1))
    response.close()
    assert upstream.disconnected.wait(5)


@pytest.mark.parametrize(("prompts", "prelude"), [(["a"], b""), (["a", "b"], b"data: null\n\n")])
def test_usage_that_comes_with_each_choice_is_added_up(plane, token, upstream, settled, prompts, prelude):
    """As llama.cpp has it, which also begins with a null."""
    frames = [
        b'data: {"choices": [{"index": %d, "text": "x", "finish_reason": "stop"}],'
        b' "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}}\n\n' % index
        for index in range(len(prompts))
    ]
    deploy(upstream, stream_always=True)
    upstream.script(stream(prelude, *frames, b"data: [DONE]\n\n") if prelude else stream(*frames, b"data: [DONE]\n\n"))
    usage = plane.complete(token, prompt=prompts).json()["usage"]
    assert usage["total_tokens"] == 5 * len(prompts)
    assert settled().tokens == events.Tokens(input=2 * len(prompts), output=3 * len(prompts))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_repeat_under_an_idempotency_key_has_the_same_answer(plane, deployment, token, upstream, streamed):
    headers = {"Idempotency-Key": "mine"}
    first = plane.complete(token, stream=streamed, headers=headers).content
    assert plane.complete(token, stream=streamed, headers=headers).content == first
    assert len(upstream.requests) == 1


# Who may call, and how


def test_it_requires_credentials(plane, deployment):
    error(plane.complete(None), 401, "authentication_failed")
    error(plane.complete("hflow_" + "a" * 49), 401, "invalid_api_key")


def test_a_model_offered_to_others_does_not_exist_for_me(plane, deployment, token, outsider):
    Model.objects.get(name=MODEL).only_for.add(outsider.memberships.get().organization)
    reread_catalogue()
    error(plane.complete(token), 404, "model_not_found")
    error(plane.embed(token), 404, "model_not_found")


def test_a_key_for_other_models_is_refused(plane, deployment, organization, owner):
    limited = api_keys.create(organization=organization, user=owner, name="limited", models=["gpt-4"])[1]
    error(plane.complete(limited), 403, "authorization_failed")
    error(plane.embed(limited), 403, "authorization_failed")


def test_it_takes_posts_of_json_alone(plane, deployment, token):
    refused = plane.ask("/completions", token, b"prompt=x", headers={"Content-Type": "text/plain"})
    error(refused, 415, "invalid_request")


def test_bad_input_is_refused_by_name(plane, deployment, token, upstream):
    found = error(plane.complete(token, api_base="http://evil"), 400, "invalid_request")
    assert found["param"] == "api_base"
    assert not upstream.requests


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_model_that_only_chats_is_no_failure_of_its_deployment(plane, deployment, token, upstream, status):
    for _ in range(10):  # enough to cut off a deployment that fails
        upstream.script(body(b'{"error": {"message": "This is a chat model."}}', code=status))
        found = error(plane.complete(token), 400, "invalid_request")
        assert (found["message"], found["param"]) == ("This model does not do completions.", "model")
    assert plane.chat(token).status_code == 200
