"""What Anthropic's Messages API refuses, as its documentation has it."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.behaviours import Received

Complaint = tuple[int, str, str]  # status, type, message

REQUIRED = {"model", "messages", "max_tokens"}
OPTIONAL = {"system", "stream", "temperature", "top_p", "stop_sequences", "tools", "tool_choice", "thinking"}
OPTIONAL |= {"output_config", "metadata"}
BLOCKS: dict[str, set[str]] = {
    "text": {"text"},
    "image": {"source"},
    "document": {"source", "title"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content"},
}
SOURCES = {"base64": {"media_type", "data"}, "url": {"url"}, "text": {"media_type", "data"}}
MEDIA = {"image": {"image/jpeg", "image/png", "image/gif", "image/webp"}, "document": {"application/pdf", "text/plain"}}
CHOICES = {"auto": set(), "any": set(), "none": set(), "tool": {"name"}}
EFFORTS = {"low", "medium", "high", "xhigh", "max"}
NOT_IN_SCHEMAS = {"minimum", "maximum", "multipleOf", "minLength", "maxLength", "pattern", "maxItems", "oneOf"}
# They take temperature and budgets of thinking, and begin an answer with the last message if that is the assistant's.
OLDER = {"claude-sonnet-4-5", "claude-haiku-4-5"}
ALWAYS_THINK = {"claude-opus-5-5"}


class Invalid(Exception):
    pass


def complaint(request: Received) -> Complaint | None:
    if (wrong := of_headers(request)) is not None:
        return wrong
    if request.headers.get("content-type") != "application/json":
        return 400, "invalid_request_error", "Content-Type must be application/json"
    try:
        _check(request.json)
    except Invalid as problem:
        return 400, "invalid_request_error", str(problem)
    return None


def of_headers(request: Received) -> Complaint | None:
    if ("x-api-key" in request.headers) == ("authorization" in request.headers):
        return 401, "authentication_error", "invalid x-api-key"
    if request.headers.get("anthropic-version") not in {"2023-06-01", "2026-10-21"}:
        return 400, "invalid_request_error", "anthropic-version: header is required"
    return None


def _require(holds: object, message: str) -> None:
    if not holds:
        raise Invalid(message)


def _fields(found: dict[str, Any], required: set[str], optional: set[str], at: str) -> None:
    _require(required <= set(found), f"{at}: {required - set(found)}: Field required")
    extra = set(found) - required - optional
    _require(not extra, f"{at}: {extra}: Extra inputs are not permitted")
    _require(None not in found.values(), f"{at}: null")


def _check(body: dict[str, Any]) -> None:
    _fields(body, REQUIRED, OPTIONAL, "body")
    _require(isinstance(body["max_tokens"], int) and body["max_tokens"] >= 1, "max_tokens: must be at least 1")
    _require(body.get("stream") in {None, True, False}, "stream: must be a boolean")
    for block in body.get("system", ()):
        _require(block["type"] == "text", "system: text only")
        _block(block, "system")
    _turns(body["messages"], older=body["model"] in OLDER)
    _tools(body)
    _stop_sequences(body.get("stop_sequences"))
    _sampling(body)
    _thinking(body)
    if (form := body.get("output_config", {}).get("format")) is not None:
        _fields(form, {"type", "schema"}, set(), "output_config.format")
        _closed(form["schema"])
    if "metadata" in body:
        _fields(body["metadata"], {"user_id"}, set(), "metadata")
        _require(len(body["metadata"]["user_id"]) <= 256, "metadata.user_id: too long")


def _turns(turns: list[dict[str, Any]], *, older: bool) -> None:
    _require(turns and turns[0]["role"] == "user", "messages: first message must use the user role")
    waiting: list[str] = []  # calls without their results
    seen: set[str] = set()
    for index, turn in enumerate(turns):
        at = f"messages.{index}"
        _fields(turn, {"role", "content"}, set(), at)
        role = "user" if index % 2 == 0 else "assistant"
        _require(turn["role"] == role, f"{at}: roles must alternate")
        _require(turn["content"], f"{at}: all messages must have non-empty content")
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        _require(sorted(results) == sorted(waiting), f"{at}: `tool_use` and `tool_result` do not match")
        kinds = [block["type"] == "tool_result" for block in turn["content"]]
        _require(kinds == sorted(kinds, reverse=True), f"{at}: tool_result blocks must come first")
        for block in turn["content"]:
            _block(block, at, role=role)
        waiting = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        _require(len(set(waiting)) == len(waiting) and not seen & set(waiting), f"{at}: tool_use ids must be unique")
        seen |= set(waiting)
    _require(not waiting, "messages: tool_use without tool_result")
    last = turns[-1]
    if last["role"] == "assistant":
        _require(older, "This model does not support assistant message prefill.")
        _require(last["content"][-1]["text"] == last["content"][-1]["text"].rstrip(), "final text: trailing whitespace")


def _block(block: dict[str, Any], at: str, *, role: str = "user") -> None:
    kind = str(block.get("type"))
    _require(kind in BLOCKS, f"{at}: unknown type {kind}")
    required = BLOCKS[kind] - {"title", "content"}
    _fields(block, required | {"type"}, BLOCKS[kind] | {"cache_control"}, at)
    if "cache_control" in block:
        _require(block["cache_control"] in ({"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}), "cache_control")
    match kind:
        case "text":
            _require(block["text"].strip(), f"{at}: text content blocks must contain non-whitespace text")
        case "image" | "document":
            _require(role == "user", f"{at}: {kind} in an assistant message")
            _source(block["source"], kind, at)
        case "tool_use":
            _require(role == "assistant", f"{at}: tool_use in a user message")
            _require(re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]), f"{at}.id: should match the pattern")
            _require(isinstance(block["input"], dict), f"{at}.input: should be an object")
        case "tool_result":
            _require(role == "user", f"{at}: tool_result in an assistant message")
            for part in block.get("content", ()):
                _block(part, at)


def _source(source: dict[str, Any], kind: str, at: str) -> None:
    _fields(source, SOURCES[source["type"]] | {"type"}, set(), at)
    if source["type"] == "url":
        _require(source["url"].startswith("https://"), f"{at}: only HTTPS URLs are supported")
        return
    _require(source["media_type"] in MEDIA[kind], f"{at}: media_type")
    if source["type"] == "base64":
        try:
            base64.b64decode(source["data"], validate=True)
        except binascii.Error:
            raise Invalid(f"{at}: invalid base64 data") from None


def _tools(body: dict[str, Any]) -> None:
    tools = body.get("tools", [])
    names = [tool["name"] for tool in tools]
    _require(len(set(names)) == len(names), "tools: Tool names must be unique.")
    for tool in tools:
        _fields(tool, {"name", "input_schema"}, {"description", "strict", "cache_control"}, "tools")
        _require(re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]), "tools: name")
        _require(tool["input_schema"].get("type") == "object", "tools: input_schema.type: Input should be 'object'")
        if tool.get("strict"):
            _closed(tool["input_schema"])
    used = [block for turn in body["messages"] for block in turn["content"] if block["type"] == "tool_use"]
    _require(tools or not used, "Requests which include `tool_use` or `tool_result` blocks must define tools")
    if "tool_choice" in body:
        choice = body["tool_choice"]
        _require(tools, "tool_choice may only be specified while providing tools")
        parallel = set() if choice["type"] == "none" else {"disable_parallel_tool_use"}
        _fields(choice, CHOICES[choice["type"]] | {"type"}, parallel, "tool_choice")
        _require(choice.get("name") in {None, *names}, "tool_choice: Tool not found in provided tools")


def _stop_sequences(sequences: list[str] | None) -> None:
    for sequence in sequences or ():
        _require(sequence.strip(), "stop_sequences: each stop sequence must contain non-whitespace")


def _sampling(body: dict[str, Any]) -> None:
    given = {"temperature", "top_p"} & set(body)
    _require(not given or body["model"] in OLDER, f"{given} is deprecated for this model.")
    _require(len(given) < 2, "`temperature` and `top_p` cannot both be specified for this model.")
    for name in given:
        _require(0 <= body[name] <= 1, f"{name}: range: 0..1")


def _thinking(body: dict[str, Any]) -> None:
    older = body["model"] in OLDER
    effort = body.get("output_config", {}).get("effort")
    _require(effort is None or (effort in EFFORTS and not older), "This model does not support the effort parameter.")
    thinking = body.get("thinking")
    if thinking is None or thinking["type"] == "disabled":
        return
    _require(
        body.get("tool_choice", {}).get("type") not in {"any", "tool"}, "Thinking while tool_choice forces tool use."
    )
    _require("temperature" not in body, "`temperature` may only be set to 1 when thinking is enabled.")
    if thinking["type"] == "adaptive":
        _fields(thinking, {"type"}, set(), "thinking")
        _require(not older, "adaptive thinking is not supported on this model")
        return
    _fields(thinking, {"type", "budget_tokens"}, set(), "thinking")
    _require(older, '"thinking.type.enabled" is not supported for this model.')
    _require(1024 <= thinking["budget_tokens"] < body["max_tokens"], "max_tokens must be greater than budget_tokens")
    loop = body["messages"][-1]["content"][0]["type"] == "tool_result"
    _require(not loop, "Expected `thinking` or `redacted_thinking`, but found `tool_use`.")


def _closed(schema: dict[str, Any]) -> None:
    for each in _objects(schema):
        extra = NOT_IN_SCHEMAS & set(each)
        _require(not extra or "properties" not in each, f"For schemas, {extra} is not supported")
        if each.get("type") == "object":
            _require(
                each.get("additionalProperties") is False, "'additionalProperties' must be explicitly set to false"
            )
        elif "type" in each:
            _require(not extra, f"For '{each['type']}' type, property {extra} is not supported")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)
