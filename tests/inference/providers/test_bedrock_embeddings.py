"""Embeddings of AWS Bedrock's models, as the official client asks for them."""

import json
from collections.abc import Iterator

import openai
import pytest

from inference import embeddings
from inference.answers import BadAnswer, Usage
from inference.providers import bedrock_embeddings
from inference.providers.adapter import Unsupported
from inference.text_schemas import parse_embedding_request
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes.bedrock import KEY_ID, REGION, SECRET, Bedrock

TITAN = "amazon.titan-embed-text-v2:0"
TITAN_G1 = "amazon.titan-embed-text-v1"
COHERE = "cohere.embed-multilingual-v3"
COHERE_4 = "eu.cohere.embed-v4:0"


@pytest.fixture
def cloud() -> Iterator[Bedrock]:
    with Bedrock() as server:
        yield server


def encode(model: str, given: object, **options: object) -> object:
    request = parse_embedding_request(json.dumps({"model": "m", "input": given} | options).encode())
    return json.loads(bedrock_embeddings.encode(request, upstream_model=model))


def connect(cloud: Bedrock, model: str) -> None:
    made = deploy(cloud.url, kind="bedrock", region=REGION)
    made.provider.credential = f"{KEY_ID}:{SECRET}"
    made.provider.save()
    made.upstream_model = model
    made.save()
    reread_catalogue()


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_titan_s_vector_and_tokens(plane, token, cloud, options, settled):
    connect(cloud, TITAN)
    with openai.OpenAI(base_url=plane.url, api_key=token, max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input="Hello", dimensions=2, **options)
    assert answer.data[0].embedding == [0.5, -0.25]
    assert answer.usage.prompt_tokens == 5
    assert cloud.last.path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert settled().usage_source == "provider"


def test_cohere_s_vectors_in_their_order_and_tokens_estimated(plane, token, cloud, settled):
    connect(cloud, COHERE)
    with openai.OpenAI(base_url=plane.url, api_key=token, max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input=["a", "four", "to"])
    assert [each.embedding[0] for each in answer.data] == [1, 4, 2]
    assert settled().usage_source == "estimated"


def test_each_maker_s_words():
    assert encode(TITAN_G1, ["one"]) == {"inputText": "one"}
    assert encode(TITAN, "one", dimensions=512, user="u") == {"inputText": "one", "dimensions": 512}
    plain = {"texts": ["one", "two"], "input_type": "search_document", "embedding_types": ["float"]}
    assert encode(COHERE, ["one", "two"]) == plain
    assert encode(COHERE_4, ["one", "two"], dimensions=256) == plain | {"output_dimension": 256}


@pytest.mark.parametrize(
    ("model", "given", "options", "param"),
    [
        (TITAN, ["one", "two"], {}, "input"),
        (COHERE, ["one"] * 97, {}, "input"),
        (TITAN, [1, 2], {}, "input"),
        (COHERE, [[1, 2]], {}, "input"),
        (TITAN_G1, "one", {"dimensions": 256}, "dimensions"),
        (COHERE, "one", {"dimensions": 256}, "dimensions"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "one", {}, "model"),
    ],
)
def test_what_a_model_can_not_do_is_refused_by_name(model, given, options, param):
    with pytest.raises(Unsupported) as raised:
        encode(model, given, **options)
    assert raised.value.param == param


def test_cohere_s_older_form_is_read_as_well():
    found = bedrock_embeddings.read(b'{"embeddings": [[1.0], [2.0]], "response_type": "embeddings_floats"}')
    usage = Usage(1, 0, 1)
    written = json.loads(embeddings.write(found, count=2, model="m", usage=usage, as_base64=False))
    assert [each["embedding"] for each in written["data"]] == [[1.0], [2.0]]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"embeddings": {}}', b'{"embeddings": 7}', b"[" * 9999])
def test_answers_that_make_no_sense(body):
    with pytest.raises(BadAnswer):
        bedrock_embeddings.read(body)
