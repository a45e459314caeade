"""Answers of Converse, whole and streamed, read as OpenAI's: the same however the bytes arrive."""

import json
import struct
import zlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.answers import MAX_SAID, BadAnswer, Throttled, UpstreamStreamError
from inference.assembly import Assembler
from inference.providers.bedrock_answers import MAX_CALLS, MAX_MESSAGE, ConverseReader, read_answer
from tests.fakes import aws, bedrock
from tests.fakes.bedrock import ARGUMENTS, TEXT, THOUGHT, encoded, events

TEXT_STREAM = b"".join(encoded(events()))
TOOL_STREAM = b"".join(encoded(events("weather")))


def read(*parts: bytes, single_call: bool = False) -> tuple[list[Any], ConverseReader]:
    reader = ConverseReader(single_call=single_call)
    chunks = [chunk for part in parts for chunk in reader.feed(part)]
    return [*chunks, *reader.finish()], reader


def assembled(*parts: bytes, single_call: bool = False) -> Any:
    assembler = Assembler()
    for chunk in read(*parts, single_call=single_call)[0]:
        assembler.add(chunk)
    return json.loads(assembler.result(id="id", created=1, model="m")[0])


def broken(*parts: bytes) -> list[Any]:
    """What came before these bytes stopped making sense."""
    reader = ConverseReader(single_call=False)
    chunks: list[Any] = []
    with pytest.raises(BadAnswer):
        chunks.extend(chunk for part in parts for chunk in reader.feed(part))
    return chunks


def stop(reason: str = "end_turn") -> bytes:
    return aws.event("messageStop", {"stopReason": reason})


def block(index: int, start: dict[str, Any] | None = None, *deltas: dict[str, Any], ends: bool = True) -> bytes:
    made = [aws.event("contentBlockStart", {"contentBlockIndex": index, "start": start})] if start else []
    made += [aws.event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
    return b"".join(made) + (aws.event("contentBlockStop", {"contentBlockIndex": index}) if ends else b"")


def call(index: int, *pieces: str, name: str = "f") -> bytes:
    start = {"toolUse": {"toolUseId": f"tooluse_{index}", "name": name}}
    return block(index, start, *({"toolUse": {"input": piece}} for piece in pieces))


def body(**changes) -> bytes:
    return json.dumps(bedrock.converse(**changes), ensure_ascii=False).encode()


def whole(data: bytes, *, single_call: bool = False) -> Any:
    return msgspec.to_builtins(read_answer(data, single_call=single_call))


# Streams


def test_a_stream_of_text():
    chunks, reader = read(TEXT_STREAM)
    assert reader.done
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk for chunk in chunks[1:] if chunk.choices and chunk.choices[0].delta.role == "assistant"] == []
    answer = assembled(TEXT_STREAM)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT}
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_usage_counts_what_the_cache_gave_and_took():
    assert assembled(TEXT_STREAM)["usage"] == {
        "prompt_tokens": 27,
        "completion_tokens": 12,
        "total_tokens": 39,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    }


def test_a_stream_with_a_call():
    choice = assembled(TOOL_STREAM)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None or choice["message"]["content"] == ""
    function = {"name": "weather", "arguments": "".join(ARGUMENTS)}
    assert choice["message"]["tool_calls"] == [{"id": "tooluse_1", "type": "function", "function": function}]


def test_several_calls_are_counted_from_zero_and_never_lack_arguments():
    stream = block(0, None, {"text": "Let me see."}) + call(1, "{", "}") + call(2) + call(5, "") + stop("tool_use")
    chunks, _ = read(stream)
    assert [call.index for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()][-1] == 2
    calls = assembled(stream)["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        ("tooluse_1", "{}"),
        ("tooluse_2", "{}"),
        ("tooluse_5", "{}"),
    ]


def test_one_call_at_a_time_where_that_was_asked():
    stream = call(0, '{"a": 1}') + call(1, '{"b": 2}') + stop("tool_use")
    calls = assembled(stream, single_call=True)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"a": 1}']


def test_the_same_chunks_wherever_the_bytes_are_cut():
    for stream in (TEXT_STREAM, TOOL_STREAM):
        expected = read(stream)[0]
        assert read(*(stream[at : at + 1] for at in range(len(stream))))[0] == expected
        for at in range(len(stream)):
            chunks, reader = read(stream[:at], stream[at:])
            assert chunks == expected
            assert reader.done


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TOOL_STREAM))))
def test_the_same_chunks_in_any_pieces(cuts):
    ends = [*sorted(cuts), len(TOOL_STREAM)]
    parts = [TOOL_STREAM[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read(*parts)[0] == read(TOOL_STREAM)[0]


def test_it_is_done_only_once_the_usage_came():
    parts = encoded(events())
    reader = ConverseReader(single_call=False)
    for part in parts[:-1]:
        list(reader.feed(part))
        assert not reader.done
    [last] = reader.feed(parts[-1] + b"whatever comes after")
    assert last.usage is not None
    assert reader.done


def test_usage_alone_completes_nothing():
    chunks, reader = read(aws.event("metadata", {"usage": bedrock.USAGE}))
    assert len(chunks) == 1
    assert not reader.done


def test_a_stream_without_usage_is_complete_with_its_reason_to_stop():
    chunks, reader = read(b"".join(encoded(events())[:-1]))
    assert not reader.done
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_nobody_speaks_before_there_is_something_to_say():
    assert read(aws.event("messageStart", {"role": "assistant"}))[0] == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_why_it_stopped(said, reason):
    assert read(stop(said))[0][0].choices[0].finish_reason == reason
    content = b'{"output":{"message":{"role":"assistant","content":[{"text":"Hi"}]}},"stopReason":"%b"}'
    assert whole(content % said.encode())["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("said", ["malformed_tool_use", "malformed_model_output"])
def test_a_model_that_failed_is_a_failure(said):
    with pytest.raises(UpstreamStreamError):
        read(stop(said))
    with pytest.raises(UpstreamStreamError):
        whole(body(stopReason=said))


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (aws.exception("throttlingException", "Too many requests"), "throttlingException: Too many requests"),
        (aws.exception("modelStreamErrorException", "x" * 9999), "modelStreamErrorException: xxx"),
        (aws.message({":message-type": "exception", ":exception-type": "a"}, b"not json"), "a: "),
        (aws.message({":message-type": "error", ":error-code": "500", ":error-message": "Oh"}, b""), "500: Oh"),
        (aws.message({}, b"{}"), "unknown error"),
    ],
)
def test_failures_in_a_stream_come_after_what_was_good(failure, told):
    reader = ConverseReader(single_call=False)
    stream: Any = reader.feed(block(0, None, {"text": "Good"}) + failure)
    assert next(stream).choices[0].delta.content == "Good"
    with pytest.raises(UpstreamStreamError) as raised:
        next(stream)
    assert str(raised.value).startswith(told)
    assert len(str(raised.value)) <= MAX_SAID


def test_throttling_is_told_from_failures():
    said = aws.message({":message-type": "exception", ":exception-type": "throttlingException"}, b"{}")
    with pytest.raises(Throttled):
        list(ConverseReader(single_call=False).feed(said))


def test_events_and_blocks_unknown_to_us_are_passed_over():
    odd = [
        aws.event("somethingNew", {"contentBlockIndex": "odd"}),
        block(0, {"image": {"format": "png"}}, {"image": {"source": {"bytes": "AA=="}}}),
        block(1, None, {"citation": {"title": "t"}}, {"reasoningContent": {"redactedContent": "AA=="}}),
        block(2, None, {"toolUse": {"input": "of a call that never began"}}),
        aws.event("contentBlockDelta", {"contentBlockIndex": 3}),
    ]
    assert read(*odd)[0] == []


# Streams that make no sense


def test_a_flipped_bit_anywhere_is_never_taken_for_an_answer():
    stream = block(0, None, {"text": "Hello"}, ends=False)
    for at in range(len(stream) * 8):
        flipped = bytearray(stream)
        flipped[at // 8] ^= 1 << at % 8
        reader = ConverseReader(single_call=False)
        with suppress(BadAnswer):
            assert list(reader.feed(bytes(flipped))) == []
        assert not reader.done


def test_a_broken_message_comes_after_what_was_good():
    good = block(0, None, {"text": "Good"}, ends=False)
    assert [chunk.choices[0].delta.content for chunk in broken(good + good[:-1] + b"\x00")] == ["Good"]


def prelude(length: int, headers: int) -> bytes:
    lengths = struct.pack(">II", length, headers)
    return lengths + struct.pack(">I", zlib.crc32(lengths))


@pytest.mark.parametrize(
    ("length", "headers"),
    [(MAX_MESSAGE + 1, 0), (2**32 - 1, 0), (0, 0), (15, 0), (16, 1), (9999, 5000)],
)
def test_impossible_lengths_are_not_waited_for(length, headers):
    broken(prelude(length, headers))


def test_the_longest_message_is_taken_and_nothing_longer():
    empty = len(aws.event("contentBlockDelta", {"delta": {"text": ""}}))
    longest = aws.event("contentBlockDelta", {"delta": {"text": "x" * (MAX_MESSAGE - empty)}})
    assert len(longest) == MAX_MESSAGE
    assert len(read(longest)[0][0].choices[0].delta.content) == MAX_MESSAGE - empty
    broken(aws.event("contentBlockDelta", {"delta": {"text": "x" * (MAX_MESSAGE - empty + 1)}}))


@pytest.mark.parametrize("garbage", [b"<html>It works!</html>", b"data: [DONE]\n\n", b'{"message":"no"}', b"\xff" * 20])
def test_what_is_no_event_stream_is_noticed_at_once(garbage):
    broken(garbage)


@pytest.mark.parametrize(
    "header", [b"\x01", b"\x01a", b"\x01a\x63", b"\x01a\x07\xff", b"\x01\xff\x00", b"\x01a\x04\x00"]
)
def test_headers_that_make_no_sense(header):
    lengths = prelude(16 + len(header), len(header))
    data = lengths + header
    broken(data + struct.pack(">I", zlib.crc32(data)))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"not json", b'{"delta": 1}', b'{"delta":{"text":"\xff"}}', b"[" * 99999]
)
def test_payloads_that_make_no_sense(payload):
    broken(aws.message({":message-type": "event", ":event-type": "contentBlockDelta"}, payload))


def test_calls_without_end_are_stopped():
    assert len(broken(b"".join(call(number) for number in range(MAX_CALLS + 1)))) == 2 * MAX_CALLS


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_chunks_or_a_bad_answer(data):
    with suppress(BadAnswer, UpstreamStreamError):
        read(data)


# Whole answers


def test_a_whole_answer():
    found = whole(body())
    message = found["choices"][0]["message"]
    assert message == {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT}
    assert found["usage"]["prompt_tokens"] == 27
    assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 3}


def test_a_whole_answer_with_calls():
    made = {"toolUseId": "a", "name": "f", "input": {"n": 12345678901234567890}}
    answer = {"message": {"role": "assistant", "content": [{"toolUse": made}, {"toolUse": made | {"input": {}}}]}}
    found = whole(body(output=answer, stopReason="tool_use"))["choices"][0]
    assert found["message"]["content"] is None
    arguments = [call["function"]["arguments"] for call in found["message"]["tool_calls"]]
    assert [json.loads(text) for text in arguments] == [{"n": 12345678901234567890}, {}]
    alone = whole(body(output=answer), single_call=True)["choices"][0]["message"]["tool_calls"]
    assert len(alone) == 1


def test_a_cited_answer_keeps_its_text():
    cited = {"citationsContent": {"content": [{"text": "As it "}, {"text": "says."}], "citations": []}}
    answer = {"message": {"role": "assistant", "content": [cited, {"image": {"format": "png"}}]}}
    assert whole(body(output=answer))["choices"][0]["message"]["content"] == "As it says."


def test_an_answer_of_nothing_is_empty():
    found = whole(body(output={"message": {"role": "assistant", "content": []}}))
    assert found["choices"][0]["message"]["content"] == ""


BAD_UTF8 = (
    b'{"output":{"message":{"content":[{"toolUse":{"toolUseId":"a","name":"f","input":{"\xff":1}}}]}},"stopReason":""}'
)
BAD_CONTENT = b'{"output":{"message":{"content":7}},"stopReason":"end_turn"}'


@pytest.mark.parametrize("data", [b"", b"{}", b"<html>", b'{"message": "no"}', b"[" * 9999, BAD_CONTENT, BAD_UTF8])
def test_whole_answers_that_make_no_sense(data):
    with pytest.raises(BadAnswer):
        whole(data)
