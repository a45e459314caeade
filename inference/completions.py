"""An upstream's answers, written anew as ours: our id, the caller's name for the model, and documented fields alone."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from inference import answers
from inference.answers import Answer, BadAnswer, Choice, Chunk, ChunkChoice, Text, UpstreamStreamError, Usage
from inference.text_answers import TextChoice, TextChunk

__all__ = ["BadAnswer", "ChunkRewriter", "Completion", "UpstreamStreamError", "Usage", "rewrite_completion"]

Estimate = Callable[[int], Usage]  # of a completion with so many characters

_encode: Final = msgspec.json.Encoder().encode


class Completion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | UnsetType = UNSET
    service_tier: Text = UNSET
    system_fingerprint: Text = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET

    def encode(self) -> bytes:
        return _encode(self)


class _Frame(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChunkChoice] | list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    service_tier: Text = UNSET
    system_fingerprint: Text = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET
    obfuscation: Text = UNSET


def rewrite_completion(
    answer: Answer, *, id: str, created: int, model: str, estimate: Estimate | None = None
) -> tuple[bytes, Usage | None, bool]:
    """The answer as ours, its usage, and whether that was reported. Where it was not, ``estimate`` makes some."""
    usage = answer.usage.usage() if answer.usage else None
    reported = usage is not None
    if usage is None and estimate is not None:
        written = [answers.length(choice.message) for choice in answer.choices or () if choice.message]
        usage = estimate(sum(written))
    completion = Completion(
        id=id,
        created=created,
        model=model,
        choices=answer.choices or [],
        usage=usage or UNSET,
        service_tier=answer.service_tier,
        system_fingerprint=answer.system_fingerprint,
        moderation=answer.moderation,
    )
    return completion.encode(), usage, reported


class ChunkRewriter:
    """Rewrites one stream of chat, or of text, chunk by chunk.

    ``usage`` is what the upstream last reported. A gateway that has to estimate it may set it before ``finish``, so
    that a caller who asked for usage gets some.
    """

    __slots__ = ("_frame", "_include_usage", "_open", "_usage_sent", "completion_chars", "finish_reasons", "usage")

    def __init__(
        self, *, id: str, created: int, model: str, include_usage: bool, object: str = "chat.completion.chunk"
    ) -> None:
        self.usage: Usage | None = None
        self.finish_reasons: dict[int, str] = {}  # by index of choice
        self.completion_chars = 0  # what the model has written, for estimating where usage is never reported
        self._open: set[int] = set()  # choices that have begun and not finished
        self._include_usage = include_usage
        self._usage_sent = False
        self._frame = _Frame(id, object, created, model, [])
        if include_usage:
            self._frame.usage = None  # null on every chunk but the last, as OpenAI prints it

    @property
    def started(self) -> bool:
        return bool(self._open or self.finish_reasons)

    @property
    def finished(self) -> bool:
        """Whether each choice that has begun has its finish_reason."""
        return bool(self.finish_reasons) and not self._open

    def rewrite(self, chunk: Chunk | TextChunk) -> bytes | None:
        """One of the upstream's chunks as a whole frame, or None where the caller is to get nothing."""
        choices = chunk.choices or []
        if chunk.usage is not None:
            self.usage = chunk.usage.usage() or self.usage
        if not choices:
            # Usage alone. Before the end it is a running count, and a chunk with neither is Azure's prelude.
            return self.finish() if self.finished and chunk.usage is not None else None
        for choice in choices:
            self.completion_chars += choice.length()
            index = choice.index or 0
            if choice.finish_reason is not None:
                self.finish_reasons[index] = choice.finish_reason
                self._open.discard(index)
            elif index not in self._open and index not in self.finish_reasons:
                self._open.add(index)
        frame = self._frame
        frame.choices = choices
        frame.service_tier = chunk.service_tier
        frame.system_fingerprint = chunk.system_fingerprint
        frame.moderation = chunk.moderation
        frame.obfuscation = chunk.obfuscation
        return b"data: %b\n\n" % _encode(frame)

    def finish(self) -> bytes | None:
        """The usage chunk, if the caller asked for it and hasn't got it: the last frame before [DONE]."""
        if not self._include_usage or self._usage_sent or self.usage is None:
            return None
        self._usage_sent = True
        frame = self._frame
        last = _Frame(
            frame.id,
            frame.object,
            frame.created,
            frame.model,
            [],
            usage=self.usage,
            service_tier=frame.service_tier,
            system_fingerprint=frame.system_fingerprint,
        )
        return b"data: %b\n\n" % _encode(last)
