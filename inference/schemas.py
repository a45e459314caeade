"""The body of ``POST /v1/chat/completions``: strictly read, and written anew for the upstream (contract §6).

One typed decode is the whole check of an ordinary body. Free-form JSON schemas alone are read by themselves.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from inference import complaints
from inference.parts import (
    ABSENT,
    NO_NUL,
    AssistantMessage,
    AudioOptions,
    ChosenAllowed,
    FreeForm,
    FunctionTool,
    JsonSchemaFormat,
    Label,
    LegacyFunction,
    Message,
    Moderation,
    Named,
    Prediction,
    PromptCacheOptions,
    ResponseFormat,
    StreamOptions,
    Tool,
    ToolChoice,
    WebSearchOptions,
)

DEFAULT_MAX_TOKENS: Final = 150
MAX_DEPTH: Final = 64
MAX_MESSAGES: Final = 10_000
MAX_FREE_FORM: Final = 512 * 1024
MAX_PARTS: Final = 10_000
PARTS_FROM: Final = 256 * 1024  # bytes of a body, as fewer hold no such number

Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
ShortLabel = Annotated[str, Meta(max_length=64, pattern=NO_NUL)]
Identifier = Annotated[str, Meta(max_length=128, pattern=NO_NUL)]
ModelName = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z")]


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """OpenAI's documented parameters, each with its type and range. ``null`` means absent."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: Annotated[dict[str, Annotated[int, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[LegacyFunction], Meta(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | Named | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioOptions | None = None
    prediction: Prediction | None = None
    moderation: Moderation | None = None
    web_search_options: WebSearchOptions | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    metadata: Annotated[dict[ShortLabel, Label], Meta(max_length=16)] | None = None
    safety_identifier: Identifier | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_usage_chunk(self) -> bool:
        return self.stream is True and self.stream_options is not None and self.stream_options.include_usage is True


_CHOICES: Final = complaints.allowed_values(ChatRequest) | {
    "role": ("system", "developer", "user", "assistant", "tool", "function")
}
_RANGES: Final = complaints.bounds(ChatRequest)
_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_free_form = msgspec.json.Decoder(dict[str, Any] | None).decode
_encode = msgspec.json.Encoder().encode


def parse_chat_request(body: bytes) -> ChatRequest:
    """Raises ``errors.InvalidRequest``, whose ``param`` names the field as OpenAI prints it: ``messages[0].content``.

    Of duplicate keys the last counts, which is also the one that is sent on.
    """
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise complaints.translate(problem, body, ranges=_RANGES, choices=_CHOICES) from None
    if request.top_logprobs is not None and not request.logprobs:
        raise complaints.refuse("top_logprobs", "needs logprobs to be true")
    if len(body) > PARTS_FROM:
        _count_parts(request.messages)
    if (request.tools or request.functions or request.response_format or request.tool_choice) is not None:
        _read_free_form(request)
    return request


def encode_chat_request(
    request: ChatRequest,
    *,
    upstream_model: str,
    stream: bool,
    limit: Literal["max_tokens", "max_completion_tokens"] | None = None,
    stream_options: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Our own encoding of a validated body. Usage is asked of every stream, whether or not the caller wants to see it.

    ``stream`` says what the upstream is to do, which may differ from what the caller asked of us. ``limit`` is the one
    name that the upstream has for it: OpenAI's reasoning models refuse max_tokens, and many servers never heard of the
    other. None keeps the caller's. ``extra`` fields have names that OpenAI doesn't know.
    """
    wire = msgspec.structs.replace(request, model=upstream_model, stream=stream or None, stream_options=None)
    if stream and stream_options:
        asked = request.stream_options
        obfuscation = asked.include_obfuscation if asked is not None else None
        wire.stream_options = StreamOptions(include_usage=True, include_obfuscation=obfuscation)
    if wire.max_completion_tokens is not None:
        wire.max_tokens = None
    elif wire.max_tokens is None:
        wire.max_tokens = DEFAULT_MAX_TOKENS
    if limit == "max_completion_tokens" and wire.max_completion_tokens is None:
        wire.max_completion_tokens, wire.max_tokens = wire.max_tokens, None
    elif limit == "max_tokens" and wire.max_tokens is None:
        wire.max_tokens, wire.max_completion_tokens = wire.max_completion_tokens, None
    body = _encode(wire)
    return body[:-1] + b"," + _encode(extra)[1:] if extra else body


def _count_parts(messages: list[Message]) -> None:
    """Adapters go through them one by one, each in the time of everybody's requests."""
    count = 0
    for message in messages:
        if isinstance(message.content, list):
            count += len(message.content)
        if isinstance(message, AssistantMessage):
            count += len(message.tool_calls or ())
    if count > MAX_PARTS:
        raise complaints.refuse("messages", f"must have at most {MAX_PARTS} parts and tool calls in all")


def _read_free_form(request: ChatRequest) -> None:
    """Check what the schema does not bound by itself, and put our own encoding of it in its place."""
    budget = _Budget()
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, FunctionTool):
            tool.function.parameters = budget.read(tool.function.parameters, f"tools[{index}].function.parameters")
    for index, function in enumerate(request.functions or ()):
        function.parameters = budget.read(function.parameters, f"functions[{index}].parameters")
    if isinstance(request.response_format, JsonSchemaFormat):
        definition = request.response_format.json_schema
        definition.schema = budget.read(definition.schema, "response_format.json_schema.schema")
    if isinstance(request.tool_choice, ChosenAllowed):
        allowed = request.tool_choice.allowed_tools
        allowed.tools = [
            budget.read(tool, f"tool_choice.allowed_tools.tools[{index}]") for index, tool in enumerate(allowed.tools)
        ]


class _Budget:
    """The free-form objects of one body share its limit: a million of `{}` would hold up everybody's requests."""

    def __init__(self) -> None:
        self._left = MAX_FREE_FORM

    def read(self, raw: FreeForm, param: str) -> FreeForm:
        if raw is ABSENT:
            return ABSENT
        self._left -= memoryview(raw).nbytes
        if self._left < 0:
            raise complaints.refuse(param, f"is too large: schemas have at most {MAX_FREE_FORM // 1024} KiB in all")
        try:
            value = _decode_free_form(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise complaints.translate(problem, bytes(raw), ranges={}, choices={}, root=param) from None
        if value is None:
            return ABSENT
        if _deeper_than(value, MAX_DEPTH - param.count(".") - param.count("[") - 1):
            raise complaints.refuse(param, f"is nested too deeply: a body has at most {MAX_DEPTH} levels")
        return msgspec.Raw(_encode(value))


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether ``value`` nests more than ``levels`` objects and arrays. Level by level: nothing here recurses."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
