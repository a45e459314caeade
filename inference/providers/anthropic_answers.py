"""Anthropic's answers, whole and streamed, as the chat completions and chunks that OpenAI would have made of them."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from inference import answers, sse
from inference.answers import (
    Answer,
    BadAnswer,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    FunctionText,
    ReportedUsage,
    Throttled,
    ToolCall,
    ToolCallDelta,
    UpstreamStreamError,
)

MAX_CALLS: Final = 128

_encode: Final = msgspec.json.Encoder().encode

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_EVENTS: Final = frozenset(
    {"message_start", "message_delta", "message_stop", "error"}
    | {"content_block_start", "content_block_delta", "content_block_stop"}
)


# What of them is read. All is optional: servers other than Anthropic speak this too.


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None

    def update(self, later: "_Usage") -> None:
        """Counts are cumulative, and those that did not change may be missing."""
        for name in self.__struct_fields__:
            if (value := getattr(later, name)) is not None:
                setattr(self, name, value)

    def reported(self) -> ReportedUsage:
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        usage = ReportedUsage(
            prompt_tokens=(self.input_tokens or 0) + read + written,
            completion_tokens=self.output_tokens or 0,
            prompt_tokens_details=answers.PromptTokensDetails(cached_tokens=read, cache_write_tokens=written),
        )
        if self.output_tokens_details is not None:
            thought = self.output_tokens_details.thinking_tokens or 0
            usage.completion_tokens_details = answers.CompletionTokensDetails(reasoning_tokens=thought)
        return usage


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Any = None

    def arguments(self) -> str:
        """As OpenAI has them: JSON in a string."""
        return _encode(self.input).decode() if self.input else "{}"


class _Message(msgspec.Struct):
    type: str = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)
    content_block: _Block = msgspec.field(default_factory=_Block)
    message: _Message = msgspec.field(default_factory=_Message)
    usage: _Usage | None = None
    error: _Error | None = None


class _Kind(msgspec.Struct):
    type: str = ""


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_kind: Final = msgspec.json.Decoder(_Kind).decode

T = TypeVar("T", _Message, _Event)


def _read(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        found = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(str(problem)) from None
    if found.type == "error":
        error = found.error or _Error()
        kind = Throttled if error.type == "rate_limit_error" else UpstreamStreamError
        raise kind(f"{error.type}: {error.message}"[: answers.MAX_SAID])
    return found


def _read_event(data: bytes) -> _Event:
    """Kinds of events that are new to us may mean something else by the names we know."""
    try:
        return _read(_decode_event, data)
    except BadAnswer:
        try:
            kind = _decode_kind(data).type
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = ""
        if kind in _EVENTS or not kind:
            raise
        return _Event(kind)


def _finish_reason(said: str, *, legacy: bool) -> str:
    reason = _FINISH_REASONS.get(said, "stop")
    return "function_call" if legacy and reason == "tool_calls" else reason


def read_answer(body: bytes, *, legacy: bool) -> Answer:
    """``legacy``: the caller offered functions, not tools. Raises BadAnswer and UpstreamStreamError."""
    said = _read(_decode_message, body)
    if said.content is None:
        raise BadAnswer("the message has no content")
    message = answers.Message(refusal=None)
    text = "".join(block.text for block in said.content if block.type == "text")
    thoughts = "".join(block.thinking for block in said.content if block.type == "thinking")
    uses = [block for block in said.content if block.type == "tool_use"]
    message.reasoning_content = thoughts or UNSET
    message.content = text or (None if uses else "")
    if uses and legacy:
        message.function_call = FunctionText(uses[0].name, uses[0].arguments())
    elif uses:
        message.tool_calls = [
            ToolCall(use.id or f"call_{position}", "function", FunctionText(use.name, use.arguments()))
            for position, use in enumerate(uses)
        ]
    reason = _finish_reason(said.stop_reason or "", legacy=legacy)
    choice = Choice(index=0, message=message, finish_reason=reason, logprobs=None)
    return Answer(choices=[choice], usage=said.usage.reported() if said.usage else None)


class _Call:
    """A call of a tool under way: the ``number`` it has for the caller, and whether arguments have come."""

    __slots__ = ("block", "number", "started")

    def __init__(self, number: int, block: _Block) -> None:
        self.number = number
        self.block = block
        self.started = False


class EventReader:
    """Anthropic's events, until message_stop.

    The first chunk waits for the first block: until then another deployment can answer in this one's place.
    """

    __slots__ = ("_begun", "_calls", "_calls_begun", "_decoder", "_finished", "_legacy", "_usage", "done")

    def __init__(self, *, legacy: bool) -> None:
        self.done = False
        self._decoder = sse.Decoder()
        self._legacy = legacy
        self._begun = False
        self._finished = False
        self._usage: _Usage | None = None
        self._calls: dict[int, _Call] = {}  # by the index of their block
        self._calls_begun = 0

    def feed(self, data: bytes) -> Iterator[Chunk]:
        return self._read(self._decoder.feed(data))

    def finish(self) -> Iterator[Chunk]:
        return self._read(self._decoder.finish())

    def _read(self, events: list[bytes]) -> Iterator[Chunk]:
        for data in events:
            event = _read_event(data)
            match event.type:
                case "content_block_delta":
                    yield from self._delta(event)
                case "content_block_start":
                    yield from self._start(event)
                case "content_block_stop":
                    yield from self._stop(event)
                case "message_start":
                    self._count(event.message.usage)
                case "message_delta":
                    self._count(event.usage)
                    yield from self._end(event.delta.stop_reason)
                case "message_stop":
                    if not self._finished:
                        raise BadAnswer("the message stopped without a reason")
                    self.done = True
                    return
                case _:
                    pass  # ping, and what may be invented: the protocol asks to ignore it

    def _count(self, usage: _Usage | None) -> None:
        if usage is not None:
            if self._usage is None:
                self._usage = usage
            else:
                self._usage.update(usage)

    def _start(self, event: _Event) -> Iterator[Chunk]:
        block = event.content_block
        match block.type:
            case "tool_use":
                if self._calls_begun >= MAX_CALLS:
                    raise BadAnswer("too many calls of tools")
                call = self._calls[event.index] = _Call(self._calls_begun, block)
                self._calls_begun += 1
                yield self._chunk(self._called(call, name=block.name, arguments=""))
            case "text":
                if block.text or not self._begun:
                    yield self._chunk(Delta(content=block.text))
            case "thinking":
                yield self._chunk(Delta(reasoning_content=block.thinking))
            case _:
                if not self._begun:
                    yield self._chunk(Delta())

    def _delta(self, event: _Event) -> Iterator[Chunk]:
        delta = event.delta
        match delta.type:
            case "text_delta":
                yield self._chunk(Delta(content=delta.text))
            case "input_json_delta":
                call = self._calls.get(event.index)
                if call is not None and delta.partial_json:
                    call.started = True
                    yield self._chunk(self._called(call, arguments=delta.partial_json))
            case "thinking_delta":
                yield self._chunk(Delta(reasoning_content=delta.thinking))

    def _stop(self, event: _Event) -> Iterator[Chunk]:
        call = self._calls.pop(event.index, None)
        if call is not None and not call.started:  # without arguments, or with all of them in its first event
            yield self._chunk(self._called(call, arguments=call.block.arguments()))

    def _end(self, stop_reason: str | None) -> Iterator[Chunk]:
        if stop_reason is None or self._finished:
            return
        self._finished = True
        if not self._begun:
            yield self._chunk(Delta(content=""))
        chunk = self._chunk(Delta())
        assert chunk.choices is not None  # noqa: S101  # narrows for mypy
        chunk.choices[0].finish_reason = _finish_reason(stop_reason, legacy=self._legacy)
        chunk.usage = self._usage.reported() if self._usage else None
        yield chunk

    def _called(self, call: _Call, *, arguments: str, name: str | None = None) -> Delta:
        """``name`` in the first of a call's chunks, as its id and type."""
        function = FunctionText(arguments=arguments) if name is None else FunctionText(name, arguments)
        if self._legacy:
            return Delta(function_call=function)
        made = ToolCallDelta(index=call.number, function=function)
        if name is not None:
            made.id, made.type = call.block.id or f"call_{call.number}", "function"
        return Delta(tool_calls=[made])

    def _chunk(self, delta: Delta) -> Chunk:
        chunk = Chunk(choices=[ChunkChoice(0, delta, None, None)])  # OpenAI says null where there are no logprobs
        if not self._begun:
            self._begun = True
            delta.role, delta.refusal = "assistant", None
            if delta.content is UNSET:
                delta.content = None
            if self._usage is not None:
                chunk.usage = self._usage.reported()
                chunk.usage.completion_tokens = 0  # the count at the beginning says nothing of what will be produced
        return chunk
