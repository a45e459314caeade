"""What a chat request becomes for Gemini. Everything that is sent is checked against Google's own types."""

import asyncio
import json
from typing import Any

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.parts import ABSENT
from inference.providers import call_ids
from inference.providers.adapter import Account, Unsupported
from inference.providers.call_ids import Carried
from inference.providers.gemini import GeminiAdapter
from tests.fakes.gemini import UNSIGNED, check_type
from tests.inference.chat_bodies import parse

ADAPTER = GeminiAdapter(Account(kind="gemini", credential="key"))
MARK = call_ids.mark(ADAPTER.account)
PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": ["string", "null"]}}}
TOOLS = [
    {"type": "function", "function": {"name": "one", "description": "First.", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "two"}},
]


def sent(*, model: str = "gemini-3-flash", stream: bool = False, **changes: Any) -> dict[str, Any]:
    wire = asyncio.run(ADAPTER.wire(parse(**changes), upstream_model=model, stream=stream))
    body: dict[str, Any] = json.loads(wire.body)
    wanted = {"contents": list[types.Content], "systemInstruction": types.Content, "tools": list[types.Tool]}
    wanted |= {"toolConfig": types.ToolConfig, "generationConfig": types.GenerationConfig}
    for name, value in body.items():
        check_type(value, wanted[name])
    return body


def contents(*messages: dict[str, Any]) -> Any:
    return sent(messages=messages)["contents"]


def user_parts(*content: dict[str, Any]) -> Any:
    return contents({"role": "user", "content": content})[0]["parts"]


def config(**changes: Any) -> Any:
    found = sent(**changes)["generationConfig"]
    found.pop("maxOutputTokens")
    return found


def unsupported(**changes: Any) -> str:
    with pytest.raises(Unsupported) as caught:
        sent(**changes)
    return caught.value.param


def called(*ids: str) -> dict[str, Any]:
    calls = [{"id": each, "type": "function", "function": {"name": f"f{each[-1]}", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


# Messages


def test_turns_of_one_role_are_one_and_instructions_stand_beside_them():
    body = sent(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": [{"type": "text", "text": "you"}, {"type": "text", "text": ""}]},
            {"role": "assistant", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Go on"},
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Hello"}, {"text": "you"}]},
        {"role": "model", "parts": [{"text": "Hi"}, {"text": "No."}]},
        {"role": "user", "parts": [{"text": "Go on"}]},
    ]


def test_instructions_alone_are_what_the_user_says():
    body = sent(messages=[{"role": "system", "content": "Sing."}])
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Sing."}]}]
    assert "systemInstruction" not in body


def test_there_is_always_something_said():
    assert contents({"role": "user", "content": ""}) == [{"role": "user", "parts": [{"text": " "}]}]


def test_pictures_sound_and_files_go_as_they_came():
    parts = user_parts(
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/PNG;name=a;base64,{PIXEL}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a/cat.jpg?size=1"}},
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": PIXEL}},
        {"type": "file", "file": {"file_data": f"data:text/csv;base64,{PIXEL}"}},
    )
    assert parts == [
        {"text": "What is it?"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a/cat.jpg?size=1"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
        {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
        {"inlineData": {"mimeType": "text/csv", "data": PIXEL}},
    ]


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "http://example.com/cat.png",
        "https://example.com/cat",
        "https://localhost/cat.png",
        "https://user@example.com/cat.png",
        "https://[::1/cat.png",
        "file:///etc/passwd.png",
        "gs://our-bucket/cat.png",
        "https://generativelanguage.googleapis.com/v1beta/files/another-caller-s.png",
        "https://GENERATIVELANGUAGE.googleapis.com./v1beta/files/another-caller-s.png",
        "https://storage.cloud.google.com/our-bucket/cat.png",
        "https://ｓtorage.googleapis.com/our-bucket/cat.png",
        "https://%73torage.googleapis.com/our-bucket/cat.png",
        "",
    ],
)
def test_addresses_that_google_would_read_with_our_rights_or_not_at_all_are_refused(url):
    part = {"type": "image_url", "image_url": {"url": url}}
    assert unsupported(messages=[{"role": "user", "content": [part]}]) == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("file", [{"file_id": "file-1"}, {"file_data": PIXEL}, {"file_data": PIXEL, "filename": "x"}])
def test_a_file_whose_content_or_kind_is_not_there_is_refused(file):
    part = {"type": "file", "file": file}
    assert unsupported(messages=[{"role": "user", "content": [part]}]) == "messages[0].content[0].file"


# Calls and results


def test_results_follow_the_order_of_their_calls_in_a_turn_of_their_own():
    turns = contents(
        {"role": "user", "content": "Go"},
        called("call_1", "call_2"),
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "b"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a"},
        {"role": "user", "content": "And?"},
    )
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "user"]
    assert turns[2]["parts"] == [
        {"functionResponse": {"name": "f1", "response": {"output": "a"}}},
        {"functionResponse": {"name": "f2", "response": {"output": "b"}}},
    ]


def test_of_calls_in_parallel_the_first_alone_is_signed_and_only_for_models_that_want_it():
    messages = [{"role": "user", "content": "Go"}, called("call_1", "call_2")]
    first, second = sent(messages=messages)["contents"][1]["parts"]
    assert first["thoughtSignature"] == UNSIGNED
    assert "thoughtSignature" not in second
    for model in ("gemini-2.5-pro", "publishers/google/models/gemini-1.5-pro"):
        older = sent(messages=messages, model=model)["contents"][1]["parts"]
        assert not any("thoughtSignature" in part for part in older)


def test_an_id_that_is_used_again_means_the_last_call():
    turns = contents(
        called("call_0"),
        {"role": "tool", "tool_call_id": "call_0", "content": "a"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "g", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "b"},
    )
    assert [part["functionResponse"]["name"] for turn in turns[1::2] for part in turn["parts"]] == ["f0", "g"]


@pytest.mark.parametrize("arguments", ["[]", "5", "{", '{"a": NaN}', "null", "[" * 5000, '"\\ud800"'])
def test_arguments_that_are_no_object_are_refused(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    found = unsupported(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert found == "messages[0].tool_calls[0].function.arguments"


def test_a_result_without_its_call_is_refused():
    messages = [{"role": "tool", "tool_call_id": "call_1", "content": "a"}]
    assert unsupported(messages=messages) == "messages[0].tool_call_id"


def test_tools_are_declared_with_their_schemas_as_they_came():
    body = sent(tools=TOOLS)
    one, two = body["tools"][0]["functionDeclarations"]
    assert one == {"name": "one", "description": "First.", "parametersJsonSchema": SCHEMA}
    assert two == {"name": "two"}


def allowing(mode: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": "two"}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "calling", "declared"),
    [
        (None, {"mode": "AUTO"}, 2),
        ("auto", {"mode": "AUTO"}, 2),
        ("none", {"mode": "NONE"}, 2),
        ("required", {"mode": "ANY"}, 2),
        ({"type": "function", "function": {"name": "one"}}, {"mode": "ANY", "allowedFunctionNames": ["one"]}, 2),
        (allowing("required"), {"mode": "ANY", "allowedFunctionNames": ["two"]}, 2),
        (allowing("auto"), {"mode": "AUTO"}, 1),
    ],
)
def test_each_choice_of_tools_has_its_mode(choice, calling, declared):
    body = sent(tools=TOOLS, tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": calling}
    assert len(body["tools"][0]["functionDeclarations"]) == declared


# Generation


def test_what_is_not_said_is_not_sent():
    assert sent()["generationConfig"] == {"maxOutputTokens": 150}
    assert set(sent(tools=[], user="me", store=True, metadata={"a": "b"}, verbosity="low")) == {
        "contents",
        "generationConfig",
    }


def test_each_setting_has_its_name():
    found = config(
        temperature=0,
        top_p=0.5,
        n=2,
        stop=["a", ""],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logprobs=True,
        top_logprobs=3,
    )
    assert found == {
        "temperature": 0,
        "topP": 0.5,
        "candidateCount": 2,
        "stopSequences": ["a"],
        "seed": 7,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_settings_that_change_nothing_are_left_out():
    assert config(n=1, stop="", presence_penalty=0, frequency_penalty=0, logprobs=False) == {}
    assert config(stop="x") == {"stopSequences": ["x"]}


@pytest.mark.parametrize(
    "limit", [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_tokens": 5, "max_completion_tokens": 9}]
)
def test_the_limit_of_tokens_is_openai_s(limit):
    assert sent(**limit)["generationConfig"]["maxOutputTokens"] == 9


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_seed_of_any_size_fits_and_stays_the_same(seed):
    found = config(seed=seed)["seed"]
    assert -(2**31) <= found < 2**31
    assert found == config(seed=seed)["seed"]


def test_formats_of_answers():
    assert config(response_format={"type": "text"}) == {}
    assert config(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert config(response_format=schema) == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "xhigh", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-flash-latest", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-2.0-flash", "high", None),
        ("publishers/google/models/gemini-1.5-pro", "high", None),
        ("gemma-3-27b-it", "low", None),
    ],
)
def test_effort_is_said_in_the_words_of_the_model(model, effort, thinking):
    assert config(model=model, reasoning_effort=effort).get("thinkingConfig") == thinking


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"format": "mp3", "voice": "alloy"}}, "audio"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"n": 9}, "n"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "tool_choice"),
        (
            {
                "tools": TOOLS,
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}},
            },
            "tool_choice.allowed_tools.tools",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "a"}]}, "messages[0]"),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]},
            "messages[0].function_call",
        ),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "c", "input": ""}}],
                    }
                ]
            },
            "messages[0].tool_calls[0]",
        ),
    ],
)
def test_what_has_no_counterpart_is_named(changes, param):
    assert unsupported(**changes) == param


def test_the_request_stays_as_it_was():
    """Another deployment may be asked the same."""
    request: Any = parse(tools=TOOLS, tool_choice=allowing("auto"), stop="x")
    before = repr(request)
    asyncio.run(ADAPTER.wire(request, upstream_model="gemini-2.5-pro", stream=True))
    assert repr(request) == before
    assert request.tools[1].function.parameters is ABSENT


# Ids


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=400))
def test_an_id_brings_back_what_it_carries(provider_id, signature):
    made = call_ids.make(Carried(MARK, provider_id, signature))
    assert call_ids.carried(made, mark=MARK) == Carried(MARK, provider_id, signature)
    assert call_ids.carried(made, mark="another") == Carried("another")
    assert len(call_ids.plain(made)) <= 40
    assert made.isascii()
    assert " " not in made


def test_ids_are_all_different_and_one_that_carries_nothing_is_short():
    made = {call_ids.make(Carried(MARK)) for _ in range(100)}
    assert len(made) == 100
    assert all(call_ids.plain(each) == each and len(each) <= 40 for each in made)


def test_what_is_too_large_is_left_out():
    made = call_ids.make(Carried(MARK, "id", "s" * 100_000))
    assert made == call_ids.plain(made)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"call_[A-Za-z0-9]{24}-[A-Za-z0-9_-]*", fullmatch=True))
def test_any_id_is_read_without_harm(call_id):
    found = call_ids.carried(call_id, mark=MARK)
    assert found.mark == MARK
    assert call_id.startswith(call_ids.plain(call_id))


def test_other_kinds_of_provider_get_plain_ids_and_requests_stay_as_they_were():
    made = call_ids.make(Carried(MARK, "fc-1", "c2ln"))
    result = {"role": "tool", "tool_call_id": made, "content": "a"}
    request: Any = parse(messages=[{"role": "user", "content": "Go"}, called(made), result, called("call_1")])
    plain: Any = call_ids.plainly(request)
    assert plain.messages[1].tool_calls[0].id == plain.messages[2].tool_call_id == call_ids.plain(made) != made
    assert plain.messages[3] is request.messages[3]
    assert request.messages[1].tool_calls[0].id == request.messages[2].tool_call_id == made
    assert call_ids.plainly(plain) is plain


def test_marks_differ_by_account_and_tell_nothing():
    other = call_ids.mark(Account(kind="gemini", credential="other"))
    assert other != MARK
    assert len(MARK) == 8
