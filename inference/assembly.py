"""One chat.completion out of the chunks of a stream.

Some servers stop working only when a *stream* is left (llama.cpp is one), so a caller who wants a whole answer, and
may leave before it is there, gets it through here.
"""

from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from inference import answers
from inference.answers import (
    Annotation,
    Audio,
    BadAnswer,
    Choice,
    Chunk,
    ChunkChoice,
    CustomText,
    Delta,
    FunctionText,
    Logprobs,
    Message,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from inference.completions import Completion, Estimate


class Assembler:
    """Takes the payloads of one stream in order; ``result`` is the answer they make."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}
        self.completion_chars = 0  # what the model has written, for estimating where usage is never reported
        self._service_tier: Text = UNSET
        self._system_fingerprint: Text = UNSET

    @property
    def finished(self) -> bool:
        """Whether each choice that has begun has its finish_reason."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def add(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage.usage() or self.usage
        self._service_tier = chunk.service_tier or self._service_tier
        self._system_fingerprint = chunk.system_fingerprint or self._system_fingerprint
        for part in chunk.choices or ():
            if part.delta is not None:
                self.completion_chars += answers.length(part.delta)
            self._choices.setdefault(part.index or 0, _Choice()).add(part)

    def result(
        self, *, id: str, created: int, model: str, estimate: Estimate | None = None
    ) -> tuple[bytes, Usage | None, bool]:
        """As ``completions.rewrite_completion``. Raises BadAnswer if there was no choice."""
        if not self._choices:
            raise BadAnswer("the stream has no choices")
        reported = self.usage is not None
        if self.usage is None and estimate is not None:
            self.usage = estimate(self.completion_chars)
        completion = Completion(
            id=id,
            created=created,
            model=model,
            choices=[choice.result(index) for index, choice in sorted(self._choices.items())],
            usage=self.usage or UNSET,
            service_tier=self._service_tier,
            system_fingerprint=self._system_fingerprint,
        )
        return completion.encode(), self.usage, reported


class _Text:
    """Pieces of a text that may never have begun."""

    def __init__(self) -> None:
        self.pieces: list[str] | None = None

    def add(self, piece: Text) -> None:
        if isinstance(piece, str):
            self.pieces = self.pieces or []
            self.pieces.append(piece)

    def or_none(self) -> str | None:
        return None if self.pieces is None else "".join(self.pieces)

    def or_unset(self) -> str | UnsetType:
        return UNSET if self.pieces is None else "".join(self.pieces)


@dataclass
class _Function:
    """A call's name and arguments (or a custom tool's input). Names come whole, though some servers repeat them."""

    name: str = ""
    text: _Text = field(default_factory=_Text)

    def add(self, name: Text, text: Text) -> None:
        self.name = self.name or name or ""
        self.text.add(text)


@dataclass
class _Call:
    id: str = ""
    function: _Function = field(default_factory=_Function)
    custom: _Function | None = None

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id or ""
        if delta.function:
            self.function.add(delta.function.name, delta.function.arguments)
        if delta.custom:
            self.custom = self.custom or _Function()
            self.custom.add(delta.custom.name, delta.custom.input)

    def result(self, index: int) -> ToolCall:
        call_id = self.id or f"call_{index}"  # one that the caller can name in its next request
        if self.custom is not None:
            custom = CustomText(name=self.custom.name, input=self.custom.text.or_none() or "")
            return ToolCall(id=call_id, type="custom", custom=custom)
        function = FunctionText(name=self.function.name, arguments=self.function.text.or_none() or "")
        return ToolCall(id=call_id, type="function", function=function)


@dataclass
class _Audio:
    audio: Audio = field(default_factory=Audio)
    data: _Text = field(default_factory=_Text)
    transcript: _Text = field(default_factory=_Text)

    def add(self, delta: Audio) -> None:
        self.audio.id = self.audio.id or delta.id
        self.audio.expires_at = self.audio.expires_at or delta.expires_at
        self.data.add(delta.data)
        self.transcript.add(delta.transcript)

    def result(self) -> Audio:
        self.audio.data = self.data.or_unset()
        self.audio.transcript = self.transcript.or_unset()
        return self.audio


@dataclass
class _Choice:
    finish_reason: str | None = None
    content: _Text = field(default_factory=_Text)
    reasoning: _Text = field(default_factory=_Text)
    refusal: _Text = field(default_factory=_Text)
    calls: dict[int, _Call] = field(default_factory=dict)
    function_call: _Function | None = None
    annotations: list[Annotation] = field(default_factory=list)
    audio: _Audio | None = None
    content_logprobs: list[TokenLogprob] = field(default_factory=list)
    refusal_logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, part: ChunkChoice) -> None:
        self.finish_reason = part.finish_reason or self.finish_reason
        if part.logprobs:
            self.content_logprobs += part.logprobs.content or ()
            self.refusal_logprobs += part.logprobs.refusal or ()
        if part.delta is not None:
            self._add_delta(part.delta)

    def _add_delta(self, delta: Delta) -> None:
        self.content.add(delta.content)
        self.reasoning.add(delta.reasoning_content)
        self.refusal.add(delta.refusal)
        self.annotations += delta.annotations or ()
        for call in delta.tool_calls or ():
            self.calls.setdefault(call.index or 0, _Call()).add(call)
        if delta.function_call:
            self.function_call = self.function_call or _Function()
            self.function_call.add(delta.function_call.name, delta.function_call.arguments)
        if delta.audio:
            self.audio = self.audio or _Audio()
            self.audio.add(delta.audio)

    def result(self, index: int) -> Choice:
        message = Message(
            content=self.content.or_none(),
            reasoning_content=self.reasoning.or_unset(),
            refusal=self.refusal.or_unset(),
            annotations=self.annotations or UNSET,
        )
        if self.calls:
            message.tool_calls = [call.result(number) for number, call in sorted(self.calls.items())]
        if self.function_call is not None:
            arguments = self.function_call.text.or_none() or ""
            message.function_call = FunctionText(name=self.function_call.name, arguments=arguments)
        if (self.calls or self.function_call) and not message.content:
            message.content = None
        if self.audio is not None:
            message.audio = self.audio.result()
        return Choice(
            index=index, message=message, finish_reason=self.finish_reason or "stop", logprobs=self._logprobs()
        )

    def _logprobs(self) -> Logprobs | UnsetType:
        if not (self.content_logprobs or self.refusal_logprobs):
            return UNSET
        return Logprobs(content=self.content_logprobs or None, refusal=self.refusal_logprobs or None)
