"""The official OpenAI client for Python, unmodified, against the whole of HelixFlow with its real embedded model."""

import json
import math
import time
from itertools import accumulate

import openai
import pytest
from openai import OpenAI

MESSAGES = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Say hello."}]
MODEL = "gpt-3.5-turbo"


@pytest.fixture
def client(stack):
    with OpenAI(base_url=stack.base_url, api_key=stack.api_key, max_retries=0, timeout=60) as client:
        yield client


def test_models_list_and_retrieve(client):
    listed = {model.id: model for model in client.models.list()}
    assert {"gpt-3.5-turbo", "gpt-4", "smollm2-135m-instruct"} <= set(listed)
    one = client.models.retrieve("gpt-4")
    assert one == listed["gpt-4"]
    assert (one.object, one.owned_by, one.created) == ("model", "openai", 1687882411)


def test_chat(client):
    completion = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16, temperature=0)
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == MODEL
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason in {"stop", "length"}
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_chat_says_which_deployment_answered(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=2)
    assert raw.headers["x-helixflow-upstream"] == "embedded/smollm2-135m-instruct"
    assert raw.headers["x-request-id"] == raw.request_id


def test_chat_with_the_reference_s_parameters(client):
    completion = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        temperature=0.7,
        max_tokens=150,
        top_p=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        stop=["\n", "User:"],
        stream=False,
        user="user-123",
    )
    assert completion.choices[0].finish_reason in {"stop", "length"}


def test_chat_with_every_other_documented_parameter_the_model_knows(client):
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        max_completion_tokens=8,
        n=1,
        seed=7,
        logit_bias={"50": -5},
        response_format={"type": "text"},
        metadata={"team": "docs"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=False,
        tools=[
            {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
        ],
        tool_choice="none",
    )
    assert completion.usage.completion_tokens <= 8


def test_logprobs(client):
    completion = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert len(completion.choices[0].logprobs.content[0].top_logprobs) == 2


def test_json_schema(client):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    completion = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=64,
        temperature=0,  # else it may take to blanks, which the schema allows
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )
    assert '"ok"' in completion.choices[0].message.content


def test_streaming_without_usage(client):
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert all(chunk.usage is None for chunk in chunks)
    assert {chunk.model for chunk in chunks} == {MODEL}


def test_streaming_with_usage(client):
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=16, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert last.choices == []
    assert last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)


def test_text_completions(client):
    completion = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0, logprobs=2, seed=1, stop="\n"
    )
    assert completion.id.startswith("cmpl-")
    assert (completion.object, completion.model) == ("text_completion", MODEL)
    [choice] = completion.choices
    assert "Paris" in choice.text
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.text_offset == [0, *accumulate(map(len, logprobs.tokens))][:-1]
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_text_completions_of_several_prompts(client):
    completion = client.completions.create(model=MODEL, prompt=["One, two,", "Red, green,"], n=2, max_tokens=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    assert completion.usage.completion_tokens == 12


def test_text_completions_streamed(client):
    whole = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=8, temperature=0)
    stream = client.completions.create(
        model=MODEL,
        prompt="One, two,",
        max_tokens=8,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert (last.choices, last.usage.completion_tokens) == ([], whole.usage.completion_tokens)


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def test_embeddings(client):
    """Unless told otherwise the client asks for base64 and unpacks it."""
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose by half a percent."]
    answer = client.embeddings.create(model=MODEL, input=texts)
    assert (answer.object, answer.model) == ("list", MODEL)
    assert [each.index for each in answer.data] == [0, 1, 2]
    cat, kitten, rates = (each.embedding for each in answer.data)
    assert cosine(cat, kitten) > cosine(cat, rates)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_embeddings_in_either_format(client, encoding_format):
    answer = client.embeddings.create(model=MODEL, input="Hello", encoding_format=encoding_format)
    assert isinstance(answer.data[0].embedding, str if encoding_format == "base64" else list)


def test_an_embedding_of_a_long_text(client):
    answer = client.embeddings.create(model=MODEL, input="word " * 600)
    assert answer.usage.prompt_tokens > 512
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model=MODEL, input="word " * 1500)
    assert "too large" in str(error.value)


def test_a_stream_that_is_left_does_no_harm(client):
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=150, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1).choices


def settled(client, batch_id):
    """Asked for as rarely as its limit wants it."""
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(batch_id)).status != "completed":
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
    return batch


def test_a_batch(client):
    """From a file to the files it ends in."""
    models = {"good": MODEL, "bad": "gpt-99"}
    lines = [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": MESSAGES, "max_tokens": 2},
        }
        for name, model in models.items()
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.batches.create(**asked, metadata={"for": "tests"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"for": "tests"})
    ended = settled(client, batch.id)
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (2, 1, 1)
    assert (ended.usage.output_tokens, ended.created_at <= ended.completed_at) == (2, True)
    (answered,) = map(json.loads, client.files.content(ended.output_file_id).text.splitlines())
    (refused,) = map(json.loads, client.files.content(ended.error_file_id).text.splitlines())
    assert answered["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    assert (answered["custom_id"], refused["custom_id"]) == ("good", "bad")
    assert refused["response"]["body"]["error"]["code"] == refused["error"]["code"] == "model_not_found"
    other = client.batches.create(**asked)
    assert [each.id for each in client.batches.list(limit=1)][:2] == [other.id, batch.id]  # two pages
    with pytest.raises(openai.BadRequestError, match="cannot be cancelled"):
        client.batches.cancel(batch.id)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_a_bad_key_is_its_authentication_error(client):
    with pytest.raises(openai.AuthenticationError) as error:
        client.with_options(api_key="hflow_wrong").chat.completions.create(model=MODEL, messages=MESSAGES)
    assert error.value.code == "invalid_api_key"
    assert str(error.value.request_id).startswith("req_")


def test_an_unknown_model_is_its_not_found_error(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-99", messages=MESSAGES)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-99")


def test_a_bad_parameter_is_its_bad_request_error(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=3)
    assert (error.value.code, error.value.param) == ("invalid_request", "temperature")
    assert "between 0 and 2" in str(error.value)
