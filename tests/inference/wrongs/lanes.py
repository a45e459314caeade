"""Every way an answer can come: a kind of provider, an operation, whole or streamed. And what can go wrong on it.

A behaviour here is made for a lane, out of the right answer that its provider would have given.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.fakes import answers, anthropic, bedrock, gemini
from tests.fakes.anthropic import AnthropicUpstream
from tests.fakes.bedrock import Bedrock
from tests.fakes.behaviours import Behaviour, Call
from tests.fakes.gemini import Gemini
from tests.fakes.upstream import Upstream

Framing = Literal["json", "sse", "aws"]
CONTENT_TYPES: dict[Framing, str] = {
    "json": "application/json",
    "sse": "text/event-stream",
    "aws": "application/vnd.amazon.eventstream",
}
PATHS = {"chat": "/chat/completions", "completion": "/completions", "embedding": "/embeddings"}
ASKED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Hello"}]},
    "completion": {"prompt": "Hello"},
    "embedding": {"input": "Hello"},
}
TITAN = "amazon.titan-embed-text-v2:0"


@dataclass(frozen=True)
class Lane:
    """``streamed``: for the caller. ``parts`` are the pieces of the right answer, in its framing."""

    name: str
    kind: str
    server: Callable[[], Upstream]
    parts: Callable[[Call], list[bytes]]
    operation: str = "chat"
    streamed: bool = False
    framing: Framing = "json"
    text: str = answers.TEXT
    credential: str = "sk-provider-secret-0123456789"
    upstream_model: str = "a-model"
    stream_always: bool = False

    @property
    def path(self) -> str:
        return PATHS[self.operation]

    def body(self, model: str) -> dict[str, Any]:
        return ASKED[self.operation] | {"model": model} | ({"stream": True} if self.streamed else {})


def _whole(answer: dict[str, Any]) -> list[bytes]:
    return [json.dumps(answer, ensure_ascii=False).encode()]


def _compatible(call: Call) -> list[bytes]:
    return answers.frames(call.body) if call.stream else _whole(answers.completion(call.body))


def _anthropic(call: Call) -> list[bytes]:
    said = anthropic.answer(call.body)
    return anthropic.frames(said) if call.stream else _whole(said)


def _gemini(call: Call) -> list[bytes]:
    fake = Gemini()
    return [gemini.frame(piece) for piece in fake.pieces(call.body)] if call.stream else _whole(fake.whole(call.body))


def _gemini_vectors(call: Call) -> list[bytes]:
    return _whole({"embeddings": [{"values": [0.5, 1.0]}], "usageMetadata": {"promptTokenCount": 3}})


def _bedrock(call: Call) -> list[bytes]:
    return bedrock.encoded(bedrock.events()) if call.stream else _whole(bedrock.converse())


def _titan(call: Call) -> list[bytes]:
    return _whole({"embedding": [0.5, 1.0], "inputTextTokenCount": 5})


_STREAM: dict[str, Any] = {"streamed": True, "framing": "sse"}
_GEMINI: dict[str, Any] = {"kind": "gemini", "server": Gemini, "credential": gemini.KEY}
_BEDROCK: dict[str, Any] = {
    "kind": "bedrock", "server": Bedrock, "credential": bedrock.API_KEY, "text": bedrock.TEXT
}  # fmt: skip
_CLAUDE: dict[str, Any] = {
    "kind": "anthropic", "server": AnthropicUpstream, "parts": _anthropic, "text": anthropic.TEXT
}  # fmt: skip
_OURS: dict[str, Any] = {"kind": "compatible", "server": Upstream, "parts": _compatible}

LANES = (
    Lane("chat", **_OURS),
    Lane("chat-stream", **_OURS, **_STREAM),
    Lane("chat-assembled", **_OURS, framing="sse", stream_always=True),
    Lane("completion", **_OURS, operation="completion"),
    Lane("completion-stream", **_OURS, operation="completion", **_STREAM),
    Lane("embedding", **_OURS, operation="embedding"),
    Lane("anthropic", **_CLAUDE),
    Lane("anthropic-stream", **_CLAUDE, **_STREAM),
    Lane("gemini", **_GEMINI, parts=_gemini),
    Lane("gemini-stream", **_GEMINI, parts=_gemini, **_STREAM),
    Lane("gemini-embedding", **_GEMINI, parts=_gemini_vectors, operation="embedding"),
    Lane("bedrock", **_BEDROCK, parts=_bedrock),
    Lane("bedrock-stream", **_BEDROCK, parts=_bedrock, streamed=True, framing="aws"),
    Lane("bedrock-embedding", **_BEDROCK, parts=_titan, operation="embedding", upstream_model=TITAN),
)
STREAMS = tuple(lane for lane in LANES if lane.streamed)


# What goes wrong

Wrong = Callable[[Lane], Behaviour]
Trouble = Callable[[Call], Awaitable[None]]


def anywhere(behaviour: Behaviour) -> Wrong:
    """The same on each lane."""
    return lambda lane: behaviour


async def begin(call: Call, lane: Lane) -> None:
    await call.head(200, "Transfer-Encoding: chunked", content_type=CONTENT_TYPES[lane.framing])


def reshaped(reshape: Callable[[list[bytes]], list[bytes]], *, pause_s: float = 0.0) -> Wrong:
    """The right answer in other pieces."""

    def wrong(lane: Lane) -> Behaviour:
        async def behaviour(call: Call) -> None:
            await begin(call, lane)
            for part in reshape(lane.parts(call)):
                await call.part(part)
                if pause_s:
                    await asyncio.sleep(pause_s)
            await call.end_stream()

        return behaviour

    return wrong


def broken(then: Trouble, *, after: Callable[[list[bytes]], list[bytes]]) -> Wrong:
    """What ``after`` leaves of the right answer, then trouble."""

    def wrong(lane: Lane) -> Behaviour:
        async def behaviour(call: Call) -> None:
            await begin(call, lane)
            for part in after(lane.parts(call)):
                await call.part(part)
            await asyncio.sleep(0.05)  # let what was sent arrive: an RST overtakes it
            await then(call)

        return behaviour

    return wrong


def lying(difference: int) -> Wrong:
    """A right answer whose Content-Length claims this many bytes more (or fewer) than come."""

    def wrong(lane: Lane) -> Behaviour:
        async def behaviour(call: Call) -> None:
            data = b"".join(lane.parts(call))
            length = len(data) + difference
            await call.head(200, f"Content-Length: {length}", content_type=CONTENT_TYPES[lane.framing])
            await call.send(data)
            call.writer.close()

        return behaviour

    return wrong


async def closed(call: Call) -> None:
    call.writer.close()


async def cut_off(call: Call) -> None:
    call.reset()


async def silence(call: Call) -> None:
    await asyncio.sleep(3600)


def nothing(parts: list[bytes]) -> list[bytes]:
    return []


def half_a_part(parts: list[bytes]) -> list[bytes]:
    return [parts[0][: len(parts[0]) // 2]]


def half(parts: list[bytes]) -> list[bytes]:
    return parts[: len(parts) // 2]
