"""Embeddings on AWS Bedrock: each maker's own words, through InvokeModel. Amazon's Titan and Cohere's Embed.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from inference.answers import BadAnswer
from inference.embeddings import Embedding, Embeddings, ReportedUsage
from inference.parts import ABSENT
from inference.providers.adapter import Unsupported
from inference.text_schemas import EmbeddingRequest

MAX_TEXTS: Final = 96  # of Cohere's models in one request


class _ByType(msgspec.Struct):
    """Cohere's newer form, which it is asked for."""

    float: list[Raw] = []


class _Answer(msgspec.Struct, rename="camel"):
    """Titan's has one ``embedding`` and its tokens; Cohere counts tokens in a header alone, so they are estimated."""

    embedding: Raw = ABSENT
    input_text_token_count: int | None = None
    embeddings: _ByType | list[Raw] | None = None


def encode(request: EmbeddingRequest, *, upstream_model: str) -> bytes:
    """Raises Unsupported."""
    texts = _texts(request)
    if "cohere.embed" in upstream_model:
        return msgspec.json.encode(_for_cohere(request, texts, upstream_model))
    if "titan-embed" in upstream_model:
        return msgspec.json.encode(_for_titan(request, texts, upstream_model))
    raise Unsupported("model", "This model's provider does not support embeddings of this model.")


def read(body: bytes) -> Embeddings:
    """Raises BadAnswer."""
    try:
        found = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(str(problem)) from None
    vectors = found.embeddings.float if isinstance(found.embeddings, _ByType) else found.embeddings or []
    if found.embedding is not ABSENT:
        vectors = [found.embedding]
    if not vectors:
        raise BadAnswer("the answer has no embeddings")
    return Embeddings([Embedding(each) for each in vectors], ReportedUsage(found.input_text_token_count))


def _texts(request: EmbeddingRequest) -> list[str]:
    inputs = [request.input] if isinstance(request.input, str) else request.input
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) < len(inputs):
        raise Unsupported("input", "This model's provider does not support tokens in place of texts.")
    return texts


def _for_titan(request: EmbeddingRequest, texts: list[str], upstream_model: str) -> dict[str, Any]:
    if len(texts) > 1:
        raise Unsupported("input", "This model's provider does not support more than one text in a request.")
    return {"inputText": texts[0]} | _dimensions("dimensions", request, supported="-v2" in upstream_model)


def _for_cohere(request: EmbeddingRequest, texts: list[str], upstream_model: str) -> dict[str, Any]:
    """OpenAI's API doesn't tell documents from questions, so all are documents, which go together with one another."""
    if len(texts) > MAX_TEXTS:
        raise Unsupported("input", f"This model's provider does not support more than {MAX_TEXTS} texts in a request.")
    body = {"texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
    return body | _dimensions("output_dimension", request, supported="embed-v4" in upstream_model)


def _dimensions(name: str, request: EmbeddingRequest, *, supported: bool) -> dict[str, int]:
    if request.dimensions is None:
        return {}
    if not supported:
        raise Unsupported("dimensions", "This model's provider does not support dimensions.")
    return {name: request.dimensions}
