"""The body of ``POST /v1/chat/completions``: strictly read, and written anew for the upstream (contract §6).

One typed decode is the whole check of an ordinary body. Free-form JSON schemas alone are looked at again, for depth.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from inference import complaints
from inference.parts import (
    NO_NUL,
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
    logit_bias: dict[str, Annotated[int, Meta(ge=-100, le=100)]] | None = None
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
    if (request.tools or request.functions or request.response_format or request.tool_choice) is not None:
        for param, value in _free_form(request):
            if _deeper_than(value, MAX_DEPTH - param.count(".") - param.count("[") - 1):
                raise complaints.refuse(param, f"is nested too deeply: a body has at most {MAX_DEPTH} levels")
    return request


def encode_chat_request(request: ChatRequest, *, upstream_model: str, stream: bool) -> bytes:
    """Our own encoding of a validated body. Usage is asked of every stream, whether or not the caller wants to see it.

    ``stream`` says what the upstream is to do, which may differ from what the caller asked of us.
    """
    wire = msgspec.structs.replace(request, model=upstream_model, stream=stream or None, stream_options=None)
    if stream:
        asked = request.stream_options
        obfuscation = asked.include_obfuscation if asked is not None else None
        wire.stream_options = StreamOptions(include_usage=True, include_obfuscation=obfuscation)
    if wire.max_completion_tokens is not None:
        wire.max_tokens = None
    elif wire.max_tokens is None:
        wire.max_tokens = DEFAULT_MAX_TOKENS
    return _encode(wire)


def _free_form(request: ChatRequest) -> Iterator[tuple[str, FreeForm]]:
    """Each free-form object with its path: what the schema does not bound by itself."""
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, FunctionTool) and tool.function.parameters:
            yield f"tools[{index}].function.parameters", tool.function.parameters
    for index, function in enumerate(request.functions or ()):
        if function.parameters:
            yield f"functions[{index}].parameters", function.parameters
    if isinstance(request.response_format, JsonSchemaFormat) and request.response_format.json_schema.schema:
        yield "response_format.json_schema.schema", request.response_format.json_schema.schema
    if isinstance(request.tool_choice, ChosenAllowed):
        for index, allowed in enumerate(request.tool_choice.allowed_tools.tools):
            yield f"tool_choice.allowed_tools.tools[{index}]", allowed


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
