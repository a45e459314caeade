"""Embeddings of Gemini and of Vertex AI, as the official client asks for them."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from inference.answers import BadAnswer, UpstreamStreamError
from inference.providers import gemini_embeddings
from inference.providers.adapter import Unsupported
from inference.providers.gemini_embeddings import Way
from inference.text_schemas import parse_embedding_request
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes.gemini import KEY, Gemini
from tests.fakes.google_tokens import TokenService


@pytest.fixture
def service() -> Iterator[TokenService]:
    with TokenService() as server:
        yield server


def connect(google: Gemini, service: TokenService, upstream_model: str) -> None:
    made = deploy(google, kind="vertex" if google.token else "gemini")
    made.provider.credential = service.service_account() if google.token else KEY
    made.provider.save()
    made.upstream_model = upstream_model
    made.save()
    reread_catalogue()


def encode(given: object, way: Way = Way.BATCH, **options: object) -> Any:
    request = parse_embedding_request(json.dumps({"model": "m", "input": given} | options).encode())
    return json.loads(gemini_embeddings.encode(request, model="models/e", way=way))


@pytest.mark.parametrize(
    ("token_of_vertex", "model", "texts", "method", "tokens"),
    [
        ("", "gemini-embedding-001", ["a", "four", "to"], "batchEmbedContents", None),
        ("ya29.fake-1", "text-embedding-005", ["a", "four", "to"], "predict", 6),
        ("ya29.fake-1", "gemini-embedding-001", ["four"], "predict", 2),
        ("ya29.fake-1", "gemini-embedding-2", ["four"], "embedContent", 3),
    ],
)
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_vectors_come_in_the_order_of_their_texts(
    plane, token, service, settled, token_of_vertex, model, texts, method, tokens, options
):
    with Gemini(token=token_of_vertex) as google:
        connect(google, service, model)
        with openai.OpenAI(base_url=plane.url, api_key=token, max_retries=0) as client:
            answer = client.embeddings.create(model=MODEL, input=texts, dimensions=2, **options)
        assert [each.embedding for each in answer.data] == [[len(text), 0.5] for text in texts]
        assert google.last.path.endswith(f"/{model}:{method}")
        assert google.refused == []
    assert settled().usage_source == ("estimated" if tokens is None else "provider")
    if tokens is not None:
        assert answer.usage.prompt_tokens == tokens


def test_each_way_has_its_body():
    content = {"parts": [{"text": "a"}]}
    assert encode("a") == {"requests": [{"model": "models/e", "content": content}]}
    assert encode(["a"], dimensions=8) == {
        "requests": [{"model": "models/e", "content": content, "outputDimensionality": 8}]
    }
    assert encode("a", Way.CONTENT) == {"content": content}
    assert encode("a", Way.CONTENT, dimensions=8)["embedContentConfig"] == {"outputDimensionality": 8}
    assert encode("a", Way.PREDICT, dimensions=8) == {
        "instances": [{"content": "a"}],
        "parameters": {"autoTruncate": False, "outputDimensionality": 8},
    }


@pytest.mark.parametrize(
    ("given", "way"),
    [([1, 2], Way.BATCH), (["a"] * 101, Way.BATCH), (["a", "b"], Way.CONTENT), (["a", "b"], Way.PREDICT_ONE)],
)
def test_what_a_way_can_not_take_is_named(given, way):
    with pytest.raises(Unsupported) as caught:
        encode(given, way)
    assert caught.value.param == "input"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"embeddings": []}', b'{"embeddings": [{}]}', b'{"predictions": [{}]}'])
def test_an_answer_without_vectors_is_none(body):
    with pytest.raises(BadAnswer):
        gemini_embeddings.read(body)


def test_an_error_in_place_of_an_answer_is_one():
    with pytest.raises(UpstreamStreamError, match="Internal"):
        gemini_embeddings.read(b'{"error": {"message": "Internal"}}')
