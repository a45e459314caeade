"""The parts of an answer as OpenAI documents them, and the tolerant reading of an upstream's.

Reading keeps these fields alone, so what an upstream adds of its own making (timings, file paths, prompts) never
leaves. A field that was absent stays absent and a null stays null. ``reasoning_content`` is the one addition: it is
what DeepSeek and llama.cpp call it, and ``reasoning``, as Ollama, Groq, Cerebras and OpenRouter say, becomes it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

Text = str | UnsetType | None
Whole = int | UnsetType | None

MAX_TOKENS: Final = 2**31 - 1
MAX_SAID: Final = 4096  # of an error's text: cut far behind what is shown once it is clean, not amid a key
# Of a choice, or of a tool call in it: what is put together by index must not grow with what an upstream makes up.
Index = Annotated[int, msgspec.Meta(ge=0, lt=128)]


class BadAnswer(Exception):
    """The upstream's answer makes no sense."""


class UpstreamStreamError(Exception):
    """The upstream says, where an answer should be, that it failed."""


class Throttled(UpstreamStreamError):
    """It says that it was asked too often: what a status of 429 says where there is one."""


# Usage


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: Whole = UNSET
    cache_write_tokens: Whole = UNSET
    audio_tokens: Whole = UNSET
    image_tokens: Whole = UNSET
    text_tokens: Whole = UNSET


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: Whole = UNSET
    audio_tokens: Whole = UNSET
    text_tokens: Whole = UNSET
    accepted_prediction_tokens: Whole = UNSET
    rejected_prediction_tokens: Whole = UNSET


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


class ReportedUsage(msgspec.Struct):
    """Usage as upstreams report it: any of it may be missing, null, a whole float or nonsense."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    def usage(self) -> Usage | None:
        """None where nothing is said, or nothing that can be counted."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        prompt, completion = int(self.prompt_tokens or 0), int(self.completion_tokens or 0)
        total = prompt + completion if self.total_tokens is None else int(self.total_tokens)
        if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS and 0 <= total <= MAX_TOKENS):
            return None
        return Usage(
            prompt,
            completion,
            total,
            prompt_tokens_details=self.prompt_tokens_details or UNSET,
            completion_tokens_details=self.completion_tokens_details or UNSET,
        )


# Messages and deltas


class FunctionText(msgspec.Struct):
    name: Text = UNSET
    arguments: Text = UNSET

    def length(self) -> int:
        return len(self.name or "") + len(self.arguments or "")


class CustomText(msgspec.Struct):
    name: Text = UNSET
    input: Text = UNSET

    def length(self) -> int:
        return len(self.name or "") + len(self.input or "")


class ToolCall(msgspec.Struct):
    id: Text = UNSET
    type: Text = UNSET
    function: FunctionText | UnsetType | None = UNSET
    custom: CustomText | UnsetType | None = UNSET


class ToolCallDelta(msgspec.Struct):
    index: Index | UnsetType | None = UNSET
    id: Text = UNSET
    type: Text = UNSET
    function: FunctionText | UnsetType | None = UNSET
    custom: CustomText | UnsetType | None = UNSET


class UrlCitation(msgspec.Struct):
    url: str
    title: Text = UNSET
    start_index: Whole = UNSET
    end_index: Whole = UNSET


class Annotation(msgspec.Struct):
    type: str
    url_citation: UrlCitation | UnsetType = UNSET


class Audio(msgspec.Struct):
    id: Text = UNSET
    data: Text = UNSET
    expires_at: Whole = UNSET
    transcript: Text = UNSET


class Message(msgspec.Struct):
    role: str = "assistant"
    content: str | None = None
    reasoning_content: Text = UNSET
    refusal: Text = UNSET
    tool_calls: list[ToolCall] | UnsetType | None = UNSET
    function_call: FunctionText | UnsetType | None = UNSET
    annotations: list[Annotation] | UnsetType | None = UNSET
    audio: Audio | UnsetType | None = UNSET
    reasoning: Any = UNSET  # gone once it is read


class Delta(msgspec.Struct):
    role: Text = UNSET
    content: Text = UNSET
    reasoning_content: Text = UNSET
    refusal: Text = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType | None = UNSET
    function_call: FunctionText | UnsetType | None = UNSET
    annotations: list[Annotation] | UnsetType | None = UNSET
    audio: Audio | UnsetType | None = UNSET
    reasoning: Any = UNSET  # gone once it is read


def length(part: Message | Delta) -> int:
    """Characters that the model has written here."""
    found = len(part.content or "") + len(part.reasoning_content or "") + len(part.refusal or "")
    if part.function_call:
        found += part.function_call.length()
    for call in part.tool_calls or ():
        found += (call.function.length() if call.function else 0) + (call.custom.length() if call.custom else 0)
    return found


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | UnsetType | None = UNSET


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | UnsetType | None = UNSET
    top_logprobs: list[TopLogprob] = []


class Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | UnsetType | None = UNSET
    refusal: list[TokenLogprob] | UnsetType | None = UNSET


# Choices and answers


class Choice(msgspec.Struct, kw_only=True):
    index: int | None = None
    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | UnsetType | None = UNSET


class ChunkChoice(msgspec.Struct):
    index: Index | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | UnsetType | None = UNSET

    def length(self) -> int:
        delta = self.delta
        if delta is None:
            return 0
        if delta.tool_calls or delta.reasoning_content or delta.refusal or delta.function_call:
            return length(delta)
        return len(delta.content or "")


class Answer(msgspec.Struct):
    """An upstream's chat.completion."""

    choices: list[Choice] | None = None
    usage: ReportedUsage | None = None
    service_tier: Text = UNSET
    system_fingerprint: Text = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET
    error: Any = None


class Chunk(msgspec.Struct):
    """An upstream's chat.completion.chunk."""

    choices: list[ChunkChoice] | None = None
    usage: ReportedUsage | None = None
    service_tier: Text = UNSET
    system_fingerprint: Text = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET
    obfuscation: Text = UNSET
    error: Any = None


# Codes, statuses and types of errors that come in place of an answer.
_LIMITS: Final = (429, "429", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED")
_FINISH_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
    # What servers that are not OpenAI say for the same.
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "recitation": "content_filter",
}

_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_chunk = msgspec.json.Decoder(Chunk).decode


def read_answer(body: bytes) -> Answer:
    """Raises BadAnswer and UpstreamStreamError."""
    answer = read(_decode_answer, body)
    if not answer.choices:
        raise BadAnswer("the answer has no choices")
    for position, choice in enumerate(answer.choices):
        choice.index = position if choice.index is None else choice.index
        choice.finish_reason = finish_reason(choice.finish_reason) or "stop"
        choice.message.role = "assistant"
        if choice.message.reasoning is not UNSET:
            _rename_reasoning(choice.message)
        for call_position, call in enumerate(choice.message.tool_calls or ()):
            # The caller has to name both in its next request.
            call.id = call.id or f"call_{call_position}"
            call.type = call.type or ("custom" if call.custom else "function")
    return answer


def read_chunk(data: bytes) -> Chunk:
    """The chunk, its choices each with their index and delta. Raises BadAnswer and UpstreamStreamError."""
    chunk = read(_decode_chunk, data)
    choices = chunk.choices
    if choices is None:
        if chunk.usage is None:
            raise BadAnswer("the chunk has no choices")
        choices = chunk.choices = []
    position = 0
    for choice in choices:
        if choice.index is None:
            choice.index = position
        position += 1  # the quicker way by far for the one choice of nearly every chunk
        if choice.finish_reason is not None:
            choice.finish_reason = finish_reason(choice.finish_reason)
        delta = choice.delta
        if delta is None:
            choice.delta = Delta()
            continue
        if delta.reasoning is not UNSET:
            _rename_reasoning(delta)
        if delta.tool_calls:
            for call_position, call in enumerate(delta.tool_calls):
                if not isinstance(call.index, int):
                    call.index = call_position
    return chunk


def _rename_reasoning(part: Message | Delta) -> None:
    """Whoever says it twice, under both names, says the same."""
    said, part.reasoning = part.reasoning, UNSET
    if said and isinstance(said, str) and not part.reasoning_content:
        part.reasoning_content = said


def finish_reason(said: str | None) -> str | None:
    """OpenAI's word for why the model stopped. Some servers write an empty one until it has."""
    if not said:
        return None
    known = _FINISH_REASONS.get(said) or _FINISH_REASONS.get(said.lower())
    if known is None and said.lower() == "error":
        raise UpstreamStreamError("the answer ended with an error")
    return known or "stop"


class _MayFail(Protocol):
    error: Any


A = TypeVar("A", bound=_MayFail)


def read(decode: Callable[[bytes], A], data: bytes) -> A:
    """Raises BadAnswer for what is none, and UpstreamStreamError for an error in its place."""
    try:
        answer = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(str(problem)) from None
    if answer.error is not None:
        raise (Throttled if _is_of_a_limit(answer.error) else UpstreamStreamError)(_error_message(answer.error))
    return answer


def _is_of_a_limit(error: Any) -> bool:
    return isinstance(error, dict) and any(error.get(name) in _LIMITS for name in ("code", "status", "type"))


def _error_message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message[:MAX_SAID] if isinstance(message, str) and message else "the upstream reported an error"
