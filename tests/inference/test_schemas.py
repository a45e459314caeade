"""Every rule of the body of a chat request. Hostile ones: test_hostile_bodies.py."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from typing_extensions import is_typeddict

from inference.schemas import DEFAULT_MAX_TOKENS, ChatRequest, encode_chat_request, parse_chat_request
from tests.inference.chat_bodies import MINIMAL, message_refusal, parse, raw, refusal, refusal_of, sent

REFERENCE = {
    "model": "gpt-3.5-turbo",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello, world!"},
    ],
    "temperature": 0.7,
    "max_tokens": 150,
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stop": ["\n", "User:"],
    "stream": False,
    "user": "user-123",
}


# What goes through, and how it is sent


def test_the_references_example_is_sent_as_it_was_written():
    request = parse_chat_request(json.dumps(REFERENCE).encode())
    body = json.loads(encode_chat_request(request, upstream_model="theirs", stream=False))
    expected = {key: value for key, value in REFERENCE.items() if key != "stream"}
    assert body == expected | {"model": "theirs"}


def test_the_request_says_what_the_caller_wants():
    request = parse(stream=True, stream_options={"include_usage": True}, user="u-1")
    assert (request.model, request.user) == ("gpt-4", "u-1")
    assert (request.wants_stream, request.wants_usage_chunk) == (True, True)
    assert parse(stream=True).wants_usage_chunk is False
    assert parse(stream_options={"include_usage": True}).wants_usage_chunk is False
    assert parse().wants_stream is parse(stream=False).wants_stream is parse(stream=None).wants_stream is False


def test_encoding_leaves_the_request_as_it_was():
    request = parse(stream=True)
    encode_chat_request(request, upstream_model="theirs", stream=False)
    assert (request.model, request.stream, request.max_tokens) == ("gpt-4", True, None)


def test_null_means_absent_and_no_null_is_sent():
    nulls: dict[str, Any] = dict.fromkeys(set(ChatRequest.__struct_fields__) - {"model", "messages"})
    assert sent(**nulls) == MINIMAL | {"model": "theirs", "max_tokens": DEFAULT_MAX_TOKENS}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"max_tokens": 150}),
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ({"max_tokens": 7, "max_completion_tokens": None}, {"max_tokens": 7}),
    ],
)
def test_max_completion_tokens_wins_and_the_default_fills_in_for_both(given, expected):
    body = sent(**given)
    assert {key: value for key, value in body.items() if key.startswith("max_")} == expected


def test_a_stream_always_asks_for_usage():
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert sent(stream=True)["stream"] is True
    options = {"include_usage": False, "include_obfuscation": False}
    body = json.loads(
        encode_chat_request(parse(stream=True, stream_options=options), upstream_model="theirs", stream=True)
    )
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_stream_options_go_only_with_a_stream():
    body = sent(stream=False, stream_options={"include_usage": True})
    assert "stream_options" not in body
    assert "stream" not in body


@pytest.mark.parametrize("stop", ["\n", ["a"], ["a", "b", "c", "d"]])
def test_stop_is_a_string_or_up_to_four(stop):
    assert sent(stop=stop)["stop"] == stop


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 2),
        ("top_p", 0),
        ("top_p", 1),
        ("frequency_penalty", -2),
        ("presence_penalty", 2),
        ("n", 16),
        ("max_tokens", 2**31 - 1),
        ("seed", -(2**63)),
        ("logit_bias", {"50256": -100}),
        ("user", "x" * 512),
        ("metadata", {f"k{i}": "v" * 512 for i in range(16)}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_the_ends_of_a_range_are_inside(name, value):
    assert sent(**{name: value})[name] == value


def test_duplicate_keys_are_resolved_before_anything_is_sent():
    body = raw("temperature", '5, "temperature": 1')
    assert refusal(body).param == "temperature"
    request = parse_chat_request(raw("user", '"a", "user": "b"'))
    assert request.user == "b"
    assert encode_chat_request(request, upstream_model="m", stream=False).count(b'"user":"b"') == 1


def test_content_may_hold_nul_and_any_script():
    content = "\x00 ☃ 𝄞 \u2028"
    assert sent(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == content


def test_the_message_object_of_the_reference_takes_a_name_in_every_role():
    roles = ["system", "developer", "user", "assistant"]
    messages = [{"role": role, "content": "x", "name": "optional name"} for role in roles]
    assert sent(messages=messages)["messages"] == messages


def test_an_answer_can_be_put_back_into_the_conversation_as_it_came():
    call: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com"}}],
        "audio": {"id": "audio_1", "data": "AAAA", "expires_at": 1, "transcript": "hi"},
        "function_call": None,
        "tool_calls": [call | {"index": 0, "function": call["function"] | {"parsed_arguments": {"a": [1]}}}],
        "reasoning_content": "hm",
        "parsed": {"as": "the client's helpers add it"},
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    messages = sent(messages=[{"role": "user", "content": "x"}, answer, result])["messages"]
    assert messages[1] == {
        "role": "assistant",
        "audio": {"id": "audio_1"},
        "tool_calls": [call],
        "reasoning_content": "hm",
    }
    assert messages[2] == result


# Every parameter that OpenAI documents, by the types of its own package


def samples(hint: Any) -> Iterator[Any]:
    """Values of a type of OpenAI's package: each alternative, each word and each field at least once."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Required, NotRequired, Annotated):
        yield from samples(arguments[0])
    elif origin is Literal:
        yield from arguments
    elif origin is Union or str(origin) == "<class 'types.UnionType'>":
        for argument in arguments:
            yield from samples(argument)
    elif is_typeddict(hint):
        yield from objects(hint)
    elif origin is dict:
        yield {"1": next(samples(arguments[1]))} if arguments[1] is not object else {"type": "object"}
    elif origin is not None:  # some kind of sequence
        yield from ([value] for value in samples(arguments[0]))
    else:
        yield {str: "text", int: 1, float: 0.5, bool: True, type(None): None, object: {}}[hint]


def objects(hint: Any) -> Iterator[dict[str, Any]]:
    fields = {name: list(samples(inner)) for name, inner in get_type_hints(hint, include_extras=True).items()}
    full = {name: values[0] for name, values in fields.items()}
    yield full
    for name, values in fields.items():
        for value in values[1:]:
            yield full | {name: value}


PARAMETERS = get_type_hints(CompletionCreateParamsBase, include_extras=True)
SAMPLES = [(name, value) for name, hint in PARAMETERS.items() for value in samples(hint)]
# Empty by intent: put a parameter here, with the reason, if it is ever to be refused.
REFUSED: dict[str, str] = {}


def test_the_samples_cover_openais_parameters():
    assert len(PARAMETERS) >= 36
    assert {name for name, _ in SAMPLES} == set(PARAMETERS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_every_documented_parameter_is_accepted_and_sent_on(name):
    for value in [value for sampled, value in SAMPLES if sampled == name]:
        changes = {name: value} | ({"logprobs": True} if name == "top_logprobs" else {})
        if name in REFUSED:
            assert refusal_of(**changes).param == name
            continue
        body = sent(stream=name == "stream_options", **changes)
        if value is not None and name not in ("model", "stream_options"):
            assert body[name] == without_nulls(value), value


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


# What is refused, and how that is said


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"model": None}, "model", "model is required."),
        ({"model": 5}, "model", "model must be a string, not an integer."),
        ({"messages": None}, "messages", "messages is required."),
        ({"messages": []}, "messages", "messages must not be empty."),
        ({"messages": "hi"}, "messages", "messages must be an array, not a string."),
        ({"messages": ["hi"]}, "messages[0]", "messages[0] must be an object, not a string."),
        ({"temperature": 2.1}, "temperature", "temperature must be between 0 and 2."),
        ({"temperature": -0.1}, "temperature", "temperature must be between 0 and 2."),
        ({"temperature": "1"}, "temperature", "temperature must be a number, not a string."),
        ({"temperature": True}, "temperature", "temperature must be a number."),
        ({"top_p": 1.1}, "top_p", "top_p must be between 0 and 1."),
        ({"frequency_penalty": 2.5}, "frequency_penalty", "frequency_penalty must be between -2 and 2."),
        ({"presence_penalty": -2.5}, "presence_penalty", "presence_penalty must be between -2 and 2."),
        ({"max_tokens": -1}, "max_tokens", "max_tokens must be between 0 and 2147483647."),
        ({"max_tokens": 2**63}, "max_tokens", "max_tokens must be between 0 and 2147483647."),
        ({"max_tokens": "10"}, "max_tokens", "max_tokens must be an integer, not a string."),
        ({"max_tokens": True}, "max_tokens", "max_tokens must be an integer."),
        ({"max_tokens": 10.0}, "max_tokens", "max_tokens must be an integer, not a number."),
        ({"n": 0}, "n", "n must be between 1 and 16."),
        ({"n": 1_000_000}, "n", "n must be between 1 and 16."),
        ({"stream": "true"}, "stream", "stream must be true or false, not a string."),
        ({"stream": 1}, "stream", "stream must be true or false, not an integer."),
        ({"stop": 5}, "stop", "stop must be a string or an array, not an integer."),
        ({"stop": list("abcde")}, "stop", "stop must have at most 4 items."),
        ({"stop": ["a", None]}, "stop[1]", "stop[1] is required."),
        ({"top_logprobs": 5}, "top_logprobs", "top_logprobs needs logprobs to be true."),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "top_logprobs must be between 0 and 20."),
        ({"logit_bias": {"1": 101}}, "logit_bias", "Each value in logit_bias must be at most 100."),
        (
            {"logit_bias": dict.fromkeys(map(str, range(1025)), 1)},
            "logit_bias",
            "logit_bias must have at most 1024 entries.",
        ),
        ({"tool_choice": "always"}, "tool_choice", "tool_choice must be one of auto, none, required."),
        ({"verbosity": "loud"}, "verbosity", "verbosity must be one of high, low, medium."),
        ({"user": "x" * 513}, "user", "user must have at most 512 characters."),
        ({"metadata": {"k": 1}}, "metadata", "Each value in metadata must be a string, not an integer."),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "metadata must have at most 16 entries."),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "tools[0].function is required."),
        ({"response_format": {"type": "xml"}}, "response_format.type", "response_format.type may not be 'xml'."),
    ],
)
def test_a_bad_value_is_refused_by_name(changes, param, message):
    error = refusal_of(**changes)
    assert (error.message, error.param, error.details) == (message, param, {param: message})


@pytest.mark.parametrize("name", ["model", "messages"])
def test_what_is_required_must_be_there(name):
    body = {key: value for key, value in MINIMAL.items() if key != name}
    error = refusal(json.dumps(body).encode())
    assert (error.message, error.param) == (f"{name} is required.", name)


@pytest.mark.parametrize(
    ("message", "param", "text"),
    [
        ({"content": "x"}, "messages[0].role", "messages[0].role is required."),
        ({"role": "user"}, "messages[0].content", "messages[0].content is required."),
        ({"role": "user", "content": None}, "messages[0].content", "messages[0].content is required."),
        ({"role": "user", "content": 5}, "messages[0].content", "must be a string or an array, not an integer."),
        ({"role": "user", "content": []}, "messages[0].content", "must not be empty."),
        ({"role": "root", "content": "x"}, "messages[0].role", "must be one of system, developer, user, assistant"),
        ({"role": "assistant"}, "messages[0].content", "is required unless tool_calls or function_call is given."),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id", "is required."),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text", "is required."),
        ({"role": "user", "content": [{"type": "x"}]}, "messages[0].content[0].type", "may not be 'x'."),
        ({"role": "user", "content": "x", "name": "a\x00"}, "messages[0].name", "not allowed."),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0].type",
            "may not be 'image_url'",
        ),
    ],
)
def test_a_bad_message_is_refused_by_its_path(message, param, text):
    error = message_refusal(**message)
    assert error.param == param
    assert text in error.message


@pytest.mark.parametrize("name", ["api_base", "api_key", "base_url", "extra_headers", "headers", "top_k", "deployment"])
def test_an_unknown_parameter_is_refused_wherever_it_stands(name):
    part = {"type": "text", "text": "x", name: "y"}
    function = {"name": "f", name: "y"}
    places: list[tuple[dict[str, Any], str]] = [
        ({name: "y"}, ""),
        ({"messages": [{"role": "user", "content": "x", name: "y"}]}, "messages[0]."),
        ({"messages": [{"role": "user", "content": [part]}]}, "messages[0].content[0]."),
        ({"tools": [{"type": "function", "function": function}]}, "tools[0].function."),
        ({"response_format": {"type": "text", name: "y"}}, "response_format."),
        ({"stream_options": {name: "y"}}, "stream_options."),
        ({"web_search_options": {name: "y"}}, "web_search_options."),
    ]
    for changes, where in places:
        error = refusal_of(**changes)
        assert error.message == f"Unknown parameter: '{where}{name}'."
        assert error.param == where + name


def test_a_callers_text_in_a_message_is_short_and_printable():
    error = refusal_of(**{"a\x1b[31m" + "b" * 10_000: 1})
    assert error.message.isprintable()
    assert len(error.message) < 120


@pytest.mark.parametrize("name", ["user", "safety_identifier", "prompt_cache_key", "model"])
def test_nul_is_refused_in_what_may_be_stored(name):
    assert refusal_of(**{name: "a\x00b"}).param == name
    assert refusal_of(metadata={"k": "a\x00"}).param == "metadata"
    assert refusal_of(metadata={"k\x00": "a"}).param == "metadata"
