"""Text completions as OpenAI documents them: the tolerant reading of an upstream's, and what is written as ours.

The counterpart of ``answers``, ``completions`` and ``assembly``, which are about chat.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inference import answers
from inference.answers import BadAnswer, ReportedUsage, Text, TokenLogprob, Usage

Estimate = Callable[[int], Usage]  # of a completion with so many characters
# Of one of n answers to one of the prompts: what is put together by index must not grow with what an upstream makes up.
Index = Annotated[int, Meta(ge=0, lt=2048 * 16)]


class Logprobs(msgspec.Struct):
    """Four lists of the same length, an entry for each token. Where the prompt is repeated, its first has none."""

    text_offset: list[int] | None = None
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def extend(self, more: "Logprobs") -> None:
        for name in self.__struct_fields__:
            entries: list[Any] = getattr(self, name) or []
            entries.extend(getattr(more, name) or ())
            setattr(self, name, entries or None)


class ReadLogprobs(Logprobs):
    """llama.cpp gives them in the shape of chat's."""

    content: list[TokenLogprob] | None = None

    def logprobs(self, offset: int) -> Logprobs:
        """``offset``: where in the whole text the first token is."""
        if self.content is None:
            return Logprobs(self.text_offset, self.token_logprobs, self.tokens, self.top_logprobs)
        offsets = []
        for token in self.content:
            offsets.append(offset)
            offset += len(token.token)
        return Logprobs(
            text_offset=offsets,
            token_logprobs=[token.logprob for token in self.content],
            tokens=[token.token for token in self.content],
            top_logprobs=[{top.token: top.logprob for top in token.top_logprobs} for token in self.content],
        )


class ReadChoice(msgspec.Struct):
    text: str | None = None
    index: Index | None = None
    finish_reason: str | None = None
    logprobs: ReadLogprobs | None = None


class TextChoice(msgspec.Struct):
    text: str
    index: int
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    def length(self) -> int:
        return len(self.text)


class _Read(msgspec.Struct):
    """An upstream's text_completion, or a chunk of one: they have the same shape."""

    choices: list[ReadChoice] | None = None
    usage: ReportedUsage | None = None
    system_fingerprint: Text = UNSET
    error: Any = None


class TextChunk(msgspec.Struct):
    """A whole answer, or a chunk of one."""

    choices: list[TextChoice]
    usage: ReportedUsage | None = None
    system_fingerprint: Text = UNSET
    service_tier: UnsetType = UNSET
    moderation: UnsetType = UNSET
    obfuscation: UnsetType = UNSET


class TextCompletion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    system_fingerprint: Text = UNSET


_decode = msgspec.json.Decoder(_Read).decode
_encode: Final = msgspec.json.Encoder().encode


def read_completion(body: bytes) -> TextChunk:
    """Raises BadAnswer and UpstreamStreamError."""
    read = answers.read(_decode, body)
    if not read.choices:
        raise BadAnswer("the answer has no choices")
    choices = [_choice(choice, position, 0) for position, choice in enumerate(read.choices)]
    for choice in choices:
        choice.finish_reason = choice.finish_reason or "stop"
    return TextChunk(choices, read.usage, read.system_fingerprint)


class ChunkReading:
    """Reads the chunks of one stream in order."""

    __slots__ = ("_lengths", "_usage")

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}  # of the texts so far, by index of choice
        self._usage: Usage | None = None

    def read(self, data: bytes) -> TextChunk:
        """Raises BadAnswer and UpstreamStreamError."""
        if data == b"null":  # so llama.cpp begins where there are several prompts
            return TextChunk([])
        read = answers.read(_decode, data)
        if read.choices is None and read.usage is None:
            raise BadAnswer("the chunk has no choices")
        choices = []
        for position, each in enumerate(read.choices or ()):
            index = position if each.index is None else each.index
            length = self._lengths.get(index, 0)
            choice = _choice(each, position, length)
            self._lengths[index] = length + len(choice.text)
            choices.append(choice)
        usage = read.usage
        if usage is not None and any(choice.finish_reason for choice in choices):
            usage = self._sum(usage)
        return TextChunk(choices, usage, read.system_fingerprint)

    def _sum(self, reported: ReportedUsage) -> ReportedUsage:
        """llama.cpp reports the usage of each choice with its end. OpenAI's is the whole, and comes with no choice."""
        usage = reported.usage()
        if usage is None:
            return reported
        if self._usage is not None:
            usage.prompt_tokens += self._usage.prompt_tokens
            usage.completion_tokens += self._usage.completion_tokens
            usage.total_tokens += self._usage.total_tokens
        self._usage = usage
        return ReportedUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def rewrite_completion(
    answer: TextChunk, *, id: str, created: int, model: str, estimate: Estimate
) -> tuple[bytes, Usage, bool]:
    """The answer as ours, its usage, and whether that was reported. Where it was not, ``estimate`` makes some."""
    usage = answer.usage.usage() if answer.usage else None
    reported = usage is not None
    usage = usage or estimate(sum(choice.length() for choice in answer.choices))
    completion = TextCompletion(
        id=id,
        created=created,
        model=model,
        choices=answer.choices,
        usage=usage,
        system_fingerprint=answer.system_fingerprint,
    )
    return _encode(completion), usage, reported


class TextAssembler:
    """One text_completion out of the chunks of a stream, as ``assembly.Assembler`` does it for chat."""

    def __init__(self) -> None:
        self._usage: ReportedUsage | None = None
        self._system_fingerprint: Text = UNSET
        self._choices: dict[int, TextChoice] = {}
        self._texts: dict[int, list[str]] = {}

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def add(self, chunk: TextChunk) -> None:
        if chunk.usage is not None and chunk.usage.usage() is not None:
            self._usage = chunk.usage
        self._system_fingerprint = chunk.system_fingerprint or self._system_fingerprint
        for part in chunk.choices:
            self._texts.setdefault(part.index, []).append(part.text)
            choice = self._choices.setdefault(part.index, TextChoice("", part.index))
            choice.finish_reason = part.finish_reason or choice.finish_reason
            if part.logprobs is not None:
                choice.logprobs = choice.logprobs or Logprobs()
                choice.logprobs.extend(part.logprobs)

    def result(self, *, id: str, created: int, model: str, estimate: Estimate) -> tuple[bytes, Usage, bool]:
        """As ``rewrite_completion``. Raises BadAnswer if there was no choice."""
        if not self._choices:
            raise BadAnswer("the stream has no choices")
        for index, choice in self._choices.items():
            choice.text = "".join(self._texts[index])
            choice.finish_reason = choice.finish_reason or "stop"
        whole = TextChunk(
            [choice for _, choice in sorted(self._choices.items())], self._usage, self._system_fingerprint
        )
        return rewrite_completion(whole, id=id, created=created, model=model, estimate=estimate)


def _choice(read: ReadChoice, position: int, offset: int) -> TextChoice:
    return TextChoice(
        text=read.text or "",
        index=position if read.index is None else read.index,
        logprobs=read.logprobs.logprobs(offset) if read.logprobs else None,
        finish_reason=answers.finish_reason(read.finish_reason),
    )
