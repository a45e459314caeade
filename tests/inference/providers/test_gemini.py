"""Gemini, through the gateway in front of a fake that checks the wire, under the official client."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from inference.providers import adapter_for
from inference.providers.adapter import Account, Blame
from inference.upstream import Deadlines, UpstreamClient
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.behaviours import body as body_of
from tests.fakes.behaviours import stream
from tests.fakes.gemini import ARGUMENTS, KEY, THOUGHT, UNSIGNED, Gemini, candidate, checked, frame, google_error
from tests.inference.chat_bodies import parse
from tests.inference.errors_told import error

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}}}


@pytest.fixture
def google() -> Iterator[Gemini]:
    with Gemini() as server:
        yield server
    assert server.refused == []


@pytest.fixture
def client(plane, token, google) -> Any:
    connect(google)
    return official(plane, token)


def official(plane, token) -> Any:
    """The client people have; untyped here, since tests say wrong things too."""
    return openai.OpenAI(api_key=token, base_url=plane.url, max_retries=0)


def connect(google: Gemini, *, name: str = "first", upstream_model: str = "gemini-3-flash", key: str = KEY) -> None:
    made = deploy(google, name=name, kind="gemini")
    made.provider.credential = key
    made.provider.save()
    made.upstream_model = upstream_model
    made.save()
    reread_catalogue()


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "Told.", "parameters": SCHEMA}}


def account(**changes) -> Account:
    return Account(**{"kind": "gemini", "credential": KEY} | changes)


def refusal(status: int, told: object, retry_after: bytes | None = None):
    return adapter_for(account()).refusal(status, retry_after, json.dumps(told).encode())


# Answers


def test_an_answer_comes_through_as_openai_would_give_it(client, google):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=7, reasoning_effort="low")
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (answers.TEXT, "stop")
    assert choice.message.reasoning_content == THOUGHT
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 17, 26)
    assert usage.completion_tokens_details.reasoning_tokens == 5
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert answer.model == MODEL
    assert "gemini" not in answer.to_json()
    assert "secret" not in answer.to_json()
    assert google.last.path == "/v1beta/models/gemini-3-flash:generateContent"
    assert google.last.json["generationConfig"]["maxOutputTokens"] == 7


def test_a_stream_comes_through_as_openai_would_give_it(client, google):
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}, reasoning_effort="high"
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == answers.TEXT
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.reasoning_content == THOUGHT
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == 17
    assert google.last.path == "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse"


def test_a_stream_ends_as_it_should(client, plane, token):
    assert plane.chat(token, stream=True).text.endswith("data: [DONE]\n\n")


def test_several_choices_come_through(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=3)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [
        (index, answers.TEXT) for index in range(3)
    ]


@pytest.mark.parametrize("upstream_model", ["gemini-3-flash", "gemini-2.5-flash"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_tools_are_called_and_their_results_read(plane, token, google, upstream_model, streamed):
    """The client brings back what it got; the fake refuses a lost id, signature or order."""
    connect(google, upstream_model=upstream_model)
    client = official(plane, token)
    options: dict[str, Any] = {"model": MODEL, "tools": [tool("forecast"), tool("sights")]}
    if streamed:
        with client.chat.completions.stream(messages=HELLO, **options) as events:
            asked = events.get_final_completion()
    else:
        asked = client.chat.completions.create(messages=HELLO, **options)
    [choice] = asked.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["forecast", "sights"]
    assert all(json.loads(call.function.arguments) == ARGUMENTS for call in calls)
    assert len({call.id for call in calls}) == 2
    said: dict[str, Any] = {"role": "assistant", "tool_calls": [call.to_dict() for call in calls]}
    for call in said["tool_calls"]:  # the client's own, which OpenAI refuses too
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"of {call.function.name}"} for call in calls]
    told = client.chat.completions.create(
        messages=[*HELLO, said, *reversed(results), {"role": "user", "content": "And?"}], **options
    )
    assert told.choices[0].message.tool_calls or told.choices[0].message.content
    model, user = google.last.json["contents"][1:3]
    assert [part["functionCall"]["id"] for part in model["parts"]] == ["fc-0", "fc-1"]
    assert model["parts"][0]["thoughtSignature"] != UNSIGNED
    assert [part["functionResponse"] for part in user["parts"]] == [
        {"id": "fc-0", "name": "forecast", "response": {"output": "of forecast"}},
        {"id": "fc-1", "name": "sights", "response": {"output": "of sights"}},
    ]


def test_calls_that_another_provider_made_need_no_signature(client, google):
    call = {"id": "call_9", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Bern"}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_9", "content": "Rain"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[tool("forecast")])
    assert answer.choices[0].message.content == answers.TEXT
    said = google.last.json["contents"][1]["parts"][1]
    assert said == {"functionCall": {"name": "forecast", "args": {"city": "Bern"}}, "thoughtSignature": UNSIGNED}


def test_a_signature_of_another_account_is_not_shown_to_this_one(client, google):
    asked = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[tool("forecast")])
    said = asked.choices[0].message
    adapter = adapter_for(account(credential="another-key"))
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "Rain"}
    request = parse(messages=[*HELLO, said.to_dict(), result])
    wire = asyncio.run(adapter.wire(request, upstream_model="gemini-3-pro", stream=False))
    part = json.loads(wire.body)["contents"][1]["parts"][0]
    assert part == {"functionCall": {"name": "forecast", "args": ARGUMENTS}, "thoughtSignature": UNSIGNED}


def test_calls_come_one_by_one_for_a_caller_who_wants_that(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[tool("one"), tool("two")], parallel_tool_calls=False
    )
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["one"]


# What goes wrong


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_prompt_that_is_withheld_gives_an_empty_filtered_answer(client, google, streamed):
    blocked = checked(
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
    )
    google.script(stream(frame(blocked)) if streamed else body_of(json.dumps(blocked).encode()))
    if streamed:
        [chunk] = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        found = (chunk.choices[0].delta.content, chunk.choices[0].finish_reason)
    else:
        [choice] = client.chat.completions.create(model=MODEL, messages=HELLO).choices
        found = (choice.message.content, choice.finish_reason)
    assert found == ("", "content_filter")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *[
            (reason, "content_filter")
            for reason in ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL"]
        ],
    ],
)
def test_each_reason_has_its_word(client, google, reason, told):
    google.script(body_of(json.dumps(candidate({"text": "Well"}, reason=reason)).encode()))
    [choice] = client.chat.completions.create(model=MODEL, messages=HELLO).choices
    assert (choice.message.content, choice.finish_reason) == ("Well", told)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_what_google_refuses_as_invalid_is_the_caller_s(client, google, upstream, streamed):
    deploy(upstream, name="second", priority=1)
    google.script(google_error(400, "INVALID_ARGUMENT", "Temperature is odd.", listed=streamed))
    with pytest.raises(openai.BadRequestError, match="Temperature is odd"):
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=streamed)
    assert not upstream.requests


@pytest.mark.parametrize(
    "failing",
    [
        google_error(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        google_error(400, "FAILED_PRECONDITION", "User location is not supported."),
        google_error(403, "PERMISSION_DENIED", "No."),
        google_error(404, "NOT_FOUND", "models/x is not found."),
        google_error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", {"retryDelay": "17s"}),
        google_error(503, "UNAVAILABLE", "The model is overloaded."),
        body_of(b"{}"),
        body_of(b"not json"),
        body_of(b'{"error": {"code": 500, "message": "Internal"}}'),
        body_of(json.dumps({"candidates": [{"index": 4000}]}).encode()),
    ],
)
def test_what_is_no_fault_of_the_caller_s_is_passed_over(client, google, plane, token, upstream, failing):
    deploy(upstream, name="second", priority=1)
    google.script(failing)
    response = plane.chat(token)
    assert (response.status_code, response.headers["x-helixflow-upstream"]) == (200, "second")


def test_a_stream_that_fails_ends_with_an_error(client, google, plane, token):
    broken = {"error": {"code": 503, "message": f"Overloaded at https://internal/{KEY}", "status": "UNAVAILABLE"}}
    google.script(stream(frame(candidate({"text": "Hel"})), frame(broken)))
    text = plane.chat(token, stream=True).text
    assert '"content":"Hel"' in text
    assert json.loads(text.strip().split("\n\n")[-1][6:])["error"]["code"] == "service_unavailable"
    assert "[DONE]" not in text
    assert KEY not in text


@pytest.mark.parametrize("pieces", [[], [candidate({"text": "Hel"})]], ids=["before the first", "in the middle"])
def test_a_stream_that_ends_too_early_is_no_answer(client, google, plane, token, pieces):
    google.script(stream(*[frame(piece) for piece in pieces]))
    response = plane.chat(token, stream=True)
    assert "[DONE]" not in response.text
    assert "service_unavailable" in response.text


def test_what_gemini_has_no_counterpart_for_is_asked_elsewhere(client, google, plane, token, upstream):
    deploy(upstream, name="second", priority=1)
    assert plane.chat(token, logit_bias={"5": 1}).headers["x-helixflow-upstream"] == "second"
    assert not google.requests


def test_without_another_deployment_the_caller_is_told_what_is_not_supported(client, plane, token):
    told = error(plane.chat(token, logit_bias={"5": 1}), 400, "invalid_request")
    assert told["param"] == "logit_bias"


def test_a_limit_is_known_with_the_pause_that_google_asks_for():
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
    told = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [{}, info]}}
    for each in (told, [told]):
        found = refusal(429, each)
        assert (found.blame, found.message, found.retry_after_s) == (Blame.LIMIT, "Quota.", 17.5)
    assert refusal(429, told, b"3").retry_after_s == 3


@pytest.mark.parametrize("told", [None, 5, [], "no", {"error": "text"}, {"error": {"details": 5}}, {"error": []}, {}])
def test_an_error_body_of_another_shape_is_read_as_far_as_it_goes(told):
    assert refusal(502, told).blame is Blame.PROVIDER
    assert refusal(429, told).blame is Blame.LIMIT


# Addresses and models


def test_models_that_can_answer_are_listed(google):
    adapter: Any = adapter_for(account(base_url=google.url))

    async def ask():
        listing = await adapter.listing()
        client = UpstreamClient()
        response = await client.get(listing.origin, listing.path, listing.headers, Deadlines())
        body = await response.read(100_000)
        await client.close()
        return adapter.read_listing(body)

    assert asyncio.run(ask()) == ["gemini-2.5-pro", "embedding-001"]
    assert google.last.path == "/v1beta/models?pageSize=1000"


def test_an_empty_address_is_google_s_own():
    adapter = adapter_for(account())
    assert (adapter.origin.host, adapter.origin.prefix) == ("generativelanguage.googleapis.com", "/v1beta")
    assert adapter.secrets == (KEY,)


def test_a_wrong_key_is_not_the_caller_s_fault(plane, token, google, upstream):
    connect(google, key="wrong-key")
    deploy(upstream, name="second", priority=1)
    assert plane.chat(token).headers["x-helixflow-upstream"] == "second"
