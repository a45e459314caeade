"""What AWS Bedrock's Converse API answers, whole or as an event stream, in OpenAI's words.

The framing: https://smithy.io/2.0/aws/amazon-eventstream.html. Its checksums and headers are botocore's business; the
lengths are looked at here, before anything of that size is waited for.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from botocore.eventstream import EventStreamBuffer, ParserError
from msgspec import UNSET

from inference import answers
from inference.answers import (
    Answer,
    BadAnswer,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    FunctionText,
    Message,
    PromptTokensDetails,
    ReportedUsage,
    Throttled,
    ToolCall,
    ToolCallDelta,
    UpstreamStreamError,
)

MAX_MESSAGE: Final = 1024 * 1024
MAX_HEADERS: Final = 4096  # three short ones in practice
MAX_CALLS: Final = 128

_PRELUDE: Final = struct.Struct(">III")  # the message's length, its headers' and a checksum of both
_OVERHEAD: Final = _PRELUDE.size + 4  # and a checksum at the end

T = TypeVar("T")


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _Usage(_Camel):
    """``input_tokens`` leaves out what was read from a cache or written to it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None

    def reported(self) -> ReportedUsage:
        read, written = self.cache_read_input_tokens or 0, self.cache_write_input_tokens or 0
        details = PromptTokensDetails(cached_tokens=read, cache_write_tokens=written) if read or written else None
        return ReportedUsage(self.input_tokens + read + written, self.output_tokens, prompt_tokens_details=details)


class _Text(_Camel):
    text: str = ""


class _Reasoning(_Camel):
    reasoning_text: _Text | None = None


class _Citations(_Camel):
    content: list[_Text] = []


class _ToolUse(_Camel):
    tool_use_id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Block(_Camel):
    """One of them; what else there may be (images, the results of AWS's own tools) has no place in an answer."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Citations | None = None


class _Message(_Camel):
    content: list[_Block] = []


class _Output(_Camel):
    message: _Message


class _Converse(_Camel):
    output: _Output
    stop_reason: str
    usage: _Usage | None = None


class _Start(_Camel):
    tool_use: _ToolUse | None = None


class _Input(_Camel):
    input: str = ""


class _BlockDelta(_Camel):
    text: str | None = None
    tool_use: _Input | None = None
    reasoning_content: _Text | None = None


class _Event(_Camel):
    """The fields of all events: which one it is stands in the message's headers."""

    content_block_index: int = 0
    start: _Start | None = None
    delta: _BlockDelta | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Error(_Camel):
    message: Any = None


_FINISH_REASONS: Final = {
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "model_context_window_exceeded": "length",
}
_decode_answer = msgspec.json.Decoder(_Converse).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_error = msgspec.json.Decoder(_Error).decode


def read_answer(body: bytes, *, single_call: bool) -> Answer:
    """Raises BadAnswer and UpstreamStreamError. ``single_call``: see ``ConverseReader``."""
    found = _read(_decode_answer, body)
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    for block in found.output.message.content:
        if block.text is not None:
            texts.append(block.text)
        elif block.citations_content is not None:
            texts += [part.text for part in block.citations_content.content]
        elif block.reasoning_content is not None and block.reasoning_content.reasoning_text is not None:
            reasoning.append(block.reasoning_content.reasoning_text.text)
        elif block.tool_use is not None and not (single_call and calls):
            calls.append(_call(block.tool_use))
    message = Message(content="".join(texts) if texts or not calls else None)
    if reasoning:
        message.reasoning_content = "".join(reasoning)
    if calls:
        message.tool_calls = calls
    choice = Choice(index=0, message=message, finish_reason=_finish_reason(found.stop_reason), logprobs=None)
    return Answer(choices=[choice], usage=found.usage.reported() if found.usage else None)


class ConverseReader:
    """Reads the messages of one event stream.

    The usage comes last, after the reason to stop; a stream without it is complete as well. With ``single_call`` the
    caller wants one tool call at a time (``parallel_tool_calls: false``), which Converse can't be told: of several the
    first is passed on, and once it has its result the model can ask for the next.
    """

    __slots__ = ("_buffer", "_calls", "_pending", "_single_call", "_started", "_stopped", "_unwritten", "done")

    def __init__(self, *, single_call: bool) -> None:
        self.done = False
        self._single_call = single_call
        self._pending = bytearray()
        self._buffer = EventStreamBuffer()
        self._started = False
        self._stopped = False
        self._calls: dict[int, int] = {}  # tool calls' indexes, by those of their content blocks
        self._unwritten: set[int] = set()  # blocks of calls that have no arguments so far

    def feed(self, data: bytes) -> Iterator[Chunk]:
        self._pending += data
        while not self.done and (message := self._message()) is not None:
            headers, payload = message
            if headers.get(":message-type") != "event":
                raise _failure(headers, payload)
            yield from self._chunks(headers.get(":event-type"), payload)

    def finish(self) -> Iterator[Chunk]:
        """A message that was cut off is lost: its checksum never came."""
        return iter(())

    def _message(self) -> tuple[dict[str, Any], bytes] | None:
        """The next whole message's headers and payload."""
        pending = self._pending
        if len(pending) < _PRELUDE.size:
            return None
        length, headers_length, _ = _PRELUDE.unpack_from(pending)
        if not headers_length + _OVERHEAD <= length <= MAX_MESSAGE or headers_length > MAX_HEADERS:
            raise BadAnswer("the event stream has a message of an impossible length")
        if len(pending) < length:
            return None
        self._buffer.add_data(bytes(pending[:length]))
        del pending[:length]
        try:
            message = next(self._buffer)
        except (ParserError, LookupError, ValueError, struct.error) as problem:
            raise BadAnswer(f"the event stream is broken: {type(problem).__name__}") from None
        return message.headers, message.payload

    def _chunks(self, name: Any, payload: bytes) -> Iterator[Chunk]:
        """What one event says. New kinds of events may appear, and mean nothing to us."""
        match name:
            case "contentBlockStart":
                yield from self._start(_read(_decode_event, payload))
            case "contentBlockDelta":
                yield from self._delta(_read(_decode_event, payload))
            case "contentBlockStop":
                block = _read(_decode_event, payload).content_block_index
                if block in self._unwritten:
                    yield self._arguments(block, "{}")
            case "messageStop":
                self._stopped = True
                reason = _finish_reason(_read(_decode_event, payload).stop_reason or "")
                yield self._chunk(Delta(), finish_reason=reason)
            case "metadata":
                usage = _read(_decode_event, payload).usage
                self.done = self._stopped
                if usage is not None:
                    yield Chunk(choices=[], usage=usage.reported())

    def _start(self, event: _Event) -> Iterator[Chunk]:
        call = event.start.tool_use if event.start else None
        if call is None or (self._single_call and self._calls):
            return
        if len(self._calls) == MAX_CALLS:
            raise BadAnswer("the answer has too many tool calls")
        index = len(self._calls)
        self._calls[event.content_block_index] = index
        self._unwritten.add(event.content_block_index)
        function = FunctionText(name=call.name, arguments="")
        delta = ToolCallDelta(index=index, id=call.tool_use_id, type="function", function=function)
        yield self._chunk(Delta(tool_calls=[delta]))

    def _delta(self, event: _Event) -> Iterator[Chunk]:
        delta = event.delta
        if delta is None:
            return
        if delta.text:
            yield self._chunk(Delta(content=delta.text))
        elif delta.reasoning_content is not None and delta.reasoning_content.text:
            yield self._chunk(Delta(reasoning_content=delta.reasoning_content.text))
        elif delta.tool_use is not None and delta.tool_use.input and event.content_block_index in self._calls:
            yield self._arguments(event.content_block_index, delta.tool_use.input)

    def _arguments(self, block: int, text: str) -> Chunk:
        self._unwritten.discard(block)
        delta = ToolCallDelta(index=self._calls[block], function=FunctionText(arguments=text))
        return self._chunk(Delta(tool_calls=[delta]))

    def _chunk(self, delta: Delta, *, finish_reason: str | None = None) -> Chunk:
        """The first one says whose words these are: as late as can be, for until then another deployment can answer."""
        if not self._started:
            self._started = True
            delta.role = "assistant"
            if delta.content is UNSET:
                delta.content = None if delta.tool_calls else ""
        return Chunk(choices=[ChunkChoice(0, delta, finish_reason, None)])


def _call(call: _ToolUse) -> ToolCall:
    try:
        arguments = bytes(call.input).decode()
    except UnicodeDecodeError as problem:
        raise BadAnswer(str(problem)) from None
    return ToolCall(id=call.tool_use_id, type="function", function=FunctionText(name=call.name, arguments=arguments))


def _finish_reason(said: str) -> str:
    if said.startswith("malformed"):
        raise UpstreamStreamError(f"the model failed: {said}")
    return _FINISH_REASONS.get(said) or answers.finish_reason(said) or "stop"


def _failure(headers: dict[str, Any], payload: bytes) -> UpstreamStreamError:
    """Modelled exceptions have a JSON body, errors of the transport say all in headers."""
    kind = headers.get(":exception-type") or headers.get(":error-code") or "unknown error"
    try:
        said = _decode_error(payload).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    failure = Throttled if "throttling" in kind.lower() else UpstreamStreamError
    return failure(f"{kind}: {said or headers.get(':error-message') or ''}"[: answers.MAX_SAID])


def _read(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(str(problem)) from None
