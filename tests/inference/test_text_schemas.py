"""Bodies of text completions and embeddings: what is taken, what is sent on, what is refused and how."""

import json
import time

import pytest

from helixflow.lib import errors
from inference import usage
from inference.text_schemas import (
    count,
    encode_completion_request,
    encode_embedding_request,
    parse_completion_request,
    parse_embedding_request,
)

COMPLETION = {"model": "m", "prompt": "Hello"}
EMBEDDING = {"model": "m", "input": "Hello"}
INPUTS = ["a", ["a", "b"], [1, 2, 3], [[1, 2], [3]]]


def completion(**changes):
    return parse_completion_request(json.dumps(COMPLETION | changes).encode())


def embedding(**changes):
    return parse_embedding_request(json.dumps(EMBEDDING | changes).encode())


def refusal(parse, body):
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def sent(stream=False, **changes):
    return json.loads(encode_completion_request(completion(**changes), upstream_model="theirs", stream=stream))


# Completions

EVERYTHING = {
    "suffix": "end",
    "max_tokens": 0,
    "temperature": 2,
    "top_p": 0.5,
    "n": 16,
    "logprobs": 5,
    "echo": True,
    "stop": ["a", "b", "c", "d"],
    "presence_penalty": -2,
    "frequency_penalty": 2,
    "best_of": 20,
    "logit_bias": {"50256": -100},
    "user": "alice",
    "seed": -(2**63),
}


def test_every_documented_parameter_is_sent_on():
    assert sent(**EVERYTHING) == {"model": "theirs", "prompt": "Hello"} | EVERYTHING


@pytest.mark.parametrize("prompt", [*INPUTS, ""])
def test_a_prompt_is_text_or_tokens_one_or_many(prompt):
    assert sent(prompt=prompt)["prompt"] == prompt


def test_null_means_absent_and_max_tokens_has_openai_s_default():
    assert sent(**dict.fromkeys(EVERYTHING)) == {"model": "theirs", "prompt": "Hello", "max_tokens": 16}


def test_a_stream_always_asks_for_usage():
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(stream_options={"include_usage": True})


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"prompt": None}, "prompt", "is required"),
        ({"prompt": []}, "prompt", "must not be empty"),
        ({"prompt": [[]]}, "prompt[0]", "must not be empty"),
        ({"prompt": [[1], []]}, "prompt[1]", "must not be empty"),
        ({"prompt": 1}, "prompt", "must be a string or an array"),
        ({"prompt": [1.5]}, "prompt[0]", "must be"),
        ({"prompt": [True]}, "prompt[0]", "must be"),
        ({"prompt": [-1]}, "prompt[0]", "at least 0"),
        ({"prompt": [2**31]}, "prompt[0]", "at most"),
        ({"prompt": ["a", 1]}, "prompt", "must hold strings alone, or tokens alone, or lists of tokens alone"),
        ({"prompt": [[1], 1]}, "prompt", "must hold strings alone"),
        ({"prompt": [["a"]]}, "prompt[0][0]", "must be an integer"),
        ({"prompt": ["a"] * 2049}, "prompt", "at most 2048 items"),
        ({"n": 17}, "n", "between 1 and 16"),
        ({"logprobs": 6}, "logprobs", "between 0 and 5"),
        ({"logprobs": True}, "logprobs", "must be an integer"),
        ({"best_of": 21}, "best_of", "between 1 and 20"),
        ({"best_of": 1, "n": 2}, "best_of", "must be at least n"),
        ({"best_of": 2, "stream": True}, "best_of", "must not be greater than n where stream is true"),
        ({"max_tokens": "10"}, "max_tokens", "must be an integer"),
        ({"temperature": 3}, "temperature", "between 0 and 2"),
        ({"messages": []}, "messages", "Unknown parameter"),
        ({"api_base": "x"}, "api_base", "Unknown parameter"),
        ({"user": "a\0"}, "user", "not allowed"),
        ({"model": ""}, "model", "is empty"),
    ],
)
def test_a_bad_completion_is_refused_by_name(changes, param, message):
    error = refusal(parse_completion_request, COMPLETION | changes)
    assert error.param == param
    assert message in error.message


def test_a_long_list_of_tokens_is_one_prompt():
    assert count(completion(prompt=[1] * 8192).prompt) == 1


# Embeddings


@pytest.mark.parametrize("inputs", [*INPUTS, ["a"] * 2048])
def test_an_input_is_text_or_tokens_one_or_many(inputs):
    body = encode_embedding_request(embedding(input=inputs), upstream_model="theirs")
    assert json.loads(body) == {"model": "theirs", "input": inputs}


def test_every_documented_parameter_of_embeddings_is_sent_on():
    options = {"encoding_format": "base64", "dimensions": 256, "user": "alice"}
    body = encode_embedding_request(embedding(**options), upstream_model="theirs")
    assert json.loads(body) == {"model": "theirs", "input": "Hello"} | options
    nulls = encode_embedding_request(embedding(**dict.fromkeys(options)), upstream_model="theirs")
    assert json.loads(nulls) == {"model": "theirs", "input": "Hello"}


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"input": None}, "input", "is required"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": ["a", ""]}, "input[1]", "must not be empty"),
        ({"input": [[]]}, "input[0]", "must not be empty"),
        ({"input": ["a"] * 2049}, "input", "at most 2048 items"),
        ({"input": [[1]] * 2049}, "input", "at most 2048 items"),
        ({"input": ["a", [1]]}, "input", "must hold strings alone"),
        ({"input": {"text": "a"}}, "input", "must be a string or an array"),
        ({"encoding_format": "int8"}, "encoding_format", "must be one of base64, float"),
        ({"dimensions": 0}, "dimensions", "between 1 and"),
        ({"dimensions": 1.5}, "dimensions", "must be an integer"),
        ({"stream": True}, "stream", "Unknown parameter"),
    ],
)
def test_a_bad_embedding_is_refused_by_name(changes, param, message):
    error = refusal(parse_embedding_request, EMBEDDING | changes)
    assert error.param == param
    assert message in error.message


# Hostile bodies


@pytest.mark.parametrize(("parse", "name"), [(parse_completion_request, "prompt"), (parse_embedding_request, "input")])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"\\ud800abcdefgh"', "surrogate"),
        ("[" * 100_000, "must"),
        ('["a",' * 100_000, "must"),
        ("NaN", "invalid"),
        ("[" + "1" * 4301 + "]", "too large"),
        ("[1e999]", "too large"),
        ("[" + "[0]," * 1_000_000 + "[0]]", "at most 2048 items"),
        ("[" + '"",' * 1_000_000 + '""]', "at most 2048 items"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_hostile_body_is_refused_quickly(parse, name, value, text):
    body = f'{{"model": "m", "{name}": {value}}}'.encode()
    started = time.process_time()
    assert text in refusal(parse, body).message
    assert time.process_time() - started < 10  # a careless reader takes minutes


@pytest.mark.parametrize("parse", [parse_completion_request, parse_embedding_request])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xef\xbb\xbf{}", b'{"model": "m", "user": "\xff"}'])
def test_what_is_no_object_is_refused(parse, body):
    assert "body" in refusal(parse, body).message


# Estimates


@pytest.mark.parametrize(
    ("inputs", "tokens"), [("", 0), ("12345", 2), ("ü" * 4, 2), (["1234", "1"], 2), ([7] * 9, 9), ([[1, 2], [3]], 3)]
)
def test_tokens_count_themselves_and_four_bytes_are_one(inputs, tokens):
    assert usage.estimate_completion(completion(prompt=inputs), 8).prompt_tokens == tokens
    if inputs:
        assert usage.estimate_embedding(embedding(input=inputs)).total_tokens == tokens


def test_a_prompt_that_is_repeated_was_not_written_by_the_model():
    request = completion(prompt="12345678", echo=True, n=2)
    assert usage.estimate_completion(request, 2 * (8 + 4)).completion_tokens == 2
    assert usage.estimate_completion(request, 3).completion_tokens == 0
