import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.providers.anthropic_requests import generation
from inference.providers.anthropic_schema import OpenSchemaError, closed
from tests.inference.chat_bodies import parse
from tests.inference.providers.anthropic_asked import (
    BETWEEN,
    NEWER,
    OLDER,
    adapter,
    asked,
    assistant,
    call,
    function,
    result,
    said,
    unsupported,
    user,
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "minLength": 2}}, "required": ["city"]}


def test_the_least_request_has_the_default_limit() -> None:
    assert asked() == {
        "model": NEWER,
        "max_tokens": 150,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }


def test_streams_are_asked_for() -> None:
    assert asked(stream=True)["stream"] is True


def test_headers_name_the_key_and_the_version() -> None:
    assert adapter().headers == b"x-api-key: sk-ant-secret\r\nanthropic-version: 2023-06-01\r\n"
    assert b"anthropic-version: 2026-10-21" in adapter(api_version="2026-10-21").headers
    assert adapter(credential="").headers == b"anthropic-version: 2023-06-01\r\n"
    assert adapter().origin.host == "api.anthropic.com"


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 0}, 1),
        ({"max_completion_tokens": 0}, 1),
    ],
)
def test_limits(limits: dict[str, Any], sent: int) -> None:
    assert asked(**limits)["max_tokens"] == sent


def test_hints_are_left_out() -> None:
    hints: dict[str, Any] = {
        "seed": 1,
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "verbosity": "low",
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logprobs": False,
        "logit_bias": {},
        "n": 1,
        "modalities": ["text"],
        "response_format": {"type": "text"},
    }
    assert asked(**hints) == asked()


@pytest.mark.parametrize(
    ("param", "changes"),
    [
        ("n", {"n": 2}),
        ("logprobs", {"logprobs": True}),
        ("logit_bias", {"logit_bias": {"50256": -100}}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("audio", {"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "alloy"}}),
        ("web_search_options", {"web_search_options": {}}),
        ("moderation", {"moderation": {"model": "omni-moderation-latest"}}),
        ("tools[0]", {"tools": [{"type": "custom", "custom": {"name": "sh"}}]}),
        ("stop", {"stop": "\n"}),
        ("stop", {"stop": ["END", " "]}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(param: str, changes: dict[str, Any]) -> None:
    assert unsupported(**changes) == param


def test_stop_is_a_list_without_empty_ones() -> None:
    assert asked(stop="END")["stop_sequences"] == ["END"]
    assert asked(stop=["END", "", "STOP"])["stop_sequences"] == ["END", "STOP"]
    assert "stop_sequences" not in asked(stop="")


def test_the_user_is_told_unless_too_long() -> None:
    assert asked(user="u-1")["metadata"] == {"user_id": "u-1"}
    assert asked(user="u-1", safety_identifier="hash")["metadata"] == {"user_id": "hash"}
    assert "metadata" not in asked(user="u" * 300)


# Sampling


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}),
        ({"temperature": 1.7}, {}),  # its range ends at 1, its default
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"temperature": 1, "top_p": 0.5}, {"top_p": 0.5}),
        ({"temperature": 1, "top_p": 1}, {}),
    ],
)
def test_sampling_is_one_number_for_models_that_take_it(wanted: dict[str, Any], sent: dict[str, float]) -> None:
    found = asked(to=OLDER, **wanted)
    assert {name: found[name] for name in ("temperature", "top_p") if name in found} == sent
    assert asked(**wanted) == asked()


def test_the_newer_version_of_the_api_takes_no_sampling() -> None:
    newer = adapter(api_version="2026-10-21")
    wire = asyncio.run(newer.wire(parse(temperature=0), upstream_model=OLDER, stream=False))
    assert "temperature" not in json.loads(wire.body)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5", (4, 5)),
        ("claude-sonnet-4-5@20250929", (4, 5)),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", (4, 5)),
        ("claude-opus-4.6", (4, 6)),
        ("claude-opus-5", (5, 0)),
        ("claude-haiku-5-5", (5, 5)),
        ("claude-mythos-preview", (99, 0)),
        ("claude-fable-5", (5, 1)),
        ("claude-fable-5-2", (5, 2)),
        ("kimi-k2-0905", (4, 1)),
    ],
)
def test_generations(model: str, found: tuple[int, int]) -> None:
    assert generation(model) == found


# Tools


def test_tools_and_their_schemas() -> None:
    tools = asked(tools=[function(description="Look."), {"type": "function", "function": {"name": "now"}}])["tools"]
    assert tools == [
        {
            "name": "get_weather",
            "description": "Look.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]


def test_a_schema_without_a_type_gets_one() -> None:
    tools = asked(tools=[function(parameters={"properties": {}})])["tools"]
    assert tools[0]["input_schema"] == {"properties": {}, "type": "object"}


def test_strict_tools_have_closed_schemas() -> None:
    tool = asked(tools=[function(strict=True, parameters=SCHEMA)])["tools"][0]
    assert tool["strict"] is True
    assert tool["input_schema"]["additionalProperties"] is False
    assert tool["input_schema"]["properties"] == {"city": {"type": "string", "description": '{"minLength":2}'}}


def test_a_strict_tool_that_takes_anything_is_offered_all_the_same() -> None:
    tool = asked(tools=[function(strict=True, parameters={"type": "object"})])["tools"][0]
    assert tool == {"name": "get_weather", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "now"}}, {"type": "tool", "name": "now"}),
    ],
)
def test_tool_choice(choice: object, sent: dict[str, str]) -> None:
    for model in (OLDER, BETWEEN):
        assert asked(to=model, tools=[function("now")], tool_choice=choice)["tool_choice"] == sent


def test_a_model_that_always_thinks_is_asked_for_a_call_in_words() -> None:
    chosen = {"type": "function", "function": {"name": "now"}}
    for choice, names in (("required", ["get_weather", "now"]), (chosen, ["now"])):
        body = asked(tools=[function(), function("now")], tool_choice=choice)
        assert body["tool_choice"] == {"type": "auto"}
        assert [tool["name"] for tool in body["tools"]] == names
        assert "a call of a tool" in body["system"][0]["text"]
    assert asked(tools=[function()], tool_choice="none")["tool_choice"] == {"type": "none"}


def test_allowed_tools_are_the_only_ones_offered() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    body = asked(to=BETWEEN, tools=[function(), function("now")], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["now"]
    assert body["tool_choice"] == {"type": "any"}


def test_the_chosen_function_must_be_offered() -> None:
    chosen = {"type": "function", "function": {"name": "then"}}
    assert unsupported(tools=[function("now")], tool_choice=chosen) == "tool_choice"


def test_no_tool_may_be_allowed() -> None:
    none = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}
    assert asked(tools=[function()], tool_choice=none) == asked()
    other = {"mode": "auto", "tools": [{"type": "custom", "custom": {"name": "sh"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": other}
    assert unsupported(tools=[function()], tool_choice=choice) == "tool_choice.allowed_tools.tools[0]"


def test_calls_one_at_a_time() -> None:
    assert asked(tools=[function()], parallel_tool_calls=False)["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    assert asked(tools=[function()], tool_choice="none", parallel_tool_calls=False)["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in asked(tools=[function()], parallel_tool_calls=True)
    assert "tool_choice" not in asked(parallel_tool_calls=False)


def test_functions_are_tools_by_an_older_name() -> None:
    body = said(
        user(),
        assistant(function_call={"name": "now", "arguments": ""}),
        {"role": "function", "name": "now", "content": "noon"},
        user("Thanks"),
        functions=[{"name": "now"}],
        function_call={"name": "now"},
        to=BETWEEN,
    )
    assert body["tools"] == [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "tool", "name": "now", "disable_parallel_tool_use": True}
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "function_1", "name": "now", "input": {}}]
    assert body["messages"][2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "function_1",
        "content": [{"type": "text", "text": "noon"}],
    }


def test_a_conversation_with_calls_defines_their_tools() -> None:
    body = said(user(), assistant(tool_calls=[call()]), result())
    assert body["tools"] == [{"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}


# Formats


def test_a_schema_is_an_output_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "place", "description": "A place.", "schema": SCHEMA}}
    assert asked(response_format=form)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": '{"minLength":2}'}},
                "required": ["city"],
                "additionalProperties": False,
                "description": "A place.",
            },
        }
    }


def test_a_schema_is_closed_to_its_last_object() -> None:
    inner = {"type": ["object", "null"], "properties": {"n": {"type": "integer", "maximum": 9, "description": "Count"}}}
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/one"}, "minItems": 1}, "pattern": inner},
        "$defs": {"one": {"oneOf": [inner, {"type": "string", "format": "phone"}, {"enum": ["a"]}]}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    sent = asked(response_format=form)["output_config"]["format"]["schema"]
    closed = {
        "type": ["object", "null"],
        "properties": {"n": {"type": "integer", "description": 'Count\n\n{"maximum":9}'}},
        "additionalProperties": False,
    }
    assert sent == {
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/one"}, "minItems": 1}, "pattern": closed},
        "$defs": {"one": {"anyOf": [closed, {"type": "string", "description": '{"format":"phone"}'}, {"enum": ["a"]}]}},
        "additionalProperties": False,
    }


_KEYWORDS = ["type", "properties", "items", "anyOf", "oneOf", "$defs", "minItems", "format", "description", "enum", "x"]
_SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "array", "string", "date"]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(_KEYWORDS), each, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(_KEYWORDS), _SCHEMAS))
def test_whatever_callers_call_a_schema_is_closed_or_refused(schema: dict[str, Any]) -> None:
    try:
        found = closed(schema)
    except OpenSchemaError:
        return
    assert found.get("additionalProperties") is (False if "properties" in schema else None)


@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}])
def test_a_schema_of_unknown_names_is_refused(schema: dict[str, object]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert unsupported(response_format=form) == "response_format.json_schema.schema"


def test_a_schema_is_refused_by_models_that_take_none() -> None:
    assert "strict" not in asked(to="claude-opus-4-1", tools=[function(strict=True, parameters=SCHEMA)])["tools"][0]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert unsupported(to="claude-opus-4-1", response_format=form) == "response_format"


def test_a_json_object_is_asked_for_in_words() -> None:
    system = asked(response_format={"type": "json_object"})["system"]
    assert system == [{"type": "text", "text": system[0]["text"]}]
    assert "one JSON object" in system[0]["text"]
    assert asked(response_format={"type": "json_schema", "json_schema": {"name": "x"}})["system"] == system


# Thinking


@pytest.mark.parametrize(
    ("effort", "thinking", "config"),
    [
        ("none", {"type": "adaptive"}, {"effort": "low"}),  # these models can't but think
        ("minimal", {"type": "adaptive"}, {"effort": "low"}),
        ("high", {"type": "adaptive"}, {"effort": "high"}),
        ("xhigh", {"type": "adaptive"}, {"effort": "xhigh"}),
        ("max", {"type": "adaptive"}, {"effort": "max"}),
    ],
)
def test_effort_for_models_that_think_as_they_see_fit(effort: str, thinking: object, config: object) -> None:
    body = asked(reasoning_effort=effort)
    assert (body["thinking"], body.get("output_config")) == (thinking, config)


def test_no_effort_where_thinking_can_be_disabled() -> None:
    body = asked(to=BETWEEN, reasoning_effort="none")
    assert (body["thinking"], body.get("output_config")) == ({"type": "disabled"}, None)


def test_effort_goes_with_a_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert set(asked(reasoning_effort="low", response_format=form)["output_config"]) == {"format", "effort"}


def test_the_first_model_with_efforts_lacks_one() -> None:
    assert asked(to="claude-opus-4-6", reasoning_effort="xhigh")["output_config"] == {"effort": "high"}


@pytest.mark.parametrize(
    ("effort", "limit", "thinking"),
    [
        ("low", 8000, {"type": "enabled", "budget_tokens": 2048}),
        ("high", 100_000, {"type": "enabled", "budget_tokens": 24576}),
        ("high", 4000, {"type": "enabled", "budget_tokens": 3000}),
        ("high", 1000, None),  # no room for a thought and an answer
        ("minimal", 8000, None),
        ("none", 8000, None),
    ],
)
def test_effort_is_a_budget_for_older_models(effort: str, limit: int, thinking: object) -> None:
    body = asked(to=OLDER, reasoning_effort=effort, max_completion_tokens=limit, temperature=0.5)
    assert body.get("thinking") == thinking
    assert ("temperature" in body) == (thinking is None)


def test_no_thinking_where_a_tool_is_forced() -> None:
    for model in (OLDER, BETWEEN):
        body = asked(to=model, reasoning_effort="high", max_tokens=9000, tools=[function()], tool_choice="required")
        assert "thinking" not in body


def test_older_models_do_not_think_within_a_loop_of_tools() -> None:
    messages = [user(), assistant(tool_calls=[call()]), result()]
    tools = [function()]
    assert "thinking" not in said(*messages, to=OLDER, tools=tools, reasoning_effort="high", max_tokens=9000)
    assert "thinking" in said(*messages, tools=tools, reasoning_effort="high")


def test_models_of_long_ago_do_not_think() -> None:
    assert "thinking" not in asked(to="claude-3-5-haiku-20241022", reasoning_effort="high", max_tokens=9000)
