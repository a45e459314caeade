"""What is sent, for type checkers and editors. At run time these are plain dictionaries, which the API checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple, TypedDict, Union

if TYPE_CHECKING:
    from os import PathLike
    from typing import IO, Literal

    from helixflow.types.responses import Message

__all__ = [
    "AssistantMessage",
    "BatchCreateOptions",
    "BatchRequest",
    "CallOptions",
    "ChatOptions",
    "CompletionOptions",
    "ContentPart",
    "DeveloperMessage",
    "EmbeddingOptions",
    "FileContent",
    "FileListOptions",
    "FilePart",
    "FunctionDefinition",
    "ImagePart",
    "InputAudioPart",
    "MessageParam",
    "PageOptions",
    "RequestListOptions",
    "StreamOptions",
    "SystemMessage",
    "TextPart",
    "TimeseriesOptions",
    "Tool",
    "ToolMessage",
    "UserMessage",
]


class CallOptions(TypedDict, total=False):
    """Of one call, beside what it asks.

    ``timeout`` is in seconds. ``idempotency_key`` is made up where you give none. ``extra_body`` and ``extra_query``
    are for parameters that this version of the package has no name for.
    """

    timeout: float | None
    max_retries: int
    idempotency_key: str
    extra_headers: Mapping[str, str]
    extra_query: Mapping[str, Any]
    extra_body: Mapping[str, Any]


# Messages


class TextPart(TypedDict):
    type: Literal["text"]
    text: str


class _ImageUrlNeeded(TypedDict):
    url: str


class ImageUrl(_ImageUrlNeeded, total=False):
    detail: Literal["auto", "low", "high", "original"]


class ImagePart(TypedDict):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(TypedDict):
    data: str
    format: Literal["wav", "mp3"]


class InputAudioPart(TypedDict):
    type: Literal["input_audio"]
    input_audio: InputAudio


class FileReference(TypedDict, total=False):
    file_data: str
    file_id: str
    filename: str


class FilePart(TypedDict):
    type: Literal["file"]
    file: FileReference


ContentPart = Union[TextPart, ImagePart, InputAudioPart, FilePart]


class _Named(TypedDict, total=False):
    name: str


class SystemMessage(_Named):
    role: Literal["system"]
    content: str | Sequence[TextPart]


class DeveloperMessage(_Named):
    role: Literal["developer"]
    content: str | Sequence[TextPart]


class UserMessage(_Named):
    role: Literal["user"]
    content: str | Sequence[ContentPart]


class CalledFunction(TypedDict):
    name: str
    arguments: str


class ToolCallParam(TypedDict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class _AssistantOptions(TypedDict, total=False):
    content: str | Sequence[TextPart] | None
    name: str
    refusal: str | None
    tool_calls: Sequence[ToolCallParam]


class AssistantMessage(_AssistantOptions):
    role: Literal["assistant"]


class ToolMessage(TypedDict):
    role: Literal["tool"]
    content: str | Sequence[TextPart]
    tool_call_id: str


# A message of an answer can be put back into the conversation as it is. Mapping: a dictionary built elsewhere.
MessageParam = Union[
    SystemMessage, DeveloperMessage, UserMessage, AssistantMessage, ToolMessage, "Message", Mapping[str, Any]
]


# Tools and formats


class _FunctionNeeded(TypedDict):
    name: str


class FunctionDefinition(_FunctionNeeded, total=False):
    description: str
    parameters: Mapping[str, Any]
    strict: bool


class Tool(TypedDict):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(TypedDict):
    name: str


class ToolChoice(TypedDict):
    type: Literal["function"]
    function: NamedFunction


class _JsonSchemaNeeded(TypedDict):
    name: str


class JsonSchema(_JsonSchemaNeeded, total=False):
    description: str
    schema: Mapping[str, Any]
    strict: bool


class PlainFormat(TypedDict):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(TypedDict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(TypedDict, total=False):
    include_usage: bool
    include_obfuscation: bool


# Calls


class _Sampling(TypedDict, total=False):
    """Of chat and text completions alike."""

    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    stop: str | Sequence[str] | None
    n: int | None
    seed: int | None
    user: str | None
    logit_bias: Mapping[str, int] | None
    stream_options: StreamOptions | None


class _Chat(_Sampling, total=False):
    max_completion_tokens: int | None
    tools: Sequence[Tool | Mapping[str, Any]]
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | Mapping[str, Any]
    parallel_tool_calls: bool
    response_format: PlainFormat | JsonSchemaFormat | Mapping[str, Any]
    logprobs: bool | None
    top_logprobs: int | None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    verbosity: Literal["low", "medium", "high"]
    modalities: Sequence[Literal["text", "audio"]]
    audio: Mapping[str, Any]
    prediction: Mapping[str, Any]
    moderation: Mapping[str, Any]
    web_search_options: Mapping[str, Any]
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"]
    store: bool | None
    metadata: Mapping[str, str] | None
    safety_identifier: str
    prompt_cache_key: str
    prompt_cache_options: Mapping[str, Any]
    prompt_cache_retention: Literal["in_memory", "24h"]
    functions: Sequence[Mapping[str, Any]]
    function_call: Literal["none", "auto"] | NamedFunction


class ChatOptions(_Chat, CallOptions, total=False):
    """``chat.completions.create`` beside ``model``, ``messages`` and ``stream``."""


class CompletionOptions(_Sampling, CallOptions, total=False):
    """``completions.create`` beside ``model``, ``prompt`` and ``stream``."""

    suffix: str | None
    logprobs: int | None
    echo: bool | None
    best_of: int | None


class EmbeddingOptions(CallOptions, total=False):
    """``embeddings.create`` beside ``model`` and ``input``."""

    encoding_format: Literal["float", "base64"]
    dimensions: int
    user: str


class BatchCreateOptions(CallOptions, total=False):
    """``batches.create``: either ``requests``, or ``input_file_id`` with ``endpoint`` and ``completion_window``."""

    requests: Sequence[BatchRequest | Mapping[str, Any]]
    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: Literal["24h"]
    metadata: Mapping[str, str]


class _BatchNeeded(TypedDict):
    model: str


class BatchRequest(_BatchNeeded, _Chat, total=False):
    """One request of a batch: the body of a call, and perhaps a name of your own for it."""

    custom_id: str
    messages: Sequence[MessageParam]
    prompt: str | Sequence[str]
    input: str | Sequence[str]


class PageOptions(CallOptions, total=False):
    limit: int
    after: str


class FileListOptions(PageOptions, total=False):
    purpose: str


class TimeseriesOptions(CallOptions, total=False):
    """Times are RFC 3339 texts; the end is not in it."""

    start: str
    end: str
    bucket: Literal["hour", "day", "month"]
    group_by: Literal["none", "key", "environment", "model", "deployment", "status"]
    api_key: str
    model: str


class RequestListOptions(CallOptions, total=False):
    """``status`` is ``success``, ``failed`` or a status of HTTP; ``until`` is not in it."""

    limit: int
    cursor: str
    api_key: str
    model: str
    end_user: str
    status: str | int
    error_code: str
    since: str
    until: str


# Bytes, an open file or the path of one; or (name, content), where the content may be text too.
FileContent = Union[bytes, str, "IO[bytes]", "PathLike[str]", Tuple[str, "bytes | str | IO[bytes]"]]

Inputs = Union[str, Sequence[str], Sequence[int], Sequence[Sequence[int]]]
Json = Union[Dict[str, Any], List[Any], str, int, float, bool, None]
