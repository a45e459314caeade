"""A fake of Anthropic's API: a real server on loopback that refuses, as Anthropic does, whatever isn't its protocol.

It answers as it is asked: with calls of the tools offered, once their results are there with words, with thoughts,
with an instance of a schema. ``script`` takes the behaviours made here, as ``tests.fakes.upstream`` does its own.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.fakes import anthropic_rules
from tests.fakes.behaviours import Behaviour, Call
from tests.fakes.upstream import Upstream

KEY = "sk-provider-secret-0123456789"  # which tests.factories.deploy gives every provider
TOKENS = ["Hello", "!", " How", " can I", " help", " you", "? 🌍 Grüße\u2028"]
TEXT = "".join(TOKENS)
AFTER_TOOLS = "It is 21 °C in Zürich."
THOUGHTS = ["The user", " greets me."]
ARGUMENTS = {"city": "Zürich", "days": 2}
USAGE = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}
OUTPUT_TOKENS = 12

Reshape = Callable[[list[bytes]], list[bytes]]


class AnthropicUpstream(Upstream):
    def _behaviour(self, call: Call) -> Behaviour:
        request = call.request
        if request.method == "GET" and request.path == "/v1/models?limit=1000":
            return self._list
        if request.method != "POST" or request.path != "/v1/messages":
            return error(404, "not_found_error", "Not Found")
        if (wrong := anthropic_rules.complaint(request)) is not None:
            return error(*wrong)
        return self._scripted.popleft() if self._scripted else normal

    async def _list(self, call: Call) -> None:
        wrong = anthropic_rules.of_headers(call.request)
        if wrong is not None:
            await error(*wrong)(call)
            return
        names = ["claude-opus-5-5", "claude-haiku-4-5"]
        data = [
            {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-02-19T00:00:00Z"}
            for name in names
        ]
        await _answer(call, {"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})


# Behaviours


async def normal(call: Call) -> None:
    await saying(None)(call)


def saying(message: dict[str, Any] | None) -> Behaviour:
    """This message, or one that the request asks for; whole or as events."""

    async def behaviour(call: Call) -> None:
        if call.stream:
            await reshaped(lambda frames: frames, message)(call)
        else:
            await _answer(call, message or answer(call.body))

    return behaviour


def reshaped(reshape: Reshape, message: dict[str, Any] | None = None, *, end: bool = True) -> Behaviour:
    """The right events, each with its name and blank line, changed by ``reshape``. Without ``end`` a cut follows."""

    async def behaviour(call: Call) -> None:
        await call.begin_stream()
        for part in reshape(frames(message or answer(call.body))):
            await call.part(part)
        if end:
            await call.end_stream()
        else:
            call.writer.close()

    return behaviour


def error(status: int, kind: str, message: str, *headers: str) -> Behaviour:
    async def behaviour(call: Call) -> None:
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR"}
        await call.answer(json.dumps(body).encode(), status, *headers)

    return behaviour


def failing_after(count: int, kind: str = "overloaded_error", message: str = "Overloaded") -> Behaviour:
    """A stream in which an error follows the first events."""
    event = {"type": "error", "error": {"type": kind, "message": message}}
    return reshaped(lambda frames: [*frames[:count], frame(event)])


async def _answer(call: Call, body: dict[str, Any]) -> None:
    await call.answer(json.dumps(body, ensure_ascii=False).encode())


# Messages and their events


def message(*blocks: dict[str, Any], stop_reason: str = "end_turn", stop_sequence: str | None = None) -> dict[str, Any]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-secret-snapshot",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": USAGE | {"output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"thinking_tokens": 5}},
    }


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "citations": None}


def tool_use(name: str, arguments: dict[str, Any], *, number: int = 1) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_01A09q90qw90lq917835lq{number}", "name": name, "input": arguments}


def thinking(said: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": said, "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What a model might say to this request."""
    thoughts = [thinking("".join(THOUGHTS))] if body.get("thinking", {}).get("type") in {"enabled", "adaptive"} else []
    last = body["messages"][-1]["content"][0]
    choice = body.get("tool_choice") or {"type": "auto"}
    if body.get("tools") and choice["type"] != "none" and last["type"] != "tool_result":
        offered = [tool for tool in body["tools"] if choice.get("name") in {None, tool["name"]}]
        if choice.get("disable_parallel_tool_use"):
            offered = offered[:1]
        calls = [tool_use(tool["name"], _arguments(tool), number=number) for number, tool in enumerate(offered)]
        return message(*thoughts, text("Let me look."), *calls, stop_reason="tool_use")
    if (form := (body.get("output_config") or {}).get("format")) is not None:
        return message(*thoughts, text(json.dumps(instance(form["schema"]))))
    said = AFTER_TOOLS if last["type"] == "tool_result" else TEXT
    for sequence in body.get("stop_sequences") or ():
        if sequence in said:
            return message(text(said.partition(sequence)[0]), stop_reason="stop_sequence", stop_sequence=sequence)
    if body["max_tokens"] < OUTPUT_TOKENS:
        return message(text(TOKENS[0]), stop_reason="max_tokens")
    return message(*thoughts, text(said))


def _arguments(tool: dict[str, Any]) -> Any:
    if tool.get("strict"):
        return instance(tool["input_schema"])
    return ARGUMENTS if tool["input_schema"].get("properties") else {}


def instance(schema: dict[str, Any]) -> Any:
    """Something that fits a closed schema without references."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: instance(each) for name, each in schema["properties"].items()}
        case "array":
            return [instance(schema["items"])]
        case "integer" | "number":
            return 7
    return "Zürich"


def frame(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def frames(said: dict[str, Any]) -> list[bytes]:
    return [frame(event) for event in events(said)]


def events(said: dict[str, Any]) -> list[dict[str, Any]]:
    opening = said | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE | {"output_tokens": 1}}
    found: list[dict[str, Any]] = [{"type": "message_start", "message": opening}, {"type": "ping"}]
    for index, block in enumerate(said["content"]):
        empty, deltas = _streamed(block)
        found.append({"type": "content_block_start", "index": index, "content_block": empty})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": said["stop_reason"], "stop_sequence": said["stop_sequence"]}
    usage = {"output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"thinking_tokens": 5}}
    return [*found, {"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]


def _streamed(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as it begins, and its deltas."""
    match block["type"]:
        case "text":
            pieces = TOKENS if block["text"] == TEXT else _halves(block["text"])
            return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
        case "tool_use":
            written = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":")) if block["input"] else ""
            pieces = ["", *_halves(written)]
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
    return block | {"thinking": "", "signature": ""}, [
        *deltas,
        {"type": "signature_delta", "signature": block["signature"]},
    ]


def _halves(said: str) -> list[str]:
    middle = len(said) // 2
    return [piece for piece in (said[:middle], said[middle:]) if piece]
