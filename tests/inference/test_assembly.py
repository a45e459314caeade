"""A whole answer out of the chunks of a stream."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from inference.answers import read_answer, read_chunk
from inference.assembly import Assembler
from inference.completions import BadAnswer, UpstreamStreamError, Usage, rewrite_completion

OURS: dict[str, Any] = {"id": "chatcmpl-ours", "created": 1677652288, "model": "gpt-3.5-turbo"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}


def chunk(delta: Any = None, finish_reason: str | None = None, *, index: int = 0, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason, **choice}]}


def assemble(*chunks: Any) -> tuple[dict[str, Any], Usage | None]:
    assembler = Assembler()
    for payload in chunks:
        assembler.add(read_chunk(json.dumps(payload).encode()))
    body, usage, _ = assembler.result(**OURS)
    ChatCompletion.model_validate_json(body)
    return json.loads(body), usage


def message_of(*deltas: Any) -> Any:
    body, _ = assemble(*[chunk(delta) for delta in deltas], chunk({}, "stop"))
    return body["choices"][0]["message"]


def test_the_whole_answer_is_the_one_that_was_not_streamed():
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
        "usage": USAGE,
        "system_fingerprint": "fp_1",
    }
    assembler = Assembler()
    for payload in (
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}) | {"system_fingerprint": "fp_1", "timings": {}},
        chunk({"content": "lo!"}),
        chunk({}, "stop"),
        {"choices": [], "usage": USAGE},
    ):
        assert not assembler.finished or payload.get("usage")
        assembler.add(read_chunk(json.dumps(payload).encode()))
    assert assembler.finished
    assert assembler.result(**OURS) == rewrite_completion(read_answer(json.dumps(whole).encode()), **OURS)


def test_usage_is_the_last_that_was_seen():
    _, usage = assemble(chunk({"content": "a"}) | {"usage": USAGE | {"total_tokens": 1}}, chunk({}, "stop"))
    assert usage == Usage(9, 12, 1)
    body, usage = assemble(chunk({"content": "a"}, "stop"))
    assert usage is None
    assert "usage" not in body


def test_tool_calls_are_merged_by_their_index():
    deltas = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 1, "id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "f"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}, {"index": 1, "function": {"arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    ]
    assert message_of(*deltas) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_custom_tool_calls_are_merged_too():
    first = {"index": 0, "id": "call_a", "type": "custom", "custom": {"name": "g", "input": "a"}}
    message = message_of({"tool_calls": [first]}, {"tool_calls": [{"index": 0, "custom": {"input": "b"}}]})
    assert message["tool_calls"] == [{"id": "call_a", "type": "custom", "custom": {"name": "g", "input": "ab"}}]


def test_a_call_without_an_id_gets_one_that_can_be_sent_back():
    message = message_of({"content": ""}, {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})
    assert message["tool_calls"][0]["id"] == "call_0"
    assert message["content"] is None


def test_the_other_texts_are_joined():
    citation = {"url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    message = message_of(
        {"reasoning_content": "h", "refusal": "n"},
        {"reasoning_content": "m", "refusal": "o"},
        {"function_call": {"name": "f", "arguments": "{"}},
        {"function_call": {"arguments": "}"}},
        {"audio": {"id": "a", "transcript": "he"}},
        {"audio": {"data": "AA", "expires_at": 5, "transcript": "y"}},
        {"audio": {"data": "BB"}},
        {"annotations": [citation | {"type": "url_citation"}]},
        {"annotations": [citation | {"type": "url_citation"}]},
    )
    assert message == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "refusal": "no",
        "function_call": {"name": "f", "arguments": "{}"},
        "annotations": [citation | {"type": "url_citation"}] * 2,
        "audio": {"id": "a", "data": "AABB", "expires_at": 5, "transcript": "hey"},
    }


def test_logprobs_are_joined():
    tokens: list[dict[str, Any]] = [
        {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []} for token in "ab"
    ]
    chunks = [chunk({"content": token["token"]}, logprobs={"content": [token]}) for token in tokens]
    body, _ = assemble(*chunks, chunk({}, "stop", logprobs=None))
    assert body["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}


def test_choices_are_kept_apart_and_sorted():
    chunks = [chunk({"content": text}, index=index) for index, text in [(1, "b"), (0, "a"), (1, "B"), (0, "A")]]
    body, _ = assemble(*chunks, chunk({}, "length", index=1), chunk({}, "stop"))
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [
        (0, "aA", "stop"),
        (1, "bB", "length"),
    ]


def test_it_is_finished_when_every_choice_is():
    assembler = Assembler()
    assert not assembler.finished
    for payload in (chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop")):
        assembler.add(read_chunk(json.dumps(payload).encode()))
        assert not assembler.finished
    assembler.add(read_chunk(json.dumps(chunk({}, "stop", index=1)).encode()))
    assert assembler.finished


def test_an_answer_without_choices_makes_no_sense():
    with pytest.raises(BadAnswer):
        assemble()
    with pytest.raises(BadAnswer):
        assemble({"choices": [], "usage": USAGE})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"[DONE]", b'{"choices": [{"delta": {"content": 1}}]}'])
def test_a_chunk_that_makes_no_sense_is_refused(data):
    with pytest.raises(BadAnswer):
        Assembler().add(read_chunk(data))


def test_an_error_in_the_stream_is_raised():
    with pytest.raises(UpstreamStreamError, match="out of memory"):
        Assembler().add(read_chunk(b'{"error": {"message": "out of memory"}}'))


@pytest.mark.parametrize("choice", [{"index": 128}, {"index": -1}, {"delta": {"tool_calls": [{"index": 10**6}]}}])
def test_an_upstream_cannot_make_up_indexes_without_end(choice):
    with pytest.raises(BadAnswer):
        Assembler().add(read_chunk(json.dumps({"choices": [choice]}).encode()))
