"""What callers put into a conversation costs no adapter, and so no other caller, more than its bytes."""

import asyncio
import json
import time

import pytest

from inference.providers import adapter_for
from inference.providers.adapter import Account, Unsupported
from tests.inference.chat_bodies import parse

MIB = 1024 * 1024
ACCOUNTS = {
    "claude-sonnet-4-5": Account("anthropic", credential="k"),
    "anthropic.claude-3-5-sonnet-20240620-v1:0": Account("bedrock", credential="AK:SK", region="us-east-1"),
    "gemini-2.5-pro": Account("gemini", credential="k"),
}
HELLO = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]


@pytest.fixture(params=ACCOUNTS)
def wired(request):
    """Its body as the adapter sends it."""
    adapter = adapter_for(ACCOUNTS[request.param])
    return lambda parsed: asyncio.run(adapter.wire(parsed, upstream_model=request.param, stream=False)).body


def called(*arguments: str):
    calls = [
        {"id": f"call_{at}", "type": "function", "function": {"name": "write", "arguments": text}}
        for at, text in enumerate(arguments)
    ]
    results = [{"role": "tool", "tool_call_id": f"call_{at}", "content": "done"} for at in range(len(arguments))]
    return parse(messages=[HELLO, {"role": "assistant", "tool_calls": calls}, *results], tools=TOOLS)


def test_a_whole_file_is_an_argument(wired):
    text = "x = [1, 2]\n" * (MIB // 20)
    assert json.dumps(text).encode() in wired(called(json.dumps({"text": text}), "", '{"a": {"b": [null, 1.5]}}'))


@pytest.mark.parametrize("piece", ["[],", "{},", "0,"])
def test_millions_of_values_are_refused_before_they_are_read(wired, piece):
    asked = called('{"a":[' + piece * (8 * MIB // len(piece)) + "0]}")
    started = time.process_time()
    with pytest.raises(Unsupported) as refused:
        wired(asked)
    assert refused.value.param == "messages[1].tool_calls[0].function.arguments"
    assert time.process_time() - started < 0.5  # it took three seconds of everybody's


def test_all_calls_share_the_limit(wired):
    with pytest.raises(Unsupported, match="all tool calls"):
        wired(called(*['{"a":[' + "0," * 50_000 + "0]}"] * 5))


@pytest.mark.parametrize("arguments", ["[]", "{", "1", '{"a":' + "[" * 5000])
def test_what_is_no_object_is_refused_by_name(wired, arguments):
    with pytest.raises(Unsupported, match="JSON object") as refused:
        wired(called("{}", arguments))
    assert refused.value.param == "messages[1].tool_calls[1].function.arguments"


@pytest.mark.parametrize("head", ["data:" + "a" * 8 * MIB, "data:a/a" + ";a=b" * 2 * MIB, "data:a/" + "/a" * 4 * MIB])
def test_a_data_url_that_never_comes_to_its_data_is_not_searched(wired, head):
    asked = parse(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": head}}]}])
    started = time.process_time()
    with pytest.raises(Unsupported):
        wired(asked)
    assert time.process_time() - started < 0.2
