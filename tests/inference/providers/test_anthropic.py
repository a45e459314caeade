"""The official OpenAI client talks to a deployment of Anthropic's kind, and can't tell."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests
from anthropic import Anthropic
from pydantic import BaseModel

from inference.models import Deployment, Provider
from inference.providers.adapter import Account
from inference.providers.anthropic import AnthropicAdapter
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import anthropic as fake
from tests.fakes.anthropic import AnthropicUpstream
from tests.fakes.behaviours import Behaviour
from tests.fakes.upstream import Upstream
from tests.inference.conftest import DataPlane

Messages = list[Any]

HELLO: Messages = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
PIXEL = base64.b64encode(b"\x89PNG not really").decode()


@pytest.fixture
def anthropic() -> Iterator[AnthropicUpstream]:
    with AnthropicUpstream() as server:
        yield server


@pytest.fixture
def claude(transactional_db: None, anthropic: AnthropicUpstream) -> Deployment:
    return named("claude-opus-5-5", deploy(anthropic, kind="anthropic"))


@pytest.fixture
def client(claude: Deployment, plane: DataPlane, token: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=plane.url, api_key=token, max_retries=0, timeout=20) as made:
        yield made


def named(upstream_model: str, deployment: Deployment) -> Deployment:
    deployment.upstream_model = upstream_model
    deployment.save()
    reread_catalogue()
    return deployment


# Words


def test_a_whole_answer(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = completion.choices
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", MODEL)
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", fake.TEXT, "stop")
    assert (choice.message.tool_calls, choice.message.refusal, choice.logprobs) == (None, None, None)
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (42, 12)
    assert completion.usage.prompt_tokens_details.cached_tokens == 30


def test_nothing_of_the_provider_leaks(client: openai.OpenAI) -> None:
    said = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO).text
    assert not [word for word in ("claude", "msg_", "anthropic", "end_turn", "service_tier") if word in said]


def test_a_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert {(chunk.model, chunk.object, len(chunk.choices)) for chunk in chunks} == {
        (MODEL, "chat.completion.chunk", 1)
    }
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == fake.TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert {chunk.usage for chunk in chunks} == {None}


def test_the_usage_chunk(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options=options))
    *before, last = chunks
    assert {chunk.usage for chunk in before} == {None}
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (42, 12, 54)


def test_stops_and_limits(client: openai.OpenAI) -> None:
    stopped = client.chat.completions.create(model=MODEL, messages=HELLO, stop=["help"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("Hello! How can I ", "stop")
    limited = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1).choices[0]
    assert (limited.message.content, limited.finish_reason) == ("Hello", "length")


def test_thoughts(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, reasoning_effort="high")
    message: Any = completion.choices[0].message
    assert (message.content, message.reasoning_content) == (fake.TEXT, "".join(fake.THOUGHTS))
    with client.chat.completions.stream(model=MODEL, messages=HELLO, reasoning_effort="high") as stream:
        final: Any = stream.get_final_completion().choices[0].message
    assert final.content == fake.TEXT


def test_a_stream_may_be_asked_for_a_whole_answer(client: openai.OpenAI, claude: Deployment) -> None:
    Provider.objects.update(stream_always=True)
    reread_catalogue()
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS)
    assert [call.type for call in completion.choices[0].message.tool_calls or ()] == ["function", "function"]


# Tools


def test_a_loop_of_tools(client: openai.OpenAI, anthropic: AnthropicUpstream) -> None:
    messages: Messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    asked = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0]
    assert asked.finish_reason == "tool_calls"
    messages.append(asked.message)
    for call in asked.message.tool_calls or ():
        assert call.type == "function"
        assert json.loads(call.function.arguments) == (fake.ARGUMENTS if call.function.name == "get_weather" else {})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "21"})
    answered = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0]
    assert (answered.message.content, answered.finish_reason) == (fake.AFTER_TOOLS, "stop")
    sent = anthropic.last.json["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "tool_result"]


def test_a_loop_of_tools_in_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        asked = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    assert kinds.count("tool_calls.function.arguments.done") == 2
    calls = asked.message.tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", fake.ARGUMENTS),
        ("now", {}),
    ]
    message = asked.message.model_dump(exclude_none=True, exclude={"parsed": True})
    for call in message["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in calls]
    again: Messages = [*HELLO, message, *results]
    with client.chat.completions.stream(model=MODEL, messages=again, tools=TOOLS) as stream:
        assert stream.get_final_completion().choices[0].message.content == fake.AFTER_TOOLS


def test_one_call_of_the_tool_that_was_chosen(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "now"}}
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS, tool_choice=choice)
    assert [
        call.function.name for call in completion.choices[0].message.tool_calls or () if call.type == "function"
    ] == ["now"]


def test_functions_of_old(client: openai.OpenAI) -> None:
    functions: Any = [TOOLS[0]["function"]]
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, functions=functions, stream=True))
    calls = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert calls[0].name == "get_weather"
    assert json.loads("".join(call.arguments or "" for call in calls)) == fake.ARGUMENTS
    assert chunks[-1].choices[0].finish_reason == "function_call"


# Pictures and schemas


def test_a_picture(client: openai.OpenAI, anthropic: AnthropicUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages: Messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == fake.TEXT
    assert anthropic.last.json["messages"][0]["content"][1]["source"]["data"] == PIXEL


class Place(BaseModel):
    city: str
    inhabitants: int


def test_structured_output(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Place)
    assert completion.choices[0].message.parsed == Place(city="Zürich", inhabitants=7)
    with client.chat.completions.stream(model=MODEL, messages=HELLO, response_format=Place) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Place(city="Zürich", inhabitants=7)


def test_strict_tools(client: openai.OpenAI, anthropic: AnthropicUpstream) -> None:
    tools = [openai.pydantic_function_tool(Place)]
    completion = client.chat.completions.parse(model=MODEL, messages=HELLO, tools=tools, parallel_tool_calls=False)
    assert anthropic.last.json["tools"][0]["strict"] is True
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.parsed_arguments for call in calls] == [Place(city="Zürich", inhabitants=7)]


# Errors


def test_what_the_provider_finds_wrong_is_said(client: openai.OpenAI, anthropic: AnthropicUpstream) -> None:
    anthropic.script(fake.error(400, "invalid_request_error", "messages.0: image exceeds 5 MB maximum"))
    with pytest.raises(openai.BadRequestError, match="image exceeds 5 MB"):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_what_the_model_can_not_do_is_said_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert (caught.value.param, caught.value.code) == ("n", "invalid_request")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (529, "overloaded_error", "Overloaded"),
        (401, "authentication_error", f"invalid x-api-key {fake.KEY}"),
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        (404, "not_found_error", "model: claude-0"),
        (429, "rate_limit_error", "This request would exceed your organization's rate limit"),
        (500, "api_error", "Internal server error"),
    ],
)
def test_the_platforms_troubles_are_not_the_callers(
    client: openai.OpenAI, anthropic: AnthropicUpstream, status: int, kind: str, message: str
) -> None:
    anthropic.script(fake.error(status, kind, message, "Retry-After: 7"))
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.status_code == 503
    assert not [word for word in (fake.KEY, "credit", "claude", "Anthropic") if word in caught.value.response.text]


def test_an_error_before_the_first_word_is_another_deployments_chance(
    client: openai.OpenAI, anthropic: AnthropicUpstream, upstream: Upstream
) -> None:
    deploy(upstream, name="second", priority=1)
    anthropic.script(fake.failing_after(2))
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(upstream.requests) == 1


CUT = fake.reshaped(lambda frames: frames[:5], end=False)
ENDED = fake.reshaped(lambda frames: frames[:5])


@pytest.mark.parametrize("broken", [fake.failing_after(5), CUT, ENDED])
def test_a_stream_that_breaks_off_is_an_error(
    client: openai.OpenAI, anthropic: AnthropicUpstream, broken: Behaviour
) -> None:
    anthropic.script(broken)
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", *fake.TOKENS[:2]]
    with pytest.raises(openai.APIError, match="unavailable"):
        next(stream)


def test_anthropics_own_client_understands_the_fake(anthropic: AnthropicUpstream) -> None:
    url = anthropic.url.removesuffix("/v1")
    messages: Messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER}]
    with Anthropic(base_url=url, api_key=fake.KEY, max_retries=0, timeout=20) as client:
        asked: Any = {"model": "claude-opus-5-5", "max_tokens": 150, "messages": messages, "tools": tools}
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use"]
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.stop_reason == whole.stop_reason == "tool_use"


def test_the_list_of_models(anthropic: AnthropicUpstream) -> None:
    adapter = AnthropicAdapter(Account("anthropic", anthropic.url, fake.KEY))
    listing = asyncio.run(adapter.listing())
    assert listing is not None
    headers = dict(line.split(": ") for line in listing.headers.decode().splitlines())
    answer = requests.get(anthropic.url + listing.path, headers=headers, timeout=20)
    assert adapter.read_listing(answer.content) == ["claude-opus-5-5", "claude-haiku-4-5"]


def test_older_models_are_asked_in_their_way(
    client: openai.OpenAI, claude: Deployment, anthropic: AnthropicUpstream
) -> None:
    named("claude-sonnet-4-5", claude)
    client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, top_p=0.5)
    assert anthropic.last.json["temperature"] == 0
    assert anthropic.last.headers["x-api-key"] == fake.KEY
