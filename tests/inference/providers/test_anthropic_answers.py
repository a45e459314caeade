import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from inference.answers import BadAnswer, Chunk, Throttled, UpstreamStreamError
from inference.assembly import Assembler
from inference.completions import rewrite_completion
from inference.providers.adapter import Blame
from tests.fakes import anthropic as fake
from tests.inference.chat_bodies import parse
from tests.inference.providers.anthropic_asked import adapter, function

WEATHER = fake.tool_use("get_weather", {"city": "Zürich"}, number=1)
CALLS = fake.message(fake.text("Let me look."), WEATHER, fake.tool_use("now", {}, number=2), stop_reason="tool_use")
MESSAGES = {
    "text": fake.message(fake.text(fake.TEXT)),
    "calls": CALLS,
    "call": fake.message(WEATHER, stop_reason="tool_use"),
    "thoughts": fake.message(fake.thinking("Hm, well."), fake.text("Yes.")),
    "texts": fake.message(fake.text("One, "), fake.text("two.")),
    "nothing": fake.message(),
}


def whole(message: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Our chat.completion of it."""
    answer = adapter().read_answer(parse(**changes), json.dumps(message).encode())
    body, _, reported = rewrite_completion(answer, id="chatcmpl-1", created=1, model="ours")
    assert reported
    found: dict[str, Any] = json.loads(body)
    return found


def chunks(*parts: bytes, **changes: Any) -> list[dict[str, Any]]:
    reader = adapter().stream(parse(**changes))
    found: list[Chunk] = [chunk for part in parts for chunk in reader.feed(part)]
    found += reader.finish()
    assert reader.done
    return [msgspec.to_builtins(chunk) for chunk in found]


def streamed(message: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return chunks(*fake.frames(message), **changes)


def deltas(message: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in streamed(message, **changes) for choice in chunk["choices"]]


def together(message: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The stream's chat.completion."""
    assembler = Assembler()
    reader = adapter().stream(parse(**changes))
    for chunk in reader.feed(b"".join(fake.frames(message))):
        assembler.add(chunk)
    body, _, reported = assembler.result(id="chatcmpl-1", created=1, model="ours")
    assert reported
    found: dict[str, Any] = json.loads(body)
    return found


# The fake


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_fake_speaks_as_anthropics_client_understands(kind: str) -> None:
    Message.model_validate(MESSAGES[kind])
    events: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in fake.events(MESSAGES[kind]):
        if event["type"] != "ping":
            events.validate_python(event)


# Whole answers


def test_words() -> None:
    (choice,) = whole(MESSAGES["text"])["choices"]
    message = {"role": "assistant", "content": fake.TEXT, "refusal": None}
    assert choice == {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}


def test_calls_of_tools() -> None:
    (choice,) = whole(CALLS)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me look."
    assert choice["message"]["tool_calls"] == [
        {
            "id": WEATHER["id"],
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'},
        },
        {"id": CALLS["content"][2]["id"], "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    assert whole(MESSAGES["call"])["choices"][0]["message"]["content"] is None


def test_thoughts_are_reasoning() -> None:
    message = whole(MESSAGES["thoughts"])["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm, well.", "Yes.")


def test_texts_are_one() -> None:
    assert whole(MESSAGES["texts"])["choices"][0]["message"]["content"] == "One, two."
    assert whole(MESSAGES["nothing"])["choices"][0]["message"]["content"] == ""


def test_usage_counts_what_was_cached() -> None:
    assert whole(MESSAGES["text"])["usage"] == {
        "prompt_tokens": 42,
        "completion_tokens": 12,
        "total_tokens": 54,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("something_new", "stop"),
    ],
)
def test_reasons_to_stop(said: str, reason: str) -> None:
    message = fake.message(fake.text("x"), stop_reason=said)
    assert whole(message)["choices"][0]["finish_reason"] == reason
    assert together(message)["choices"][0]["finish_reason"] == reason


def test_functions_are_answered_in_kind() -> None:
    changes = {"functions": [{"name": "get_weather"}]}
    for found in (whole(MESSAGES["call"], **changes), together(MESSAGES["call"], **changes)):
        (choice,) = found["choices"]
        assert choice["finish_reason"] == "function_call"
        assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Zürich"}'}
        assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("body", [b"", b"I am fine.", b'{"hello": ["world"]}', b'{"content": [{"type', b"[]", b"\xff"])
def test_nonsense_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        adapter().read_answer(parse(), body)


def test_a_limit_in_an_answers_place() -> None:
    with pytest.raises(Throttled, match="Slow down"):
        adapter().read_answer(
            parse(), b'{"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}'
        )


def test_an_error_in_an_answers_place() -> None:
    with pytest.raises(UpstreamStreamError, match="Overloaded"):
        adapter().read_answer(
            parse(), b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
        )


# Streams


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_stream_makes_the_same_answer(kind: str) -> None:
    found, expected = together(MESSAGES[kind]), whole(MESSAGES[kind])
    assert found["usage"] == expected["usage"]
    message = {name: value for name, value in expected["choices"][0]["message"].items() if name != "refusal"}
    assert {name: value for name, value in found["choices"][0]["message"].items() if name != "refusal"} == message


def test_a_stream_begins_and_ends_as_openais_do() -> None:
    found = streamed(MESSAGES["text"])
    assert found[0]["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": "", "refusal": None},
        "finish_reason": None,
        "logprobs": None,
    }
    assert [chunk["choices"][0]["delta"] for chunk in found[1:-1]] == [{"content": token} for token in fake.TOKENS]
    assert found[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}
    assert found[-1]["usage"]["completion_tokens"] == 12


def test_what_the_prompt_cost_is_known_from_the_first_chunk() -> None:
    usage = streamed(MESSAGES["text"])[0]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (42, 0)


def test_calls_are_numbered_among_themselves() -> None:
    calls = [call for delta in deltas(CALLS) for call in delta.get("tool_calls", ())]
    first, second = CALLS["content"][1]["id"], CALLS["content"][2]["id"]
    begun = {"index": 0, "id": first, "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    assert calls[0] == begun
    assert [call["index"] for call in calls] == [0, 0, 0, 1, 1]
    assert "".join(call["function"]["arguments"] for call in calls[1:3]) == '{"city":"Zürich"}'
    assert calls[3] == begun | {"index": 1, "id": second, "function": {"name": "now", "arguments": ""}}
    assert calls[4] == {"index": 1, "function": {"arguments": "{}"}}


def test_a_call_alone_begins_the_stream() -> None:
    first = deltas(MESSAGES["call"])[0]
    assert (first["role"], first["content"], len(first["tool_calls"])) == ("assistant", None, 1)


def test_arguments_that_came_with_the_first_event_are_not_lost() -> None:
    events = fake.events(MESSAGES["call"])
    events = [event for event in events if event.get("delta", {}).get("type") != "input_json_delta"]
    events[2]["content_block"]["input"] = {"city": "Zürich"}
    arguments = [
        call["function"]["arguments"]
        for chunk in chunks(*map(fake.frame, events))
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert arguments == ["", '{"city":"Zürich"}']


def test_what_is_new_to_us_is_ignored() -> None:
    new: list[dict[str, Any]] = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "server_tool_use", "id": "x", "name": "y"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "hum_delta", "hum": "m"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "something_else", "message": {"content": None}},
        {"type": "something_odd", "message": "in words", "index": None},
    ]
    events = fake.events(MESSAGES["text"])
    found = chunks(*map(fake.frame, [*events[:2], *new, *events[2:]]))
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in found) == fake.TEXT


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_the_chunks_are_the_same_wherever_the_bytes_are_cut(kind: str, data: st.DataObject) -> None:
    stream = b"".join(fake.frames(MESSAGES[kind]))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=40).map(sorted))
    parts = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    assert chunks(*parts) == chunks(stream)


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_chunks_are_the_same_byte_by_byte(kind: str) -> None:
    stream = b"".join(fake.frames(MESSAGES[kind]))
    assert chunks(*(bytes([byte]) for byte in stream)) == chunks(stream)


@given(st.lists(st.sampled_from(fake.frames(CALLS)) | st.binary(max_size=30)))
def test_garbage_raises_nothing_else(parts: list[bytes]) -> None:
    reader = adapter().stream(parse())
    try:
        for part in [*parts, b"\n\n"]:
            for chunk in reader.feed(part):
                assert chunk.choices
        list(reader.finish())
    except (BadAnswer, UpstreamStreamError):
        pass


def test_an_error_comes_after_what_was_before_it() -> None:
    error = fake.frame({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    before = fake.frames(MESSAGES["text"])[:5]  # the start, a ping, the block's start, two deltas
    found = adapter().stream(parse()).feed(b"".join([*before, error]))
    assert len([next(found) for _ in range(3)]) == 3
    with pytest.raises(UpstreamStreamError, match="Overloaded"):
        next(found)


def test_nothing_is_said_before_a_block_begins() -> None:
    assert list(adapter().stream(parse()).feed(b"".join(fake.frames(MESSAGES["text"])[:2]))) == []


def test_a_message_that_stops_without_a_reason_is_broken() -> None:
    frames = fake.frames(MESSAGES["text"])
    with pytest.raises(BadAnswer):
        list(adapter().stream(parse()).feed(b"".join([*frames[:-2], frames[-1]])))


@pytest.mark.parametrize("data", [b"{", b'"text"', b'{"type": "message_delta", "delta": 1}', b'{"index": "x"}'])
def test_events_that_make_no_sense_are_no_answer(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        list(adapter().stream(parse()).feed(b"data: %b\n\n" % data))


def test_calls_without_end_are_cut_off() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "x", "input": {}}
    frames = [
        fake.frame({"type": "content_block_start", "index": index, "content_block": block}) for index in range(200)
    ]
    with pytest.raises(BadAnswer):
        list(adapter().stream(parse()).feed(b"".join(frames)))


# Refusals


@pytest.mark.parametrize(
    ("status", "kind", "message", "blame"),
    [
        (400, "invalid_request_error", "messages: at least one message is required", Blame.CALLER),
        (413, "request_too_large", "Request exceeds the maximum size", Blame.CALLER),
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", Blame.PROVIDER),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", Blame.PROVIDER),
        (400, "invalid_request_error", "tools.0.name: Your credit balance is too low", Blame.CALLER),
        (401, "authentication_error", "invalid x-api-key", Blame.PROVIDER),
        (402, "billing_error", "Pay", Blame.PROVIDER),
        (403, "permission_error", "No", Blame.PROVIDER),
        (404, "not_found_error", "model: claude-0", Blame.PROVIDER),
        (429, "rate_limit_error", "Slow down", Blame.LIMIT),
        (500, "api_error", "Internal server error", Blame.PROVIDER),
        (529, "overloaded_error", "Overloaded", Blame.PROVIDER),
    ],
)
def test_whose_fault_a_refusal_is(status: int, kind: str, message: str, blame: Blame) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    refusal = adapter().refusal(status, b"3", body)
    assert (refusal.blame, refusal.message, refusal.retry_after_s) == (blame, message, 3.0)


def test_a_refusal_in_other_words() -> None:
    refusal = adapter().refusal(502, None, b"<html>Bad gateway</html>")
    assert (refusal.blame, refusal.message, refusal.retry_after_s) == (Blame.PROVIDER, "", None)


def test_the_list_of_models() -> None:
    assert adapter().read_listing(b'{"data": [{"type": "model", "id": "claude-opus-5-5"}], "has_more": false}') == [
        "claude-opus-5-5"
    ]
    with pytest.raises(BadAnswer):
        adapter().read_listing(b"<html>")


def test_tools_offered_beside_functions_are_answered_as_tools() -> None:
    changes = {"functions": [{"name": "now"}], "tools": [function()]}
    assert "tool_calls" in whole(MESSAGES["call"], **changes)["choices"][0]["message"]
