"""Claude on Vertex AI: Anthropic's messages under Google's addresses and tokens.

One adapter serves all deployments of a provider, so which of the two dialects an answer is in is told by itself.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from inference.answers import Answer, Chunk
from inference.providers import anthropic, anthropic_answers, anthropic_requests
from inference.providers.adapter import StreamReader
from inference.schemas import ChatRequest

VERSION: Final = "vertex-2023-10-16"  # in the body, where Anthropic itself has a header
_FIRST: Final = b"event:"  # Anthropic names its events, Gemini doesn't

_encode: Final = msgspec.json.Encoder().encode


def serves(upstream_model: str) -> bool:
    return upstream_model.removeprefix("publishers/anthropic/models/").startswith("claude")


def encode(request: ChatRequest, *, model: str, stream: bool) -> bytes:
    """The model stands in the path alone. Raises Unsupported."""
    wire = anthropic_requests.translate(request, model=model, stream=stream, version=anthropic.VERSION)
    wire.model, wire.anthropic_version = None, VERSION
    return _encode(wire)


class _Kind(msgspec.Struct):
    type: str | None = None


_decode_kind: Final = msgspec.json.Decoder(_Kind).decode


def wrote(body: bytes) -> bool:
    """Whether this whole answer is Claude's."""
    try:
        return _decode_kind(body).type is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def read_answer(request: ChatRequest, body: bytes) -> Answer:
    return anthropic_answers.read_answer(body, legacy=anthropic.offers_functions(request))


class EitherReader:
    """Passes a stream to the reader that its first bytes ask for."""

    __slots__ = ("_head", "_other", "_reader", "_request", "done")

    def __init__(self, request: ChatRequest, *, other: StreamReader) -> None:
        self.done = False
        self._request = request
        self._other = other
        self._head = b""
        self._reader: StreamReader | None = None

    def feed(self, data: bytes) -> Iterator[Chunk]:
        if self._reader is None:
            data = self._head = self._head + data
            if len(data) < len(_FIRST) and _FIRST.startswith(data):
                return
            self._choose()
        yield from self._read(data)

    def finish(self) -> Iterator[Chunk]:
        if self._reader is None:
            self._choose()
            yield from self._read(self._head)
        if self._reader is not None:
            yield from self._reader.finish()
            self.done = self._reader.done

    def _choose(self) -> None:
        if self._head.startswith(_FIRST):
            self._reader = anthropic_answers.EventReader(legacy=anthropic.offers_functions(self._request))
        else:
            self._reader = self._other

    def _read(self, data: bytes) -> Iterator[Chunk]:
        if self._reader is not None:
            yield from self._reader.feed(data)
            self.done = self._reader.done
