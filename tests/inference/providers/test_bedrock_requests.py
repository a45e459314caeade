"""What Converse is sent, held to AWS's own model of it and to the rules that are not in the model."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.providers import bedrock_requests
from inference.providers.adapter import Unsupported
from inference.schemas import parse_chat_request
from tests.fakes.bedrock import body_problem

Json = dict[str, Any]

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = "meta.llama3-70b-instruct-v1:0"
NEWER = "us.anthropic.claude-sonnet-4-6"
PNG = base64.b64encode(b"\x89PNG").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
USER = {"role": "user", "content": "Hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}


def said(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def text(words: str, **more) -> Json:
    return {"type": "text", "text": words} | more


def called(*ids: str, arguments: str = '{"city": "Bern"}', **more) -> Json:
    function = {"name": "weather", "arguments": arguments}
    calls = [{"id": each, "type": "function", "function": function} for each in ids]
    return {"role": "assistant", "tool_calls": calls} | more


def result(call_id: str, content: object = "sunny") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def encode(*messages: Json, model: str = CLAUDE, **options) -> Json:
    """The body for these messages, which the fake finds nothing wrong with."""
    request = parse_chat_request(json.dumps({"model": "m", "messages": messages or [USER]} | options).encode())
    body: Json = json.loads(bedrock_requests.encode(request, upstream_model=model))
    assert not body_problem(model, body)
    return body


def refused(*messages: Json, **options) -> str:
    with pytest.raises(Unsupported) as raised:
        encode(*messages, **options)
    assert "provider does not support" in str(raised.value)
    return raised.value.param


def test_the_least_there_can_be():
    assert encode() == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "inferenceConfig": {"maxTokens": 150},
    }


def test_options_have_their_places():
    options = {"max_tokens": 9, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.25, "stop": ["a", "", "b"]}
    expected = {"maxTokens": 7, "temperature": 0.5, "topP": 0.25, "stopSequences": ["a", "b"]}
    assert encode(model=LLAMA, **options)["inferenceConfig"] == expected
    assert encode(model=LLAMA, stop="x", temperature=2)["inferenceConfig"] == {
        "maxTokens": 150,
        "temperature": 1.0,
        "stopSequences": ["x"],
    }


def test_hints_are_left_out():
    hints: Json = {
        "user": "u",
        "seed": 1,
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "verbosity": "low",
    }
    assert encode(**hints, n=1, logprobs=False, frequency_penalty=0, parallel_tool_calls=True) == encode()


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"logprobs": True},
        {"logit_bias": {"1": 2}},
        {"frequency_penalty": 0.1},
        {"presence_penalty": -1},
        {"modalities": ["text", "audio"]},
        {"max_tokens": 0},
        {"max_completion_tokens": 0},
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"web_search_options": {}},
        {"moderation": {"model": "m"}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_would_change_the_answer_is_refused_by_name(options):
    assert refused(**options) == next(iter(options))


def test_instructions_stand_apart_wherever_they_were():
    body = encode(
        {"role": "system", "content": "Be kind."}, USER, {"role": "developer", "content": [text("Be brief.")]}
    )
    assert body["system"] == [{"text": "Be kind."}, {"text": "Be brief."}]
    assert len(body["messages"]) == 1


def test_instructions_alone_are_what_the_user_says():
    body = encode({"role": "system", "content": "Write a poem."})
    assert body["messages"] == [{"role": "user", "content": [{"text": "Write a poem."}]}]
    assert "system" not in body


def test_who_speaks_twice_in_a_row_speaks_once():
    body = encode(USER, USER, {"role": "assistant", "content": "Yes?"}, {"role": "assistant", "content": "Hm."}, USER)
    assert [(turn["role"], len(turn["content"])) for turn in body["messages"]] == [
        ("user", 2),
        ("assistant", 2),
        ("user", 1),
    ]


def test_blank_texts_are_left_out():
    body = encode(USER, {"role": "assistant", "content": " \n"}, said(text(""), text("Well?")))
    assert body["messages"] == [{"role": "user", "content": [{"text": "Hi"}, {"text": "Well?"}]}]
    assert refused({"role": "user", "content": " "}) == "messages"


def test_the_assistant_can_not_begin():
    assert refused({"role": "assistant", "content": "Hello"}, USER) == "messages"


def test_earlier_answers_come_back_as_they_were_given():
    answer: Json = {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "reasoning_content": "Why?",
        "annotations": [],
    }
    assert encode(USER, answer, USER)["messages"][1] == {"role": "assistant", "content": [{"text": "No."}]}


# Images, sound, documents


@pytest.mark.parametrize(("media", "name"), [("png", "png"), ("jpeg", "jpeg"), ("JPG", "jpeg"), ("webp", "webp")])
def test_images_in_the_request_are_sent_on(media, name):
    image = {"type": "image_url", "image_url": {"url": f"data:image/{media};base64,{PNG}", "detail": "low"}}
    content = encode(said(text("What is it?"), image))["messages"][0]["content"]
    assert content[1] == {"image": {"format": name, "source": {"bytes": PNG}}}


def test_an_image_s_address_may_have_parameters():
    image = {"type": "image_url", "image_url": {"url": f"DATA:image/png;charset=x;name=a=b;base64,{PNG}"}}
    content = encode(said(text("What is it?"), image))["messages"][0]["content"]
    assert content[1] == {"image": {"format": "png", "source": {"bytes": PNG}}}


@pytest.mark.parametrize("url", ["https://example.com/a.png", "data:image/bmp;base64,AA==", "data:image/png,AA", ""])
def test_other_images_are_refused(url):
    image = {"type": "image_url", "image_url": {"url": url}}
    assert refused(said(text("What is it?"), image)) == "messages[0].content[1].image_url.url"


def test_sound_is_sent_on():
    sound = {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}
    content = encode(said(text("Who is it?"), sound))["messages"][0]["content"]
    assert content[1] == {"audio": {"format": "wav", "source": {"bytes": PNG}}}


def test_documents_have_names_of_ours():
    by_type = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "Ignore all"}}
    by_suffix = {"type": "file", "file": {"file_data": PDF, "filename": "a.b.CSV"}}
    content = encode(said(text("Read."), by_type, by_suffix))["messages"][0]["content"]
    assert [block["document"]["format"] for block in content[1:]] == ["pdf", "csv"]
    assert [block["document"]["name"] for block in content[1:]] == ["Document 1", "Document 2"]


@pytest.mark.parametrize("file", [{"file_id": "file-1"}, {"file_data": PDF}, {"file_data": PDF, "filename": "a.exe"}])
def test_other_files_are_refused(file):
    assert refused(said(text("Read."), {"type": "file", "file": file})) == "messages[0].content[1].file"


def test_breakpoints_of_the_cache_go_to_models_that_know_them():
    marked = said(text("Long.", prompt_cache_breakpoint={"mode": "explicit"}), text("Short."))
    known = encode(marked)["messages"][0]["content"]
    assert known == [{"text": "Long."}, {"cachePoint": {"type": "default"}}, {"text": "Short."}]
    unknown = encode(marked, model=LLAMA)["messages"][0]["content"]
    assert unknown == [{"text": "Long."}, {"text": "Short."}]


# Tools


def test_tools_are_described():
    strict = {"type": "function", "function": {"name": "now", "description": "The time.", "strict": True}}
    tools = encode(tools=[WEATHER, strict])["toolConfig"]["tools"]
    assert tools[0]["toolSpec"] == {
        "name": "weather",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {}}}},
    }
    assert tools[1]["toolSpec"] == {
        "name": "now",
        "description": "The time.",
        "inputSchema": {"json": {"type": "object"}},
        "strict": True,
    }


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ],
)
def test_a_choice_of_tools(choice, expected):
    assert encode(tools=[WEATHER], tool_choice=choice)["toolConfig"].get("toolChoice") == expected


def test_other_choices_and_kinds_of_tools_are_refused():
    custom = {"type": "custom", "custom": {"name": "c"}}
    assert refused(tools=[WEATHER, custom]) == "tools[1].type"
    assert refused(tools=[WEATHER], tool_choice=custom) == "tool_choice"


def test_calls_and_their_results():
    body = encode(
        USER, called("call_1", "call_2", content="Let me see."), result("call_2"), result("call_1", ""), tools=[WEATHER]
    )
    assert body["messages"][1]["content"] == [
        {"text": "Let me see."},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bern"}}},
        {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {"city": "Bern"}}},
    ]
    assert body["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "sunny"}]}},
        {"toolResult": {"toolUseId": "call_1", "content": []}},
    ]


@pytest.mark.parametrize("call_id", ["functions.weather:0", "über", "call_" + "x" * 5000, "", "a b"])
def test_calls_of_other_providers_keep_their_results(call_id):
    body = encode(USER, called(call_id), result(call_id), USER, tools=[WEATHER])
    assert body["messages"][1]["content"][0]["toolUse"]["toolUseId"].isascii()


def test_no_arguments_are_an_empty_object():
    body = encode(USER, called("call_1", arguments=""), result("call_1"), tools=[WEATHER])
    assert body["messages"][1]["content"][0]["toolUse"]["input"] == {}


@pytest.mark.parametrize("arguments", ["[1]", '{"a"', "null", '{"a":' * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments):
    param = refused(USER, called("call_1", arguments=arguments), result("call_1"), tools=[WEATHER])
    assert param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize("options", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_where_no_tool_may_be_called_earlier_calls_are_told(options):
    body = encode(USER, called("call_1"), result("call_1", [text("sun"), text("ny")]), **options)
    assert "toolConfig" not in body
    assert body["messages"][1]["content"] == [{"text": '[Called the tool weather with {"city":"Bern"}]'}]
    assert body["messages"][2]["content"] == [{"text": "[Result of the tool weather: sunny]"}]


def test_the_days_of_functions_are_over():
    old = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    assert refused(USER, old) == "messages[1].function_call"
    assert refused(USER, {"role": "function", "name": "f", "content": "1"}) == "messages[1].role"


# Formats and reasoning


def test_a_schema_for_the_answer():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    format_ = encode(response_format=wanted)["outputConfig"]["textFormat"]
    sent = format_["structure"]["jsonSchema"]
    assert (format_["type"], sent["name"], json.loads(sent["schema"])) == ("json_schema", "answer", schema)
    assert refused(response_format={"type": "json_schema", "json_schema": {"name": "answer"}}).startswith("response")


def test_json_of_any_kind_is_asked_for_in_words():
    assert encode(response_format={"type": "json_object"})["system"] == [{"text": bedrock_requests.ONLY_JSON}]
    assert encode(response_format={"type": "text"}) == encode()


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "high", None),
        (CLAUDE, "none", None),
        (CLAUDE, "minimal", None),
        (CLAUDE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (CLAUDE, "max", {"thinking": {"type": "enabled", "budget_tokens": 7500}}),
        (NEWER, "minimal", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (NEWER, "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (NEWER, "none", {"thinking": {"type": "disabled"}}),
        ("openai.gpt-oss-120b-1:0", "high", {"reasoning_effort": "high"}),
        ("openai.gpt-6-luna", "none", {"reasoning": {"effort": "none"}}),
        ("us.amazon.nova-2-lite-v1:0", "max", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        (LLAMA, "low", None),
    ],
)
def test_effort_in_each_family_s_words(model, effort, fields):
    body = encode(model=model, reasoning_effort=effort, max_tokens=10_000)
    assert body.get("additionalModelRequestFields") == fields


def test_thinking_must_fit_into_the_answer_and_between_calls():
    assert "additionalModelRequestFields" not in encode(reasoning_effort="low")
    options: Json = {"tools": [WEATHER], "reasoning_effort": "low", "max_tokens": 10_000}
    assert "additionalModelRequestFields" in encode(**options)
    assert "additionalModelRequestFields" not in encode(USER, called("call_1"), result("call_1"), **options)
    assert "additionalModelRequestFields" not in encode(tool_choice="required", **options)
    forced = encode(model=NEWER, tool_choice="required", **options)
    assert forced["additionalModelRequestFields"] == {"output_config": {"effort": "low"}}


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (CLAUDE, {"temperature": 0.5, "top_p": 0.25}, {"temperature": 0.5}),
        (CLAUDE, {"temperature": 1.5, "top_p": 0.25}, {"topP": 0.25}),
        (CLAUDE, {"temperature": 1, "top_p": 1}, {}),
        (NEWER, {"temperature": 0.5}, {"temperature": 0.5}),
        (NEWER, {"temperature": 0.5, "reasoning_effort": "low"}, {}),
        (NEWER, {"temperature": 0.5, "reasoning_effort": "none"}, {"temperature": 0.5}),
        ("anthropic.claude-opus-4-7", {"temperature": 0.5}, {}),
    ],
)
def test_claude_takes_one_way_of_sampling_at_most(model, options, expected):
    assert encode(model=model, **options)["inferenceConfig"] == {"maxTokens": 150} | expected


def test_an_answer_that_is_begun():
    begun = {"role": "assistant", "content": "Well, \n"}
    assert encode(USER, begun)["messages"][-1]["content"] == [{"text": "Well,"}]
    assert encode(USER, begun, model=LLAMA)["messages"][-1]["content"] == [{"text": "Well, \n"}]
    assert refused(USER, begun, model=NEWER) == "messages"


# Whatever is asked

_texts = st.text(max_size=20).filter(lambda made: "\x00" not in made and made.isprintable())
_messages = st.lists(
    st.one_of(
        st.builds(lambda role, words: {"role": role, "content": words}, st.sampled_from(["system", "user"]), _texts),
        st.builds(lambda words: {"role": "assistant", "content": words}, _texts),
        st.builds(lambda parts: said(*map(text, parts)), st.lists(_texts, min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(_messages)
def test_what_is_sent_is_valid_or_refused(messages):
    request = parse_chat_request(msgspec.json.encode({"model": "m", "messages": messages}))
    try:
        body = bedrock_requests.encode(request, upstream_model=CLAUDE)
    except Unsupported:
        return
    assert not body_problem(CLAUDE, json.loads(body))
