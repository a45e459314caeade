"""POST /v1/embeddings on a real socket: the vectors, their order, their format, and what upstreams do wrong."""

import json

import pytest

from billing import events
from inference.embeddings import MAX_VECTOR
from inference.models import Fallback, Model
from inference.providers.adapter import Operation
from inference.providers.openai import CompatibleAdapter
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import body
from tests.inference.errors_told import error


def listed(*embeddings, **more):
    return body(json.dumps({"object": "list", "data": embeddings} | more).encode())


def vectors(response):
    assert response.status_code == 200, response.text
    return [each["embedding"] for each in response.json()["data"]]


def test_it_answers_as_openai_does(plane, deployment, token, upstream):
    response = plane.embed(token, input="Hello")
    assert response.status_code == 200, response.text
    assert response.json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": answers.vector(0)}],
        "model": MODEL,
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }
    assert upstream.last.path == "/v1/embeddings"
    assert upstream.last.json == {"model": f"upstream-{MODEL}", "input": "Hello"}


def test_every_answer_carries_its_headers(plane, deployment, token):
    headers = plane.embed(token).headers
    assert headers["x-helixflow-upstream"] == "first"
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("100", "99")
    assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("inputs", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a"] * 2048, 2048)]
)
def test_each_input_has_its_vector(plane, deployment, token, upstream, inputs, count):
    assert vectors(plane.embed(token, input=inputs)) == [answers.vector(index) for index in range(count)]
    assert upstream.last.json["input"] == inputs


def test_parameters_are_sent_on(plane, deployment, token, upstream):
    assert vectors(plane.embed(token, dimensions=2, user="alice")) == [answers.vector(0, 2)]
    assert upstream.last.json["dimensions"] == 2
    assert upstream.last.json["user"] == "alice"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("asked", [None, "float", "base64"])
def test_vectors_have_the_format_that_was_asked_for_whatever_the_upstream_gives(
    plane, deployment, token, upstream, asked, packed
):
    floats = answers.vector(3)
    upstream.script(listed({"index": 0, "embedding": answers.packed(floats) if packed else floats}))
    found = vectors(plane.embed(token, encoding_format=asked))
    assert found == [answers.packed(floats) if asked == "base64" else floats]


def test_vectors_come_in_the_order_of_their_inputs(plane, deployment, token, upstream):
    upstream.script(listed({"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0.5]}))
    assert vectors(plane.embed(token, input=["a", "b"])) == [[0.5], [1]]


def test_vectors_without_an_index_are_in_order(plane, deployment, token, upstream):
    upstream.script(listed({"embedding": [0.5]}, {"embedding": [1]}))
    assert vectors(plane.embed(token, input=["a", "b"])) == [[0.5], [1]]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}],
        [{"index": index, "embedding": [1]} for index in range(3)],
        *(
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": bad}]
            for bad in (
                None,
                [],
                [None],
                ["1"],
                [[1]],
                {"0": 1},
                "",
                "no base64!",
                "AAA=",
                "AACAfw==",
                "A" * (MAX_VECTOR + 1),
                [1e39],
            )
        ),
    ],
    ids=lambda data: json.dumps(data)[:60],
)
@pytest.mark.parametrize("asked", ["float", "base64"])
def test_vectors_that_make_no_sense_are_an_upstream_s_failure(plane, token, upstream, data, asked):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script(listed(*data))
    response = plane.embed(token, input=["a", "b"], encoding_format=asked)
    assert response.headers["x-helixflow-upstream"] == "second"
    assert len(vectors(response)) == 2


@pytest.mark.parametrize("behaviour", ["status-500", "not-json", "close-before-head", "status-429", "not-a-completion"])
def test_a_failing_deployment_is_passed_over(plane, token, upstream, behaviour):
    deploy(upstream, name="first", priority=0)
    deploy(upstream, name="second", priority=1)
    upstream.script(behaviour)
    assert plane.embed(token).headers["x-helixflow-upstream"] == "second"


def test_many_long_vectors_are_answered(plane, deployment, token, upstream):
    floats = [0.123456789] * 3072
    upstream.script(listed(*({"embedding": floats} for _ in range(100))))
    assert vectors(plane.embed(token, input=["a"] * 100)) == [floats] * 100


def test_a_provider_that_needs_streams_is_asked_for_none(plane, token, upstream):
    deploy(upstream, stream_always=True)
    assert len(vectors(plane.embed(token))) == 1
    assert "stream" not in upstream.last.json


def test_nothing_of_the_upstream_s_own_making_leaks(plane, deployment, token):
    text = plane.embed(token).text
    assert answers.UPSTREAM_MODEL not in text
    assert all(name not in text for name in answers.VENDOR_FIELDS)


def test_the_ledger_is_told_of_input_alone(plane, deployment, token, settled):
    plane.embed(token, user="alice")
    event = settled()
    assert (event.status, event.units, event.model, event.streamed, event.end_user) == (200, 1, MODEL, False, "alice")
    assert (event.usage_source, event.tokens) == ("provider", events.Tokens(input=9))


@pytest.mark.parametrize(
    ("reported", "source", "tokens"),
    [
        (None, "estimated", 5),
        ({"prompt_tokens": None}, "estimated", 5),
        ({"prompt_tokens": 0, "total_tokens": 0}, "estimated", 5),
        ({"prompt_tokens": -1}, "estimated", 5),
        ({"total_tokens": 7}, "provider", 7),
        ({"prompt_tokens": 7, "total_tokens": 9}, "provider", 7),
    ],
)
def test_usage_is_estimated_where_none_is_reported(
    plane, deployment, token, upstream, settled, reported, source, tokens
):
    upstream.script(listed({"embedding": [1]}, {"embedding": [1]}, usage=reported))
    answer = plane.embed(token, input=["1234567890ab", "12345"]).json()
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    event = settled()
    assert (event.usage_source, event.tokens) == (source, events.Tokens(input=tokens))


def test_a_fallback_model_is_not_asked(plane, token, upstream):
    """Its vectors would mean nothing among the model's own."""
    deploy(upstream)
    deploy(upstream, name="other", model="gpt-4")
    Fallback.objects.create(model=Model.objects.get(name=MODEL), to=Model.objects.get(name="gpt-4"))
    reread_catalogue()
    upstream.script("status-500")
    error(plane.embed(token), 503, "service_unavailable")
    assert len(upstream.requests) == 1


def test_a_model_whose_providers_do_none_says_so(plane, token, upstream, monkeypatch):
    monkeypatch.setattr(CompatibleAdapter, "operations", frozenset({Operation.CHAT}))
    deploy(upstream)
    found = error(plane.embed(token), 400, "invalid_request")
    assert (found["message"], found["param"]) == ("This model does not do embeddings.", "model")
    assert plane.chat(token).status_code == 200


def test_a_model_that_only_embeds_is_no_failure_when_it_is_asked_to_chat(plane, deployment, token, upstream):
    message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
    for _ in range(10):  # enough to cut off a deployment that fails
        upstream.script(body(json.dumps({"error": {"message": message}}).encode(), code=404))
        found = error(plane.chat(token), 400, "invalid_request")
        assert (found["message"], found["param"]) == ("This model does not do chat completions.", "model")
    assert len(vectors(plane.embed(token))) == 1


def test_an_input_that_is_too_long_for_llama_cpp_is_the_caller_s_mistake(plane, deployment, token, upstream):
    message = "input (1501 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
    upstream.script(body(json.dumps({"error": {"code": 500, "message": message}}).encode(), code=500))
    assert "too large" in error(plane.embed(token), 400, "invalid_request")["message"]


def test_a_repeat_under_an_idempotency_key_has_the_same_answer(plane, deployment, token, upstream):
    headers = {"Idempotency-Key": "mine"}
    first = plane.embed(token, headers=headers).content
    assert plane.embed(token, headers=headers).content == first
    assert len(upstream.requests) == 1
    error(plane.complete(token, headers=headers), 400, "invalid_request")  # a key is for one operation


# Who may call


def test_it_requires_credentials(plane, deployment):
    error(plane.embed(None), 401, "authentication_failed")


def test_an_unknown_model_is_404(plane, deployment, token):
    error(plane.embed(token, model="nobody"), 404, "model_not_found")


def test_bad_input_is_refused_by_name(plane, deployment, token, upstream):
    assert error(plane.embed(token, input=""), 400, "invalid_request")["param"] == "input"
    assert not upstream.requests
