"""Embeddings: the tolerant reading of an upstream's, and what is written as ours, in the format that was asked for.

Vectors are the bulk of an answer and there can be thousands, so each is unpacked by itself and none is kept.
"""

import base64
import binascii
import math
import sys
from array import array
from typing import Any, Final

import msgspec
from msgspec import Raw

from inference import answers
from inference.answers import BadAnswer, Usage

MAX_VECTOR: Final = 1024 * 1024  # bytes of JSON: some 50,000 dimensions
MAX_WRITTEN: Final = 64 * 1024 * 1024  # numbers are three times as long as base64 of them


class Embedding(msgspec.Struct):
    """``embedding`` is JSON: a list of numbers, or a string that is base64 of little-endian 32-bit floats."""

    embedding: Raw
    index: int | None = None


class ReportedUsage(msgspec.Struct):
    """Any of it may be missing, null, a whole float or nonsense. There is nothing but a prompt."""

    prompt_tokens: int | float | None = None
    total_tokens: int | float | None = None

    def usage(self) -> Usage | None:
        """None where nothing is said, or nothing that can be counted."""
        tokens = int(self.prompt_tokens or self.total_tokens or 0)
        return Usage(tokens, 0, tokens) if 0 < tokens <= answers.MAX_TOKENS else None


class Embeddings(msgspec.Struct):
    """An upstream's list."""

    data: list[Embedding] | None = None
    usage: ReportedUsage | None = None
    error: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class _Embedding(msgspec.Struct, tag_field="object", tag="embedding"):
    index: int
    embedding: Raw


class _Embeddings(msgspec.Struct, tag_field="object", tag="list"):
    data: list[_Embedding]
    model: str
    usage: _Usage


_decode = msgspec.json.Decoder(Embeddings).decode
_decode_vector = msgspec.json.Decoder(list[float] | str).decode
_encode: Final = msgspec.json.Encoder().encode


def read(body: bytes) -> Embeddings:
    """Raises BadAnswer and UpstreamStreamError."""
    found = answers.read(_decode, body)
    if not found.data:
        raise BadAnswer("the answer has no embeddings")
    return found


def write(embeddings: Embeddings, *, count: int, model: str, usage: Usage, as_base64: bool) -> bytes:
    """``count`` embeddings in the order of their inputs. Raises BadAnswer if they are others, or no vectors."""
    data = embeddings.data or []
    order = {position if each.index is None else each.index: each.embedding for position, each in enumerate(data)}
    if len(data) != count or order.keys() != set(range(count)):
        raise BadAnswer(f"{len(data)} embeddings where {count} were asked for")
    written: list[_Embedding] = []
    size = 0
    for index in range(count):
        vector = _vector(order[index], as_base64=as_base64)
        size += memoryview(vector).nbytes
        if size > MAX_WRITTEN:
            raise BadAnswer("the embeddings are too large")
        written.append(_Embedding(index, vector))
    return _encode(_Embeddings(written, model, _Usage(usage.prompt_tokens, usage.total_tokens)))


def _vector(raw: Raw, *, as_base64: bool) -> Raw:
    """Checked, and in the other format if it isn't in this one."""
    if memoryview(raw).nbytes > MAX_VECTOR:
        raise BadAnswer("an embedding is too large")
    try:
        vector = _decode_vector(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(f"no embedding: {problem}") from None
    floats = _unpack(vector) if isinstance(vector, str) else array("f", vector)
    if not floats or not all(map(math.isfinite, floats)):
        raise BadAnswer("an embedding is empty, or holds what is no number")
    if isinstance(vector, str) == as_base64:
        return raw
    return Raw(_encode(_pack(floats) if as_base64 else floats.tolist()))


def _unpack(text: str) -> "array[float]":
    floats = array("f")
    try:
        floats.frombytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise BadAnswer("an embedding is neither numbers nor base64 of them") from None
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def _pack(floats: "array[float]") -> str:
    """Its argument may be changed."""
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
