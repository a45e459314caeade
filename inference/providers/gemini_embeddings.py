"""Embeddings of Gemini and of Vertex AI, which have three ways to ask for them between the two.

https://ai.google.dev/api/embeddings and, on Vertex AI, the ``predict`` of its text embeddings; its later models know
``embedContent`` alone.
"""

from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Raw

from inference import answers
from inference.embeddings import Embedding, Embeddings, ReportedUsage
from inference.parts import ABSENT
from inference.providers.adapter import Unsupported
from inference.text_schemas import EmbeddingRequest


class Way(Enum):
    """The method, and how many texts a request may hold."""

    BATCH = ("batchEmbedContents", 100)
    CONTENT = ("embedContent", 1)
    PREDICT = ("predict", 250)
    PREDICT_ONE = ("predict", 1)

    @property
    def method(self) -> str:
        return self.value[0]


def way_on_vertex(upstream_model: str) -> Way:
    name = upstream_model.rpartition("/")[2]
    if name.startswith("gemini-embedding-001"):
        return Way.PREDICT_ONE
    return Way.CONTENT if "gemini" in name else Way.PREDICT


def encode(request: EmbeddingRequest, *, model: str, way: Way) -> bytes:
    """``model`` as Gemini's batches name it, once more for each text. Raises Unsupported."""
    texts = _texts(request, most=way.value[1])
    size = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    contents = [{"parts": [{"text": text}]} for text in texts]
    body: dict[str, Any]
    match way:
        case Way.BATCH:
            body = {"requests": [{"model": model, "content": content} | size for content in contents]}
        case Way.CONTENT:
            body = {"content": contents[0]} | ({"embedContentConfig": size} if size else {})
        case _:
            # OpenAI refuses what is too long, where Google would cut it in silence.
            body = {"instances": [{"content": text} for text in texts], "parameters": {"autoTruncate": False} | size}
    return msgspec.json.encode(body)


def _texts(request: EmbeddingRequest, *, most: int) -> list[str]:
    inputs = [request.input] if isinstance(request.input, str) else request.input
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) < len(inputs):
        raise Unsupported("input", "Tokens in place of texts are not supported for this model.")
    if len(texts) > most:
        raise Unsupported("input", f"This model takes at most {most} {'texts' if most > 1 else 'text'} in a request.")
    return texts


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _Statistics(msgspec.Struct):
    token_count: int | float | None = None  # in snake case, unlike the rest


class _Vector(_Camel):
    values: Raw = ABSENT
    statistics: _Statistics | None = None


class _Prediction(_Camel):
    embeddings: _Vector


class _UsageMetadata(_Camel):
    prompt_token_count: int | float | None = None


class _Response(_Camel):
    """Of all three."""

    embedding: _Vector | None = None
    embeddings: list[_Vector] | None = None
    predictions: list[_Prediction] | None = None
    usage_metadata: _UsageMetadata | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Response).decode


def read(body: bytes) -> Embeddings:
    """Raises BadAnswer and UpstreamStreamError."""
    found = answers.read(_decode, body)
    vectors = [found.embedding] if found.embedding else found.embeddings or []
    vectors += [prediction.embeddings for prediction in found.predictions or ()]
    if not vectors or any(vector.values is ABSENT for vector in vectors):
        raise answers.BadAnswer("the answer has no embeddings")
    if found.usage_metadata is not None:
        tokens = found.usage_metadata.prompt_token_count
    else:
        tokens = sum(each.statistics.token_count or 0 for each in vectors if each.statistics)
    return Embeddings([Embedding(vector.values) for vector in vectors], ReportedUsage(tokens))
