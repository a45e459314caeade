"""OpenAI and what speaks as it does, without presets: refusals, lists, and conversations that began elsewhere."""

import asyncio
import json
import logging

import pytest

from inference.answers import BadAnswer
from inference.providers import adapter_for, call_ids
from inference.providers.adapter import Account, Blame
from tests.factories import deploy
from tests.inference.chat_bodies import parse
from tests.inference.errors_told import error

SECRET = "sk-provider-secret-0123456789"  # that factories.deploy gives
OPENAI = Account("openai", credential=SECRET)


@pytest.mark.parametrize(
    ("status", "code", "blame", "pause"),
    [
        (429, "rate_limit_exceeded", Blame.LIMIT, None),
        (429, "insufficient_quota", Blame.PROVIDER, 300.0),
        (402, None, Blame.PROVIDER, 300.0),
        (401, "invalid_api_key", Blame.PROVIDER, None),
        (404, "model_not_found", Blame.PROVIDER, None),
        (400, "context_length_exceeded", Blame.CALLER, None),
        (413, "rate_limit_exceeded", Blame.LIMIT, None),
        (413, None, Blame.CALLER, None),
        (500, None, Blame.PROVIDER, None),
    ],
)
def test_whose_fault_a_refusal_is(status, code, blame, pause):
    body = json.dumps({"error": {"message": "No.", "code": code}}).encode()
    refusal = adapter_for(OPENAI).refusal(status, None, body)
    assert (refusal.blame, refusal.message, refusal.retry_after_s) == (blame, "No.", pause)


@pytest.mark.parametrize(
    ("status", "message", "blame"),
    [
        (404, "This is not a chat model and thus not supported in the v1/chat/completions endpoint.", Blame.CALLER),
        (404, "This is a chat model and not supported in the v1/completions endpoint.", Blame.CALLER),
        (403, "You are not allowed to generate embeddings from this model", Blame.CALLER),
        (404, "The model `gpt-9` does not exist or you do not have access to it.", Blame.PROVIDER),
        (403, "Country, region, or territory not supported", Blame.PROVIDER),
    ],
)
def test_asking_a_model_for_what_it_does_not_do_is_the_caller_s_fault(status, message, blame):
    body = json.dumps({"error": {"message": message}}).encode()
    assert adapter_for(OPENAI).refusal(status, None, body).blame is blame


def test_a_pause_that_was_asked_for_counts():
    body = b'{"error": {"code": "insufficient_quota"}}'
    assert adapter_for(OPENAI).refusal(429, b"3600", body).retry_after_s == 3600.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {"code": 7}}', b"[" * 60000])
def test_a_refusal_in_any_other_form_is_understood_by_its_status(body):
    assert adapter_for(OPENAI).refusal(429, None, body).blame is Blame.LIMIT


@pytest.mark.parametrize(
    "body", [b'{"object": "list", "data": [{"id": "a"}, {"id": "b", "x": 1}]}', b'[{"id": "a"}, {"id": "b"}]']
)
def test_models_are_listed_in_either_form(body):
    assert adapter_for(OPENAI).read_listing(body) == ["a", "b"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": [{}]}', b"null", b"[" * 60000])
def test_a_list_that_makes_no_sense_says_so(body):
    with pytest.raises(BadAnswer):
        adapter_for(OPENAI).read_listing(body)


def test_reasoning_that_others_wrote_does_not_go_to_openai():
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."},
        {"role": "user", "content": "Why?"},
    ]
    request = parse(messages=messages)
    before = repr(request)
    sent = json.loads(asyncio.run(adapter_for(OPENAI).wire(request, upstream_model="m", stream=False)).body)
    assert sent["messages"][1] == {"role": "assistant", "content": "Hi"}
    assert repr(request) == before


def test_the_adapter_s_description_does_not_hold_the_key():
    assert SECRET not in repr(adapter_for(OPENAI).account)


@pytest.mark.parametrize("kind", ["compatible", "openai", "azure"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_an_upstream_repeats_is_seen_by_nobody(plane, token, upstream, caplog, kind, status, stream):
    async def echo(call):
        key = call.request.headers.get("authorization") or call.request.headers["api-key"]
        await call.error(
            status, f"Incorrect API key provided: {key} ({SECRET}).", "Retry-After: 1", code="invalid_api_key"
        )

    upstream._behaviour = lambda call: echo  # on every path: each kind has its own
    deploy(upstream, kind=kind)
    with caplog.at_level(logging.DEBUG):
        response = plane.chat(token, stream=stream)
    expected = (400, "invalid_request") if status == 400 else (503, "service_unavailable")
    error(response, *expected)
    assert upstream.requests
    for text in (response.text, str(response.headers), caplog.text):
        assert SECRET not in text
        assert SECRET[-12:] not in text
    assert caplog.text


@pytest.mark.parametrize("kind", ["openai", "compatible"])
def test_ids_that_another_provider_made_carry_nothing_there(kind):
    carrying = call_ids.make(call_ids.Carried("mark", signature="x" * 600))
    request = parse(
        messages=[
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "tool_calls": [{"id": carrying, "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": carrying, "content": "Rain."},
        ]
    )
    adapter = adapter_for(Account(kind, "https://one.example/v1", SECRET))
    sent = json.loads(asyncio.run(adapter.wire(request, upstream_model="m", stream=False)).body)
    ids = {sent["messages"][1]["tool_calls"][0]["id"], sent["messages"][2]["tool_call_id"]}
    assert ids == {call_ids.plain(carrying)}
    assert len(ids.pop()) <= 40
