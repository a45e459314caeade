"""What comes back. Each class names the documented fields; others that the API sends are there too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helixflow._objects import Object, Response

if TYPE_CHECKING:
    from typing import Literal

    from helixflow.errors import APIError

__all__ = [
    "Batch",
    "BatchResult",
    "ChatCompletion",
    "ChatCompletionChunk",
    "Choice",
    "ChoiceDelta",
    "ChunkChoice",
    "Completion",
    "CompletionChoice",
    "CompletionUsage",
    "DeletedFile",
    "Embedding",
    "Embeddings",
    "File",
    "Function",
    "Health",
    "Message",
    "Model",
    "Object",
    "RequestRecord",
    "Response",
    "TimeSeries",
    "ToolCall",
    "Usage",
]


class CompletionUsage(Object):
    __slots__ = ()
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Object | None
    completion_tokens_details: Object | None


class Function(Object):
    __slots__ = ()
    name: str
    arguments: str


class ToolCall(Object):
    __slots__ = ()
    index: int | None
    id: str
    type: str
    function: Function


class Message(Object):
    __slots__ = ()
    role: str
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall] | None
    audio: Object | None
    annotations: list[Any] | None
    reasoning_content: str | None


class Choice(Object):
    __slots__ = ()
    index: int
    message: Message
    finish_reason: str | None
    logprobs: Object | None


class ChatCompletion(Response):
    __slots__ = ()
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: str | None
    service_tier: str | None


class ChoiceDelta(Object):
    __slots__ = ()
    role: str | None
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall] | None
    reasoning_content: str | None


class ChunkChoice(Object):
    __slots__ = ()
    index: int
    delta: ChoiceDelta
    finish_reason: str | None
    logprobs: Object | None


class ChatCompletionChunk(Object):
    """``usage`` is that of the last chunk, if ``stream_options`` asked for it: there ``choices`` is empty."""

    __slots__ = ()
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None


class CompletionChoice(Object):
    __slots__ = ()
    index: int
    text: str
    finish_reason: str | None
    logprobs: Object | None


class Completion(Response):
    """Of a stream each chunk is one, with the next piece of ``text``."""

    __slots__ = ()
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None


class Embedding(Object):
    """``embedding`` is base64 text if that ``encoding_format`` was asked for."""

    __slots__ = ()
    index: int
    object: Literal["embedding"]
    embedding: list[float]


class Embeddings(Response):
    __slots__ = ()
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: CompletionUsage


class Model(Response):
    __slots__ = ()
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class File(Response):
    __slots__ = ()
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str


class DeletedFile(Response):
    __slots__ = ()
    id: str
    object: Literal["file"]
    deleted: bool


class BatchCounts(Object):
    __slots__ = ()
    total: int
    completed: int
    failed: int


class BatchProblem(Object):
    __slots__ = ()
    code: str
    message: str
    param: str | None
    line: int | None


class BatchProblems(Object):
    __slots__ = ()
    data: list[BatchProblem]


class BatchUsage(Object):
    __slots__ = ()
    input_tokens: int
    input_tokens_details: Object | None
    output_tokens: int
    output_tokens_details: Object | None
    total_tokens: int


class Batch(Response):
    """Times are in epoch seconds. ``cost`` is decimal text. ``retry_of`` is the batch whose failed requests it has."""

    __slots__ = ()
    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchProblems | None
    input_file_id: str | None
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    metadata: Object | None
    usage: BatchUsage | None
    cost: str | None
    currency: str | None
    retry_of: str | None
    waits_for: str | None

    @property
    def is_done(self) -> bool:
        return self["status"] in {"completed", "failed", "expired", "cancelled"}


class BatchResult:
    """What became of one request: either ``response`` or ``error`` is there, and the other is None."""

    __slots__ = ("custom_id", "error", "id", "response")

    def __init__(self, *, id: str | None, custom_id: str, response: Any, error: APIError | None) -> None:
        self.id = id
        self.custom_id = custom_id
        # A ChatCompletion, Completion or Embeddings, by the batch's endpoint.
        self.response = response
        self.error = error

    @property
    def ok(self) -> bool:
        return self.error is None

    def unwrap(self) -> Any:
        """The response; raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self.response

    def __repr__(self) -> str:
        shown = f"error={self.error!r}" if self.error is not None else f"response={self.response!r}"
        return f"BatchResult(custom_id={self.custom_id!r}, {shown})"


class Health(Response):
    __slots__ = ()
    status: str
    timestamp: int
    version: str
    services: Object


class Limit(Object):
    __slots__ = ()
    limit: int | None
    used: int | None
    remaining: int | None
    resets_at: str


class Tokens(Object):
    __slots__ = ()
    prompt: int
    cached: int
    completion: int
    total: int


class KeyUsage(Object):
    __slots__ = ()
    id: str
    name: str
    hint: str
    environment: str
    status: str
    used_this_minute: int | None
    used: int
    requests: int
    tokens: Tokens
    cost: str
    limits: Object


class Usage(Response):
    """Money is decimal text."""

    __slots__ = ()
    object: Literal["usage"]
    source: str
    period: Object
    minute: Limit
    month: Limit
    parallel: Limit | None
    budget: Object | None
    requests: int
    tokens: Tokens
    cost: str
    currency: str

    @property
    def keys(self) -> list[KeyUsage]:  # type: ignore[override]  # the API's field; ``list(usage)`` has a dict's keys
        found: list[KeyUsage] = [KeyUsage.read(key) for key in self.get("keys", ())]
        return found


class Point(Object):
    __slots__ = ()
    at: str
    requests: int
    failures: Object
    tokens: Tokens | None
    cost: str | None
    duration_ms: Object | None
    first_token_ms: Object | None


class Series(Object):
    __slots__ = ()
    totals: Object
    points: list[Point]


class TimeSeries(Response):
    __slots__ = ()
    start: str
    end: str
    bucket: str
    group_by: str
    series: list[Series]


class RequestRecord(Response):
    """The receipt of one request, or its line in the list of them."""

    __slots__ = ()
    id: str
    operation: str
    status: int
    model: str
    tokens: Object
    cost: str | None
    duration_ms: float | None
    error_code: str | None
