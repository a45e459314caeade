"""AWS Bedrock: addresses, signatures and refusals; and callers who don't notice, through the gateway."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import time_machine

from inference.providers import adapter_for
from inference.providers.adapter import Account, Blame, Wire
from inference.providers.bedrock import BedrockAdapter
from inference.schemas import ChatRequest
from inference.upstream import Deadlines, UpstreamClient
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes import aws, bedrock
from tests.fakes.bedrock import API_KEY, ARGUMENTS, KEY_ID, REGION, SECRET, SESSION_TOKEN, TEXT, Bedrock
from tests.inference.chat_bodies import parse
from tests.inference.errors_told import error

ACCESS_KEY = f"{KEY_ID}:{SECRET}"
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = f"arn:aws:bedrock:{REGION}:123456789012:application-inference-profile/a1b2c3d4e5f6"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def cloud() -> Iterator[Bedrock]:
    with Bedrock() as server:
        yield server


def account(**changes) -> Account:
    return Account(**{"kind": "bedrock", "region": REGION, "credential": ACCESS_KEY} | changes)


def adapter(cloud: Bedrock, **changes) -> BedrockAdapter:
    return BedrockAdapter(account(base_url=cloud.url, **changes))


def wire(adapter: BedrockAdapter, request: ChatRequest, *, model: str = CLAUDE, stream: bool = False) -> Wire:
    return asyncio.run(adapter.wire(request, upstream_model=model, stream=stream))


def post(adapter: BedrockAdapter, *, model: str = CLAUDE, change: bytes = b"", **options) -> tuple[int, bytes]:
    """Through our own client, which sends what was signed and more."""

    async def exchange() -> tuple[int, bytes]:
        client = UpstreamClient()
        made = await adapter.wire(parse(**options), upstream_model=model, stream=False)
        response = await client.post(adapter.origin, made.path, made.headers, made.body + change, Deadlines())
        body = await response.read(99999)
        await client.close()
        return response.status, body

    return asyncio.run(exchange())


# Settings


def test_the_address_is_the_region_s():
    made = adapter_for(account(region=" us-east-1 "))
    assert made.origin.host == "bedrock-runtime.us-east-1.amazonaws.com"
    assert made.origin.scheme == "https"


@pytest.mark.parametrize(
    "changes",
    [
        {"region": ""},
        {"region": "us_east/1"},
        {"region": "", "credential": API_KEY},
        {"region": "", "base_url": "http://127.0.0.1:1"},  # a signature names one
        {"credential": ""},
        {"credential": f"{KEY_ID}:"},
        {"credential": f"{ACCESS_KEY}:token:more"},
        {"credential": "a key\r\nof two lines"},
        {"base_url": "ftp://example.com"},
    ],
)
def test_settings_that_can_not_work_are_refused_without_their_secrets(changes):
    with pytest.raises(ValueError, match=r"must|can't") as raised:
        BedrockAdapter(account(**changes))
    assert SECRET not in str(raised.value)
    assert "two lines" not in str(raised.value)


def test_an_api_key_needs_no_region_where_the_address_is_given(cloud):
    assert post(adapter(cloud, region="", credential=API_KEY))[0] == 200


def test_each_part_of_a_credential_is_a_secret():
    assert {SECRET, SESSION_TOKEN} <= set(BedrockAdapter(account(credential=f"{ACCESS_KEY}:{SESSION_TOKEN}")).secrets)
    assert BedrockAdapter(account(credential=API_KEY)).secrets == (API_KEY,)


def test_the_signer_is_not_loaded_for_those_who_sign_nothing():
    code = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'helixflow.settings'; import django; django.setup();"
        "from inference.providers import adapter_for; from inference.providers.adapter import Account;"
        "adapter_for(Account('bedrock', region='us-east-1', credential='key'));"
        "print('botocore.auth' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split()[-1] == "False"


# Signatures


@pytest.mark.parametrize("model", [CLAUDE, PROFILE, "a b/ü~.-_?&"])
@pytest.mark.parametrize("credential", [ACCESS_KEY, API_KEY], ids=["signed", "key"])
def test_what_is_sent_is_accepted_whatever_the_model_is_called(cloud, credential, model):
    made = adapter(cloud, credential=credential)
    if model.isascii():
        assert post(made, model=model)[0] == 200
    else:  # an impossible name is refused as such: its signature was right
        assert b"is not like" in post(made, model=model)[1]
    assert cloud.last.path.count("/") == 3


def test_a_base_url_with_a_path_is_signed_with_it(cloud):
    made = BedrockAdapter(account(base_url=f"{cloud.url}/through/a%20proxy/"))
    assert b"no such operation" in post(made)[1]


def test_temporary_credentials(cloud):
    cloud.session_token = SESSION_TOKEN
    assert post(adapter(cloud, credential=f"{ACCESS_KEY}:{SESSION_TOKEN}"))[0] == 200
    assert post(adapter(cloud))[0] == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"credential": f"{KEY_ID}:another"},
        {"credential": f"AKIA:{SECRET}"},
        {"credential": "another-key"},
        {"region": "us-east-1"},
    ],
)
def test_wrong_credentials_are_noticed(cloud, changes):
    made = adapter(cloud, **changes)
    status, body = post(made)
    assert status == 403
    assert made.refusal(status, None, body).blame is Blame.PROVIDER


def test_a_body_that_was_changed_is_noticed(cloud):
    assert post(adapter(cloud), change=b" ")[0] == 403


def test_a_signature_is_of_its_moment(cloud):
    made = adapter(cloud)
    with time_machine.travel("2026-11-01T12:00:00Z", tick=False):
        early = wire(made, parse())
        assert wire(made, parse()) == early
    assert b"X-Amz-Date: 20261101T120000Z\r\n" in early.headers
    assert wire(made, parse()).headers != early.headers


def test_the_models_are_listed_as_they_are_asked_for(cloud):
    async def listed(made: BedrockAdapter) -> list[str]:
        client = UpstreamClient()
        listing = await made.listing()
        assert listing is not None
        response = await client.get(listing.origin, listing.path, listing.headers, Deadlines())
        body = await response.read(99999)
        await client.close()
        return made.read_listing(body)

    expected = [
        "amazon.titan-text-express-v1",
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "amazon.titan-embed-text-v2:0",
    ]
    assert asyncio.run(listed(adapter(cloud))) == expected
    assert asyncio.run(listed(adapter(cloud, credential=API_KEY))) == expected


def test_the_list_is_had_from_the_control_plane():
    listing = asyncio.run(BedrockAdapter(account()).listing())
    assert listing is not None
    assert listing.origin.host == f"bedrock.{REGION}.amazonaws.com"


# Refusals


@pytest.mark.parametrize(
    ("status", "body", "blame"),
    [
        (400, {"message": "The maximum tokens you requested exceeds the model limit."}, Blame.CALLER),
        (400, {"message": "The provided model identifier is invalid."}, Blame.PROVIDER),
        (400, {"message": "Invocation of model ID x with on-demand throughput isn’t supported."}, Blame.PROVIDER),
        (400, {"message": "Operation not allowed"}, Blame.PROVIDER),
        (400, {"__type": "com.amazon.coral.service#ExpiredTokenException", "Message": "It expired."}, Blame.PROVIDER),
        (400, {"__type": "ThrottlingException", "message": "Rate exceeded"}, Blame.LIMIT),
        (403, {"Message": "User is not authorized to perform: bedrock:InvokeModel"}, Blame.PROVIDER),
        (404, {"message": "This model version has reached the end of its life."}, Blame.PROVIDER),
        (408, {"message": "Model has timed out"}, Blame.PROVIDER),
        (424, {"message": "The model failed", "originalStatusCode": 500}, Blame.PROVIDER),
        (429, {"message": "Too many tokens, please wait before trying again."}, Blame.LIMIT),
        (429, {"message": "Model is not ready for inference. Wait and try your request again."}, Blame.PROVIDER),
        (500, {"message": "The system encountered an unexpected error."}, Blame.PROVIDER),
        (503, {"message": "Too many connections, please wait before trying again."}, Blame.PROVIDER),
    ],
)
def test_whose_fault_it_is(status, body, blame):
    refusal = BedrockAdapter(account()).refusal(status, b"7", json.dumps(body).encode())
    assert refusal.blame is blame
    assert refusal.message == body.get("message", body.get("Message"))
    assert refusal.retry_after_s == 7


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"message": 7}', b"[" * 99999, b'"\xff"'])
def test_refusals_that_make_no_sense_say_nothing(body):
    assert BedrockAdapter(account()).refusal(400, None, body).message == ""


# Through the gateway


@pytest.fixture
def client(plane, token, cloud) -> Iterator[openai.OpenAI]:
    """The official client, in front of a model that Bedrock answers for."""
    connect(cloud)
    with openai.OpenAI(base_url=plane.url, api_key=token, max_retries=0) as made:
        yield made


def connect(cloud: Bedrock, *, credential: str = ACCESS_KEY, **options) -> None:
    made = deploy(cloud.url, kind="bedrock", region=REGION, **options)
    made.provider.credential = credential
    made.provider.save()
    made.upstream_model = CLAUDE
    made.save()
    reread_catalogue()


def test_a_whole_answer(client, cloud):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (27, 12, 39)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.model == MODEL
    assert cloud.last.path == f"/model/{CLAUDE.replace(':', '%3A')}/converse"


def test_a_stream(client, cloud, settled):
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert last.usage.total_tokens == 39
    assert cloud.last.path.endswith("/converse-stream")
    assert settled().usage_source == "provider"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_loop_with_a_tool(client, streamed):
    messages: Any = [{"role": "user", "content": "How is the weather?"}]
    options: Any = {"model": MODEL, "tools": [WEATHER]}
    if streamed:
        with client.chat.completions.stream(messages=messages, **options) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(messages=messages, **options).choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", json.loads("".join(ARGUMENTS)))
    function = {"name": call.function.name, "arguments": call.function.arguments}
    messages += [
        {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    again = client.chat.completions.create(messages=messages, **options)
    assert again.choices[0].message.content == TEXT


def test_a_deployment_that_is_always_streamed(plane, token, cloud):
    connect(cloud, stream_always=True)
    assert plane.chat(token).json()["choices"][0]["message"]["content"] == TEXT
    assert cloud.last.path.endswith("/converse-stream")


def test_an_error_of_the_caller_s_is_shown(plane, token, client, cloud):
    cloud.script(bedrock.refusal(400, "The maximum tokens you requested exceeds the limit.", "ValidationException"))
    with pytest.raises(openai.BadRequestError, match="maximum tokens you requested"):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_what_bedrock_can_not_do_is_refused_by_name_or_done_elsewhere(plane, token, client, upstream):
    assert error(plane.chat(token, n=2), 400, "invalid_request")["param"] == "n"
    deploy(upstream, name="second", priority=1)
    assert plane.chat(token, n=2).headers["x-helixflow-upstream"] == "second"


@pytest.mark.parametrize(
    "behaviour",
    [
        bedrock.refusal(429, "Too many requests", "ThrottlingException"),
        bedrock.refusal(400, "The provided model identifier is invalid.", "ValidationException"),
        bedrock.stream([("messageStart", {"role": "assistant"})], aws.exception("throttlingException", "Too many")),
        bedrock.stream([("messageStart", {"role": "assistant"})]),
        bedrock.stream([], b"data: {}\n\n"),
        bedrock.stream([], b"\x00\x10\x00\x01\x00\x00\x00\x00"),
    ],
    ids=["limited", "misnamed", "limited later", "cut", "garbage", "huge"],
)
def test_the_next_deployment_answers_for_one_that_did_not_begin(plane, token, client, cloud, upstream, behaviour):
    deploy(upstream, name="second", priority=1)
    cloud.script(behaviour)
    response = plane.chat(token, stream=True)
    assert response.headers["x-helixflow-upstream"] == "second"
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("more", [b"", aws.exception("modelStreamErrorException", "Oh"), b"garbage, garbage, garbage"])
def test_a_stream_that_breaks_off_says_so(plane, token, client, cloud, more):
    cloud.script(bedrock.stream(bedrock.events()[:6], more))
    response = plane.chat(token, stream=True)
    *_, last, nothing = response.text.split("\n\n")
    assert nothing == ""
    assert "error" in json.loads(last.removeprefix("data: "))


def test_a_stream_without_its_usage_is_whole_and_estimated(plane, token, client, cloud, settled):
    cloud.script(bedrock.stream(bedrock.events()[:-1]))
    assert plane.chat(token, stream=True).text.endswith("data: [DONE]\n\n")
    assert settled().usage_source == "estimated"
