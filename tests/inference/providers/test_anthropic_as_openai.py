"""The same conversation with an OpenAI and with Anthropic behind one address: nobody can tell them apart by shape."""

import json
from itertools import groupby
from typing import Any

import openai
import pytest

from tests.factories import MODEL, deploy
from tests.fakes import answers
from tests.fakes import anthropic as fake
from tests.fakes.anthropic import AnthropicUpstream
from tests.fakes.behaviours import Behaviour, body, stream
from tests.fakes.upstream import Upstream
from tests.inference.conftest import DataPlane

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
USAGE = {"prompt_tokens": 42, "completion_tokens": 12, "total_tokens": 54}
DETAILS = {"prompt_tokens_details", "completion_tokens_details"}  # each has more or less of them
OWN = {"system_fingerprint", "service_tier", "obfuscation"}  # that OpenAI has not always either


def call(number: int, **function: str) -> dict[str, Any]:
    return {"index": number, "function": function}


def begun(number: int, name: str) -> dict[str, Any]:
    return {"index": number, "id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": ""}}


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "usage": None}
    return b"data: %b\n\n" % json.dumps(said | {"choices": list(choices)} | more).encode()


def delta(said: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return chunk({"index": 0, "delta": said, "logprobs": None, "finish_reason": finish_reason})


ARGUMENTS = json.dumps(fake.ARGUMENTS)
# As OpenAI streams a word before two calls in parallel.
CALLING = [
    delta({"role": "assistant", "content": "", "refusal": None}),
    delta({"content": "Let me"}),
    delta({"content": " look."}),
    delta({"tool_calls": [begun(0, "get_weather")]}),
    *[delta({"tool_calls": [call(0, arguments=part)]}) for part in (ARGUMENTS[:5], ARGUMENTS[5:])],
    delta({"tool_calls": [begun(1, "now")]}),
    delta({"tool_calls": [call(1, arguments="{}")]}),
    delta({}, "tool_calls"),
    chunk(usage=USAGE),
    b"data: [DONE]\n\n",
]
TALKING = [
    delta({"role": "assistant", "content": "", "refusal": None}),
    *[delta({"content": token}) for token in fake.TOKENS],
    delta({}, "stop"),
    chunk(usage=USAGE),
    b"data: [DONE]\n\n",
]
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}},
    {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
]


def whole(finish_reason: str, **message: Any) -> Behaviour:
    said = {"role": "assistant", "refusal": None} | message
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason}
    return body(json.dumps(answers.completion({}) | {"choices": [choice], "usage": USAGE}).encode())


CONVERSATIONS: dict[str, tuple[dict[str, Any], Behaviour, Behaviour]] = {
    "words": ({}, stream(*TALKING), whole("stop", content=fake.TEXT)),
    "calls": ({"tools": TOOLS}, stream(*CALLING), whole("tool_calls", content="Let me look.", tool_calls=CALLS)),
}


@pytest.fixture
def models(transactional_db: None, upstream: Upstream) -> Any:
    """The names of the same model at both."""
    with AnthropicUpstream() as anthropic:
        deploy(upstream, name="openai", kind="openai", model=MODEL)
        deploy(anthropic, name="anthropic", kind="anthropic", model="other-model")
        yield MODEL, "other-model"


def shape(said: Any, name: str = "") -> Any:
    """Types in the place of values, but for those that are words of OpenAI's own."""
    if isinstance(said, dict):
        hidden = OWN | DETAILS
        return {key: shape(value, key) for key, value in sorted(said.items()) if key not in hidden}
    if isinstance(said, list):
        return [shape(each) for each in said]
    spoken = {"role", "finish_reason", "object", "type", "index", *USAGE} if name else set()
    return said if name in spoken else type(said).__name__


def streamed(plane: DataPlane, token: str, model: str, **options: Any) -> tuple[dict[str, str], list[Any], str]:
    """Headers, the shapes of the chunks without repetitions, and what the text was in all."""
    include_usage = {"include_usage": True}
    response = plane.chat(token, None, model=model, stream=True, stream_options=include_usage, **options)
    *frames, done, rest = response.content.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert {each["model"] for each in chunks} == {model}
    shapes = [shaped for shaped, _ in groupby(shape(each) for each in chunks)]
    text = "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])
    return headers(response.headers), shapes, text


def headers(found: Any) -> dict[str, str]:
    varying = {"x-request-id", "x-helixflow-upstream", "date", "content-length"}
    return {
        name.lower(): "" if "ratelimit" in name.lower() else value
        for name, value in found.items()
        if name.lower() not in varying
    }


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_streams(plane: DataPlane, token: str, models: tuple[str, str], upstream: Upstream, kind: str) -> None:
    options, openais, _ = CONVERSATIONS[kind]
    upstream.script(openais)
    ours, theirs = (streamed(plane, token, model, **options) for model in models)
    assert theirs == ours
    shapes = theirs[1]
    assert shapes[0]["choices"][0]["delta"] == {"role": "assistant", "content": "str", "refusal": "NoneType"}
    assert shapes[-2]["choices"][0]["delta"] == {}
    assert shapes[-1]["choices"] == []


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_whole_answers(plane: DataPlane, token: str, models: tuple[str, str], upstream: Upstream, kind: str) -> None:
    options, _, openais = CONVERSATIONS[kind]
    upstream.script(openais)
    ours, theirs = (plane.chat(token, None, model=model, **options) for model in models)
    assert headers(theirs.headers) == headers(ours.headers)
    assert shape(theirs.json()) == shape(ours.json())
    assert theirs.json()["choices"][0]["message"]["content"] == ours.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_what_the_official_client_makes_of_a_stream(
    plane: DataPlane, token: str, models: tuple[str, str], upstream: Upstream, kind: str
) -> None:
    options, openais, _ = CONVERSATIONS[kind]
    upstream.script(openais)
    client = openai.OpenAI(api_key=token, base_url=plane.url, max_retries=0)
    told = []
    for model in models:
        asked: Any = {"model": model, "messages": HELLO, "stream_options": {"include_usage": True}} | options
        with client.chat.completions.stream(**asked) as events:
            kinds = [kind for kind, _ in groupby(event.type for event in events)]
            told.append((kinds, shape(events.get_final_completion().model_dump())))
    assert told[1] == told[0]


def test_refusals(plane: DataPlane, token: str, models: tuple[str, str]) -> None:
    ours, theirs = (plane.chat(token, None, model=model, max_tokens=-1) for model in models)
    assert (theirs.status_code, shape(theirs.json())) == (ours.status_code, shape(ours.json()))
