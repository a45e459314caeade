"""Gemini's answers as OpenAI's: candidates are choices, parts are content, reasoning and tool calls.

Whole answers and the pieces of streams have one shape, GenerateContentResponse. Its counts run on from piece to piece.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from inference import answers, sse
from inference.answers import (
    Answer,
    BadAnswer,
    Choice,
    Chunk,
    ChunkChoice,
    CompletionTokensDetails,
    Delta,
    FunctionText,
    Index,
    Logprobs,
    Message,
    PromptTokensDetails,
    ReportedUsage,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
)
from inference.providers import call_ids
from inference.providers.call_ids import Carried
from inference.schemas import ChatRequest

MAX_CALLS: Final = 128
# All its other reasons say that what the model made was withheld: for safety, for being recited, for not being a call.
_FINISH_REASONS: Final = {"STOP": "stop", "MAX_TOKENS": "length", "FINISH_REASON_UNSPECIFIED": "stop"}
_WITHHELD: Final = "content_filter"


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _FunctionCall(_Camel):
    name: str
    args: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None

    def arguments(self) -> str:
        written = bytes(self.args)
        if written == b"null":
            return "{}"
        if not written.startswith(b"{"):
            raise BadAnswer("a call's arguments are no object")
        return msgspec.json.format(written, indent=-1).decode()  # whole answers are indented


class _Part(_Camel):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(_Camel):
    parts: list[_Part] | None = None


class _Chosen(_Camel):
    token: str = ""
    log_probability: float = 0.0

    def top(self) -> TopLogprob:
        return TopLogprob(self.token, self.log_probability, list(self.token.encode()))


class _Top(_Camel):
    candidates: list[_Chosen] | None = None


class _LogprobsResult(_Camel):
    chosen_candidates: list[_Chosen] | None = None
    top_candidates: list[_Top] | None = None

    def logprobs(self) -> Logprobs:
        chosen = self.chosen_candidates or []
        tops = (self.top_candidates or []) + [_Top()] * len(chosen)
        return Logprobs(
            content=[
                TokenLogprob(
                    token.token,
                    token.log_probability,
                    list(token.token.encode()),
                    [each.top() for each in top.candidates or ()],
                )
                for token, top in zip(chosen, tops, strict=False)
            ]
        )


class _Candidate(_Camel):
    index: Index = 0
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: _LogprobsResult | None = None

    def logprobs(self) -> Logprobs | UnsetType:
        return self.logprobs_result.logprobs() if self.logprobs_result else UNSET


class _Feedback(_Camel):
    block_reason: str | None = None


class _Modality(_Camel):
    modality: str = ""
    token_count: int = 0


class _UsageMetadata(_Camel):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None

    def reported(self) -> ReportedUsage | None:
        if self.prompt_token_count is None and self.candidates_token_count is None:
            return None
        thoughts = self.thoughts_token_count or 0
        heard = sum(each.token_count for each in self.prompt_tokens_details or () if each.modality == "AUDIO")
        return ReportedUsage(
            (self.prompt_token_count or 0) + (self.tool_use_prompt_token_count or 0),
            (self.candidates_token_count or 0) + thoughts,
            self.total_token_count,
            PromptTokensDetails(cached_tokens=self.cached_content_token_count or 0, audio_tokens=heard),
            CompletionTokensDetails(reasoning_tokens=thoughts),
        )


class _Response(_Camel):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _UsageMetadata | None = None
    error: Any = None

    def reported(self) -> ReportedUsage | None:
        return self.usage_metadata.reported() if self.usage_metadata else None

    @property
    def blocked(self) -> bool:
        """The prompt itself was withheld from the model, so there is nothing else."""
        return not self.candidates and bool(self.prompt_feedback and self.prompt_feedback.block_reason)


_decode: Final = msgspec.json.Decoder(_Response).decode


class _Writer:
    """What one candidate has said so far, as far as the next piece of it needs to know."""

    __slots__ = ("_calls", "_mark", "_most_calls", "begun", "finished")

    def __init__(self, request: ChatRequest, mark: str) -> None:
        self._mark = mark
        # It can't be told to call one function at a time; what a caller didn't ask for is not shown.
        self._most_calls = 1 if request.parallel_tool_calls is False else MAX_CALLS
        self._calls = 0
        self.begun = False
        self.finished = False

    def delta(self, candidate: _Candidate) -> Delta:
        parts = (candidate.content and candidate.content.parts) or []
        said = "".join(part.text for part in parts if part.text and not part.thought)
        thought = "".join(part.text for part in parts if part.text and part.thought)
        calls = [call for part in parts if part.function_call and (call := self._call(part, part.function_call))]
        return Delta(content=said or UNSET, reasoning_content=thought or UNSET, tool_calls=calls or UNSET)

    def _call(self, part: _Part, call: _FunctionCall) -> ToolCallDelta | None:
        if self._calls >= self._most_calls:
            if self._most_calls == MAX_CALLS:
                raise BadAnswer("the answer has too many tool calls")
            return None
        index, self._calls = self._calls, self._calls + 1
        carried = Carried(self._mark, call.id or "", part.thought_signature or "")
        function = FunctionText(call.name, call.arguments())
        return ToolCallDelta(index, call_ids.make(carried), "function", function)

    def finish_reason(self, candidate: _Candidate) -> str | None:
        said = candidate.finish_reason
        if not said:
            return None
        self.finished = True
        reason = _FINISH_REASONS.get(said, _WITHHELD)
        return "tool_calls" if reason == "stop" and self._calls else reason


def read_answer(request: ChatRequest, body: bytes, *, mark: str) -> Answer:
    """Raises BadAnswer and UpstreamStreamError."""
    response = answers.read(_decode, body)
    if response.blocked:
        choices = [Choice(index=0, message=Message(content=""), finish_reason=_WITHHELD)]
    else:
        choices = [_choice(candidate, _Writer(request, mark)) for candidate in response.candidates or ()]
    if not choices:
        raise BadAnswer("the answer has no candidates")
    return Answer(choices=choices, usage=response.reported())


def _choice(candidate: _Candidate, writer: _Writer) -> Choice:
    delta = writer.delta(candidate)
    message = Message(content=delta.content or None, reasoning_content=delta.reasoning_content)
    if delta.tool_calls:
        message.tool_calls = [ToolCall(call.id, call.type, call.function) for call in delta.tool_calls]
    elif message.content is None:
        message.content = ""
    return Choice(
        index=candidate.index,
        message=message,
        finish_reason=writer.finish_reason(candidate) or "stop",
        logprobs=candidate.logprobs(),
    )


class PieceReader:
    """Server-sent events that are whole responses each. Nothing but its connection's end says that a stream is over,
    so ``done`` is never set: it was complete if every candidate has finished."""

    __slots__ = ("_decoder", "_mark", "_request", "_writers", "done")

    def __init__(self, request: ChatRequest, *, mark: str) -> None:
        self.done = False
        self._request = request
        self._mark = mark
        self._decoder = sse.Decoder()
        self._writers: dict[int, _Writer] = {}

    def feed(self, data: bytes) -> Iterator[Chunk]:
        return self._chunks(self._decoder.feed(data))

    def finish(self) -> Iterator[Chunk]:
        return self._chunks(self._decoder.finish())

    def _chunks(self, events: list[bytes]) -> Iterator[Chunk]:
        for event in events:
            response = answers.read(_decode, event)
            if response.blocked:
                delta = Delta(role="assistant", content="")
                choices = [ChunkChoice(0, delta, _WITHHELD)]
            else:
                found = [self._choice(candidate) for candidate in response.candidates or ()]
                choices = [choice for choice in found if choice is not None]
            usage = response.reported()
            if choices or usage:
                yield Chunk(choices=choices, usage=usage)

    def _choice(self, candidate: _Candidate) -> ChunkChoice | None:
        """None for a piece that says nothing of its candidate."""
        writer = self._writers.get(candidate.index)
        if writer is None:
            writer = self._writers[candidate.index] = _Writer(self._request, self._mark)
        delta = writer.delta(candidate)
        logprobs = candidate.logprobs()
        finish_reason = None if writer.finished else writer.finish_reason(candidate)
        if not writer.begun:
            writer.begun = True
            delta.role = "assistant"
            delta.content = delta.content or ("" if not delta.tool_calls else None)
        elif delta == Delta() and finish_reason is None and logprobs is UNSET:
            return None
        return ChunkChoice(candidate.index, delta, finish_reason, logprobs)
