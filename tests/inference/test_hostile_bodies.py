"""Bodies that are sent to break something: each is refused, by name where there is one, and quickly."""

import json
import time

import pytest

from inference.schemas import MAX_MESSAGES, MAX_PARTS, encode_chat_request, parse_chat_request
from tests.inference.chat_bodies import MINIMAL, raw, refusal, sent


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"model": "m", ', "ends too early"),
        (b"{" * 100_000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"[" * 100_000, "must be a JSON object"),
        (b"model=m", "not valid JSON"),
        (b"{}x", "model is required"),
        (json.dumps(MINIMAL).encode() + b"x", "trailing characters"),
        (b"\xef\xbb\xbf" + json.dumps(MINIMAL).encode(), "without a byte order mark"),
        (json.dumps(MINIMAL).encode("utf-16"), "UTF-8"),
        (json.dumps(MINIMAL).encode("utf-16-le"), "UTF-8"),
        (json.dumps(MINIMAL).encode("utf-32-be"), "UTF-8"),
        (raw("user", '"\xff"').replace(b"\xc3\xbf", b"\xff"), "bytes that are not"),
        (raw("user", '"\\ud800abcdefgh"'), "surrogate"),
        (raw("user", '"\\udc00abcdefgh"'), "surrogate"),
        (raw("user", '"\\ud800"'), "not valid JSON"),
        (raw("temperature", "NaN"), "invalid character"),
        (raw("temperature", "-Infinity"), "invalid"),
        (raw("temperature", "1e999"), "too large"),
        (raw("temperature", "1" * 4301), "too large"),
        (raw("max_tokens", "1" * 4301), "too large"),
        (raw("max_tokens", "1" * 1_000_000), "too large"),
        (raw("tools", "[" * 100_000), "must be an object"),
        (raw("x", "[" * 100_000), "Unknown parameter"),
        (raw("logit_bias", '{"a":' * 100_000), "must be an integer"),
    ],
    ids=lambda value: repr(value[-40:]) if isinstance(value, bytes) else None,  # a megabyte is no name for a test
)
def test_a_hostile_body_is_refused_quickly(body, text):
    started = time.process_time()
    assert text in refusal(body).message
    assert time.process_time() - started < 0.5


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


FREE_FORM = {
    "tools[0].function.parameters": (4, '[{"type":"function","function":{"name":"f","parameters":%s}}]'),
    "functions[0].parameters": (3, '[{"name":"f","parameters":%s}]'),
    "response_format.json_schema.schema": (
        3,
        '{"type":"json_schema","json_schema":{"name":"f","schema":%s}}',
    ),
    "tool_choice.allowed_tools.tools[0]": (
        4,
        '{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[%s]}}',
    ),
}


@pytest.mark.parametrize("path", FREE_FORM)
def test_a_schema_nests_at_most_64_levels_counted_from_the_top(path):
    above, text = FREE_FORM[path]
    name = path.split("[")[0].split(".")[0]
    deepest = nested(64 - above)
    request = parse_chat_request(raw(name, text % deepest))
    assert deepest.encode() in encode_chat_request(request, upstream_model="m", stream=False)
    error = refusal(raw(name, text % nested(65 - above)))
    assert (error.param, "at most 64 levels" in error.message) == (path, True)
    assert "too deeply" in refusal(raw(name, text % nested(100_000))).message


def test_a_schema_goes_through_as_it_is():
    schema = {"type": "object", "properties": {"api_base": {"enum": [None, 10**30, 1.5, True, "ü"]}}, "x": []}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert sent(tools=tools)["tools"] == tools


def test_numbers_in_a_schema_are_bounded_too():
    text = FREE_FORM["functions[0].parameters"][1]
    assert "too large" in refusal(raw("functions", text % '{"x":1e999}')).message
    assert "too large" in refusal(raw("functions", text % f'{{"x":{"1" * 4301}}}')).message
    digits = "1" * 4300
    request = parse_chat_request(raw("functions", text % f'{{"x":{digits}}}'))
    assert digits.encode() in encode_chat_request(request, upstream_model="m", stream=False)


def test_free_form_objects_of_one_body_share_a_limit():
    half = '{"x":"' + "y" * 300_000 + '"}'
    function = '{"name":"f","parameters":%s}'
    parse_chat_request(raw("functions", f"[{function % half}]"))
    error = refusal(raw("functions", f"[{function % half},{function % half}]"))
    assert error.message == "functions[1].parameters is too large: schemas have at most 512 KiB in all."
    million = '{"x":[' + "{}," * 3_000_000 + "{}]}"
    huge = raw("functions", f"[{function % million}]")
    echoed = raw("messages", f'[{{"role":"assistant","content":"x","annotations":[{million}]}}]')
    started = time.process_time()
    assert "too large" in refusal(huge).message
    parse_chat_request(echoed)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("[]", "functions[0].parameters must be an object, not an array."),
        ('"x"', "functions[0].parameters must be an object, not a string."),
        ('{"a":{"b":[1e999]}}', "functions[0].parameters holds a number that is too large."),
        ('{"a":"\\ud800 "}', "The request body is not valid JSON: "),
    ],
)
def test_a_bad_schema_is_refused_by_its_path(schema, message):
    error = refusal(raw("functions", f'[{{"name":"f","parameters":{schema}}}]'))
    assert error.message.startswith(message)


def test_a_schema_that_is_null_is_absent():
    functions = [{"name": "f", "parameters": None}]
    assert sent(functions=functions)["functions"] == [{"name": "f"}]


def test_a_million_messages_are_refused_quickly():
    message = b'{"role":"user","content":""},'
    body = b'{"model":"m","messages":[' + (message * 1_000_000)[:-1] + b"]}"
    started = time.process_time()
    assert refusal(body).message == f"messages must have at most {MAX_MESSAGES} items."
    assert time.process_time() - started < 3


def test_nothing_in_a_body_reaches_the_upstream_unread():
    """Sent bytes are ours to the last: no white space, order, escape or spelling of the caller's survives."""
    body = b' { "user" : "\\u0041" , "messages":[{"content":"x" ,"role":"user"}],\t"model":"m","temperature":1E0 } '
    request = parse_chat_request(body)
    assert encode_chat_request(request, upstream_model="up", stream=False) == (
        b'{"model":"up","messages":[{"role":"user","content":"x"}],"temperature":1.0,"max_tokens":150,"user":"A"}'
    )


def test_a_million_allowed_tools_are_refused_quickly():
    tools = ",".join(["{}"] * 200_000)
    body = raw("tool_choice", f'{{"type":"allowed_tools","allowed_tools":{{"mode":"auto","tools":[{tools}]}}}}')
    started = time.process_time()
    assert refusal(body).message == "tool_choice.allowed_tools.tools must have at most 128 items."
    assert time.process_time() - started < 0.3


@pytest.mark.parametrize("name", [" - at `$", " - at `$.x", "` - at `$", "`", "\\n", "x"])
def test_a_refusal_is_short_whatever_it_is_about(name):
    long = f'"{name * 100_000}"'
    for body in (raw("messages", f'[{{"role":{long}}}]'), b"{" + long.encode() + b":1}"):
        error = refusal(body)
        assert len(error.message) + len(error.param or "") < 500


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
        },
    ],
)
def test_parts_and_calls_are_limited_in_all_messages_together(message):
    """Mapping 90,000 of them to another kind's words took most of a second of everybody's."""
    name = "content" if "content" in message else "tool_calls"
    many = message | {name: message[name] * (MAX_PARTS // 2)}
    parse_chat_request(json.dumps({"model": "gpt-4", "messages": [many, many]}).encode())
    error = refusal(json.dumps({"model": "gpt-4", "messages": [many, many, message]}).encode())
    assert error.message == f"messages must have at most {MAX_PARTS} parts and tool calls in all."
