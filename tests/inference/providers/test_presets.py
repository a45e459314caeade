"""What becomes of a request, and of an answer, at the servers that presets know."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from inference.providers import adapter_for
from inference.providers.adapter import Account, Operation, Unsupported, Wire
from inference.providers.dialect import HINTS, NEUTRAL
from inference.providers.presets import FIELDS, PRESETS, Preset
from inference.text_schemas import CompletionRequest, EmbeddingRequest
from tests.factories import deploy
from tests.fakes import answers
from tests.inference.chat_bodies import MINIMAL, parse

CALL = {"id": "call_abcdefghijkl", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
ASKED = {"role": "user", "content": "Hello"}


def account(preset: str) -> Account:
    return Account("compatible", base_url="https://x.example/v1", preset=preset)


def sent(preset: str, *, stream: bool = False, **changes: Any) -> dict[str, Any]:
    """The body as it goes out."""
    request = parse(**changes)
    before = repr(request)
    wire = asyncio.run(adapter_for(account(preset)).wire(request, upstream_model="theirs", stream=stream))
    assert repr(request) == before, "another deployment may get this request next"
    body: dict[str, Any] = json.loads(wire.body)
    return body


def refused(preset: str, **changes: Any) -> str:
    with pytest.raises(Unsupported) as caught:
        sent(preset, **changes)
    return caught.value.param


@pytest.mark.parametrize("preset", PRESETS)
def test_an_ordinary_request_stays_as_it_is(preset):
    body = sent(preset, temperature=0.5, top_p=0.9, stop=["x"], max_tokens=7)
    given = {"temperature": 0.5, "top_p": 0.9, "stop": ["x"], "max_tokens": 7}
    assert body == MINIMAL | given | {"model": "theirs"}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_a_preset_makes_sense(preset: Preset):
    assert preset.lacks < FIELDS
    assert not preset.lacks & {"model", "messages", "stream", "max_tokens", "temperature"}
    assert preset.base_url.startswith("https://" if preset.needs_key else ("http://127.0.0.1:", ""))
    assert HINTS | NEUTRAL.keys() <= FIELDS


@pytest.mark.parametrize("preset", PRESETS.keys())
def test_it_needs_no_address_where_it_is_well_known(preset):
    known = PRESETS[preset]
    if known.base_url:
        adapter = adapter_for(Account("compatible", preset=preset, credential="sk-x"))
        assert f"{adapter.origin.scheme}://{adapter.origin.host}" in known.base_url
        assert known.base_url.endswith(adapter.origin.prefix)
    else:
        with pytest.raises(ValueError, match="base URL"):
            adapter_for(Account("compatible", preset=preset, credential="sk-x"))


def test_a_service_needs_a_key_and_a_server_of_one_s_own_does_not():
    with pytest.raises(ValueError, match="Groq needs an API key"):
        adapter_for(Account("compatible", preset="groq"))
    assert adapter_for(Account("compatible", preset="ollama")).origin.port == 11434


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="no preset 'grok'"):
        adapter_for(Account("compatible", base_url="https://x.example/v1", preset="grok"))


def test_a_server_that_stops_only_while_it_streams_is_always_asked_for_a_stream(plane, token, upstream):
    deploy(upstream, kind="compatible", preset="llama.cpp")
    response = plane.chat(token)
    assert response.json()["choices"][0]["message"]["content"] == answers.TEXT
    assert upstream.last.json["stream"] is True


# Fields


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.limit == "max_tokens"])
@pytest.mark.parametrize(
    ("given", "expected"), [({"max_completion_tokens": 9}, 9), ({"max_tokens": 8}, 8), ({}, 150)], ids=str
)
def test_a_limit_goes_by_the_name_the_server_knows(name, given, expected):
    body = sent(name, **given)
    assert body["max_tokens"] == expected
    assert "max_completion_tokens" not in body


def test_hints_that_a_server_would_refuse_are_left_out():
    hints: dict[str, Any] = {
        "user": "u",
        "store": True,
        "metadata": {"a": "b"},
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "safety_identifier": "s",
        "verbosity": "low",
        "reasoning_effort": "low",
    }
    assert sent("mistral", **hints) == MINIMAL | {"model": "theirs", "max_tokens": 150}
    assert sent("groq", **hints) == MINIMAL | {
        "model": "theirs",
        "max_tokens": 150,
        "user": "u",
        "reasoning_effort": "low",
    }


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("groq", {"n": 2}),
        ("groq", {"logprobs": True}),
        ("groq", {"logit_bias": {"5": 1}}),
        ("groq", {"frequency_penalty": 0.1}),
        ("ollama", {"tool_choice": "none"}),
        ("deepseek", {"n": 3}),
        ("mistral", {"logprobs": True}),
        ("mistral", {"modalities": ["text", "audio"]}),
        ("cerebras", {"presence_penalty": -1}),
        ("together", {"logprobs": True}),
        ("xai", {"web_search_options": {}}),
        ("deepseek", {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(preset, changes):
    assert refused(preset, **changes) == next(iter(changes))


@pytest.mark.parametrize("preset", PRESETS)
def test_values_that_say_what_happens_anyway_are_no_reason_to_refuse(preset):
    neutral: dict[str, Any] = {
        "n": 1,
        "logprobs": False,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {},
    }
    body = sent(preset, **neutral, modalities=["text"], parallel_tool_calls=True, tool_choice="auto", tools=[TOOL])
    assert body["tools"] == [TOOL]
    assert not PRESETS[preset].lacks & body.keys()


def test_mistral_has_words_of_its_own():
    body = sent("mistral", seed=-7, tools=[TOOL], tool_choice="required")
    assert (body["random_seed"], body["tool_choice"]) == (7, "any")
    assert "seed" not in body
    assert sent("mistral", tools=[TOOL], tool_choice="auto")["tool_choice"] == "auto"


def test_usage_is_asked_of_streams_where_that_is_known():
    options = {"include_usage": False, "include_obfuscation": True}
    assert sent("groq", stream=True, stream_options=options)["stream_options"] == {"include_usage": True}
    body = sent("mistral", stream=True, stream_options=options)
    assert body["stream"] is True
    assert "stream_options" not in body


# Text completions and embeddings


def body_of(wire: Wire) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(wire.body)
    return body


def completed(preset: str, **changes: Any) -> dict[str, Any]:
    request = CompletionRequest(model="m", prompt="Once", **changes)
    return body_of(asyncio.run(adapter_for(account(preset)).completion_wire(request, upstream_model="t", stream=False)))


def embedded(preset: str, **changes: Any) -> dict[str, Any]:
    request = EmbeddingRequest(model="m", input="Once", **changes)
    return body_of(asyncio.run(adapter_for(account(preset)).embedding_wire(request, upstream_model="t")))


def test_operations_that_a_service_does_not_have_are_refused():
    for preset, known in PRESETS.items():
        for operation, ask in ((Operation.COMPLETION, completed), (Operation.EMBEDDING, embedded)):
            if operation in known.operations:
                assert ask(preset)["model"] == "t"
            else:
                with pytest.raises(Unsupported, match=f"does not do {operation}") as caught:
                    ask(preset)
                assert caught.value.param == "model"


def test_fields_of_completions_and_embeddings_are_treated_as_those_of_chat():
    assert completed("ollama", user="u", n=1, echo=False) == {"model": "t", "prompt": "Once", "max_tokens": 16}
    with pytest.raises(Unsupported, match="echo"):
        completed("ollama", echo=True)
    assert embedded("mistral", user="u", encoding_format="float") == {
        "model": "t",
        "input": "Once",
        "encoding_format": "float",
    }


@pytest.mark.parametrize("preset", ["mistral", "llama.cpp"])
def test_a_server_that_would_not_shorten_vectors_is_not_asked_to(preset):
    with pytest.raises(Unsupported, match="dimensions"):
        embedded(preset, dimensions=8)


# Messages


@pytest.mark.parametrize("preset", PRESETS)
def test_the_developer_is_the_system(preset):
    messages = sent(preset, messages=[{"role": "developer", "content": "Be brief."}, ASKED])["messages"]
    assert messages == [{"role": "system", "content": "Be brief."}, ASKED]


@pytest.mark.parametrize(
    ("preset", "role"), [("groq", "user"), ("mistral", "user"), ("xai", "system"), ("xai", "assistant")]
)
def test_names_that_a_server_refuses_are_refused_here(preset, role):
    messages = [ASKED, {"role": role, "content": "x", "name": "Ann"}]
    assert refused(preset, messages=messages) == "messages[1].name"


def test_names_that_a_server_takes_are_kept():
    messages = [ASKED | {"name": "Ann"}]
    assert sent("xai", messages=messages)["messages"] == sent("vllm", messages=messages)["messages"] == messages


def test_a_tool_s_result_needs_no_name():
    messages = [ASKED, {"role": "assistant", "tool_calls": [CALL]}]
    result = {"role": "tool", "content": "1", "tool_call_id": CALL["id"], "name": "f"}
    assert "name" not in sent("groq", messages=[*messages, result])["messages"][2]


def test_calls_that_another_model_made_keep_their_results_at_mistral():
    other = CALL | {"id": "toolu_01Zx"}
    own = CALL | {"id": "D681PevKs"}
    results = [{"role": "tool", "content": "1", "tool_call_id": call["id"]} for call in (CALL, other, own)]
    turn = {"role": "assistant", "tool_calls": [CALL, other, own]}
    _, calls, *told = sent("mistral", messages=[ASKED, turn, *results])["messages"]
    ids = [call["id"] for call in calls["tool_calls"]]
    assert ids == [result["tool_call_id"] for result in told]
    assert len(set(ids)) == 3
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert ids[2] == own["id"]


def test_reasoning_of_earlier_answers_goes_where_it_is_taken():
    messages = [ASKED, {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}, ASKED]
    assert sent("groq", messages=messages)["messages"][1] == {"role": "assistant", "content": "Hi"}
    assert sent("deepseek", messages=messages)["messages"] == messages


def test_an_earlier_refusal_is_text_to_others():
    messages = [ASKED, {"role": "assistant", "content": None, "refusal": "No."}, ASKED]
    assert sent("mistral", messages=messages)["messages"][1] == {"role": "assistant", "content": "No."}


def test_lists_of_texts_become_one_where_they_must():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert sent("deepseek", messages=[{"role": "user", "content": parts}])["messages"][0]["content"] == "a\nb"
    assert sent("vllm", messages=[{"role": "user", "content": parts}])["messages"][0]["content"] == parts


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "1"}, "messages[1].role"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "messages[1].function_call"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "c", "input": ""}}]},
            "messages[1].tool_calls",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_only_openai_has_in_conversations_is_refused(message, param):
    assert refused("vllm", messages=[ASKED, message]) == param


def test_tools_that_only_openai_has_are_refused():
    assert refused("vllm", tools=[TOOL, {"type": "custom", "custom": {"name": "c"}}]) == "tools[1].type"
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}
    assert refused("vllm", tools=[TOOL], tool_choice=allowed) == "tool_choice"


# Answers


def completion(**changes: Any) -> bytes:
    return json.dumps(answers.completion({}) | changes).encode()


def test_thoughts_among_the_parts_of_an_answer_are_told_apart():
    adapter = adapter_for(account("mistral"))
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me "}, {"type": "text", "text": "see."}]}
    message = {"role": "assistant", "content": [thinking, {"type": "text", "text": "It is 4."}]}
    body = completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    (choice,) = msgspec.to_builtins(adapter.read_answer(parse(), body))["choices"]
    told = {"role": "assistant", "content": "It is 4.", "reasoning_content": "Let me see."}
    assert choice["message"] == told


def test_thoughts_in_a_stream_are_told_apart():
    reader = adapter_for(account("mistral")).stream(parse())
    thinking = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}
    frames = [{"choices": [{"index": 0, "delta": delta}]} for delta in (thinking, {"content": "4"})]
    data = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames)
    deltas = [msgspec.to_builtins(chunk)["choices"][0]["delta"] for chunk in reader.feed(data)]
    assert deltas == [{"content": None, "reasoning_content": "Hm"}, {"content": "4"}]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"reasoning": "Hm"}, {"reasoning_content": "Hm"}),
        ({"reasoning": "Hm", "reasoning_content": "Hm"}, {"reasoning_content": "Hm"}),
        ({"reasoning": "Hm", "reasoning_content": None}, {"reasoning_content": "Hm"}),
        ({"reasoning": None}, {}),
        ({"reasoning": ""}, {}),
        ({"reasoning": {"effort": "low"}}, {}),
    ],
)
@pytest.mark.parametrize("preset", ["ollama", "vllm"])
def test_reasoning_has_one_name_whatever_the_server_calls_it(preset, said, told):
    adapter = adapter_for(account(preset))
    message = {"role": "assistant", "content": "4"}
    answer = adapter.read_answer(parse(), completion(choices=[{"message": message | said}]))
    assert msgspec.to_builtins(answer)["choices"][0]["message"] == message | told
    frame = json.dumps({"choices": [{"index": 0, "delta": {"content": "4"} | said}]}).encode()
    (chunk,) = adapter.stream(parse()).feed(b"data: %b\n\n" % frame)
    assert msgspec.to_builtins(chunk)["choices"][0]["delta"] == {"content": "4"} | told


@pytest.mark.parametrize("usage", [(9, 4, 20, 7), (9, 11, 20, 7)], ids=["apart", "included"])
def test_reasoning_tokens_are_counted_once_among_the_completion_s(usage):
    prompt, said, total, reasoning = usage
    reported: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": total}
    reported["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    answer = adapter_for(account("xai")).read_answer(parse(), completion(usage=reported))
    assert msgspec.to_builtins(answer)["usage"]["completion_tokens"] == 11
