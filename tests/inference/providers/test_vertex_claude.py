"""Claude on Vertex AI, through the gateway in front of a fake that checks the wire."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from inference.providers import vertex_claude
from inference.providers.adapter import Account, Blame, Unsupported
from inference.providers.vertex import VertexAdapter
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import anthropic, anthropic_rules
from tests.fakes.behaviours import Behaviour, Call
from tests.fakes.gemini import candidate, frame
from tests.fakes.google_tokens import TokenService
from tests.fakes.upstream import Upstream
from tests.inference.chat_bodies import parse

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "forecast", "parameters": {"type": "object", "properties": {"city": {}}}},
}
PATH = re.compile(
    r"/v1/projects/our-project/locations/global/publishers/anthropic/models/claude-haiku-4-5@20251001:(streamR|r)awPredict\Z"
)


class ClaudeOnVertex(Upstream):
    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def _behaviour(self, call: Call) -> Behaviour:
        request, body = call.request, dict(call.body)
        found = PATH.match(request.path)
        if found is None or request.headers.get("authorization") != "Bearer ya29.fake-1":
            self.refused.append(request.path)
            return anthropic.error(404, "not_found_error", request.path)
        if (version := body.pop("anthropic_version", None)) != "vertex-2023-10-16" or "model" in body:
            self.refused.append(f"anthropic_version {version}, {sorted(body)}")
        if call.stream is not (found[1] == "streamR"):
            self.refused.append("stream and method differ")
        try:
            anthropic_rules._check(body | {"model": "claude-haiku-4-5"})
        except anthropic_rules.Invalid as problem:
            self.refused.append(str(problem))
        return self._scripted.popleft() if self._scripted else anthropic.normal


@pytest.fixture
def claude() -> Iterator[ClaudeOnVertex]:
    with ClaudeOnVertex() as server:
        yield server
    assert server.refused == []


@pytest.fixture
def client(plane, token, claude) -> Iterator[Any]:
    with TokenService() as service:
        made = deploy(claude, kind="vertex")
        made.provider.credential = service.service_account()
        made.provider.save()
        made.upstream_model = "claude-haiku-4-5@20251001"
        made.save()
        reread_catalogue()
        yield openai.OpenAI(api_key=token, base_url=plane.url, max_retries=0)


def test_an_answer_comes_through(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == anthropic.TEXT
    assert answer.usage.completion_tokens == anthropic.OUTPUT_TOKENS


def test_a_stream_comes_through(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == anthropic.TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tools_are_called_and_their_results_read(client):
    said = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL]).choices[0].message
    [call] = said.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 °C"}
    told = client.chat.completions.create(model=MODEL, messages=[*HELLO, said.to_dict(), result], tools=[TOOL])
    assert told.choices[0].message.content == anthropic.AFTER_TOOLS


def test_what_it_refuses_as_invalid_is_the_caller_s(client, claude):
    claude.script(anthropic.error(400, "invalid_request_error", "messages: too many."))
    with pytest.raises(openai.BadRequestError, match="too many"):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_its_troubles_are_not_the_caller_s():
    adapter = VertexAdapter(Account(kind="vertex", project="p"))
    told = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).encode()
    assert adapter.refusal(529, None, told).blame is Blame.PROVIDER
    assert adapter.refusal(529, None, told).message == "Overloaded"
    assert adapter.refusal(429, None, told).blame is Blame.LIMIT


@pytest.mark.parametrize("cut", range(20))
def test_a_stream_s_dialect_is_told_by_its_first_bytes(cut):
    request = parse()
    adapter = VertexAdapter(Account(kind="vertex", project="p"))
    gemini = frame(candidate({"text": "Hi"}, reason="STOP"))
    claude = b"".join(anthropic.frames(anthropic.message(anthropic.text("Hi"))))
    for data, done in [(gemini, False), (claude, True), (gemini.rstrip(), False)]:
        reader = adapter.stream(request)
        chunks: list[Any] = [chunk for part in (data[:cut], data[cut:]) for chunk in reader.feed(part)]
        chunks += reader.finish()
        said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        assert (said, reasons, reader.done) == ("Hi", ["stop"], done)


@pytest.mark.parametrize("data", [b"", b"e", b"even", b"dat"])
def test_a_stream_that_hardly_began_is_empty(data):
    reader = VertexAdapter(Account(kind="vertex", project="p")).stream(parse())
    assert [*reader.feed(data), *reader.finish()] == []


def test_models_are_known_by_their_names():
    assert vertex_claude.serves("claude-opus-4-5")
    assert vertex_claude.serves("publishers/anthropic/models/claude-opus-4-5@20251101")
    assert not vertex_claude.serves("gemini-2.5-pro")
    assert not vertex_claude.serves("publishers/meta/models/llama-4")
    adapter = VertexAdapter(Account(kind="vertex", project="p"))
    assert adapter.resource("publishers/anthropic/models/claude-x").endswith("/publishers/anthropic/models/claude-x")


def test_a_limit_of_tokens_and_a_temperature_are_sent_as_anthropic_s():
    body = json.loads(
        vertex_claude.encode(parse(max_tokens=5, temperature=0.5), model="claude-haiku-4-5", stream=False)
    )
    assert body["max_tokens"] == 5
    assert body["temperature"] == 0.5
    assert "stream" not in body


def test_a_request_needs_no_token_for_being_refused():
    """What can't be said is known before anybody is asked for a token."""
    adapter = VertexAdapter(Account(kind="vertex", project="p"))
    with pytest.raises(Unsupported, match="n must be 1"):
        asyncio.run(adapter.wire(parse(n=2), upstream_model="claude-opus-4-5", stream=False))
