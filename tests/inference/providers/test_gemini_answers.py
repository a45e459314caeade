"""How Gemini's answers are read: however the bytes arrive, and whatever they are."""

import contextlib
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import sse
from inference.answers import BadAnswer, Chunk, UpstreamStreamError
from inference.assembly import Assembler
from inference.providers import gemini_answers
from inference.schemas import ChatRequest
from tests.fakes.gemini import Gemini, candidate, checked, frame
from tests.inference.chat_bodies import parse

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]
SENT = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {}}
THINKING = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
DECLARED = {"tools": [{"functionDeclarations": [{"name": "one"}, {"name": "two"}]}]}


def reader(**changes: Any) -> Any:
    return gemini_answers.PieceReader(parse(**changes), mark="mark")


def plain(chunks: list[Chunk]) -> Any:
    """Without the ids, which are new each time."""
    found = msgspec.to_builtins(chunks)
    for chunk in found:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", []):
                assert call.pop("id").startswith("call_")
    return found


def read_in(parts: list[bytes], **changes: Any) -> Any:
    fresh = reader(**changes)
    chunks = [chunk for part in parts for chunk in fresh.feed(part)]
    return plain([*chunks, *fresh.finish()])


def whole(answer: object, request: ChatRequest | None = None) -> Any:
    return gemini_answers.read_answer(request or parse(), json.dumps(answer, ensure_ascii=False).encode(), mark="mark")


@pytest.fixture(scope="module")
def pieces() -> list[dict[str, Any]]:
    """Of an answer with text and of one with calls."""
    fake = Gemini()
    try:
        return fake.pieces(SENT | THINKING) + fake.pieces(SENT | DECLARED)
    finally:
        fake._listener.close()


def test_a_stream_cut_at_any_byte_reads_the_same(pieces):
    data = b"".join(frame(piece) for piece in pieces)
    expected = read_in([data])
    assert len(expected) > 10
    for cut in range(1, len(data)):
        assert read_in([data[:cut], data[cut:]]) == expected


@settings(deadline=None)
@given(st.data())
def test_a_stream_cut_many_times_reads_the_same(data):
    fake_pieces = [
        candidate({"text": "Grüße\u2028 🌍"}),
        candidate({"text": "", "thought": True}),
        candidate(reason="STOP"),
    ]
    stream = b"".join(frame(piece) for piece in fake_pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read_in(parts) == read_in([stream])


def test_a_last_piece_without_its_blank_line_is_read():
    data = frame(candidate({"text": "Hi"}, reason="STOP")).rstrip()
    fresh = reader()
    assert list(fresh.feed(data)) == []
    [chunk] = fresh.finish()
    assert (chunk.choices[0].delta.content, chunk.choices[0].finish_reason) == ("Hi", "stop")


NAMES = ["candidates", "content", "parts", "text", "functionCall", "name", "args", "index", "finishReason", "error"]
NAMES += ["usageMetadata", "promptTokenCount", "promptFeedback", "blockReason", "logprobsResult", "chosenCandidates"]
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.binary(max_size=200) | nonsense.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_an_answer_or_a_known_error(data):
    line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    with contextlib.suppress(BadAnswer, UpstreamStreamError):
        msgspec.json.encode(gemini_answers.read_answer(parse(), data, mark="mark"))
    with contextlib.suppress(BadAnswer, UpstreamStreamError):
        msgspec.json.encode(read_in([b"data: %b\n\n" % line]))


def test_an_endless_line_is_cut_off():
    fresh = reader()
    with pytest.raises(sse.LineTooLong):
        list(itertools.chain.from_iterable(fresh.feed(b"data: " + b"x" * 65536) for _ in range(100)))


def test_a_stream_and_a_whole_answer_say_the_same():
    fake = Gemini()
    fake._listener.close()
    request = parse(tools=TOOLS)
    assembler = Assembler()
    fresh = gemini_answers.PieceReader(request, mark="mark")
    for piece in fake.pieces(SENT | DECLARED):
        for chunk in fresh.feed(frame(piece)):
            assembler.add(chunk)
    usage: Any
    body, usage, reported = assembler.result(id="x", created=1, model="m")
    [streamed] = json.loads(body)["choices"]
    [choice] = msgspec.to_builtins(whole(fake.whole(SENT | DECLARED)).choices)
    for each in (streamed, choice):
        for call in each["message"]["tool_calls"]:
            del call["id"]
    assert streamed == choice
    assert (reported, usage.total_tokens, usage.completion_tokens) == (True, 26, 17)


def test_usage_counts_what_was_thought_heard_and_kept():
    counts = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 40,
        "totalTokenCount": 155,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 80}, {"modality": "AUDIO", "tokenCount": 20}],
    }
    usage = whole(checked(candidate({"text": "x"}, reason="STOP") | {"usageMetadata": counts})).usage.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (105, 50, 155)
    assert usage.completion_tokens_details.reasoning_tokens == 30
    assert (usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens_details.audio_tokens) == (40, 20)


def test_an_answer_without_counts_reports_none():
    assert whole(candidate({"text": "x"}, reason="STOP")).usage is None
    assert whole(candidate({"text": "x"}, reason="STOP") | {"usageMetadata": {}}).usage is None


def test_log_probabilities_come_through():
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 7, "logProbability": -0.5}],
        "topCandidates": [
            {"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -1}]}
        ],
    }
    answer = candidate({"text": "é"}, reason="STOP", logprobsResult=result)
    [token] = msgspec.to_builtins(whole(answer).choices[0].logprobs)["content"]
    assert token == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "e", "logprob": -1, "bytes": [101]},
        ],
    }
    [chunk] = read_in([frame(answer)])
    assert chunk["choices"][0]["logprobs"]["content"] == [token]


def test_arguments_keep_their_numbers_and_lose_their_indentation():
    body = b"""{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {
        "large": 12345678901234567890123, "exact": 1.10
    }}}]}, "finishReason": "STOP"}]}"""
    answer: Any = gemini_answers.read_answer(parse(), body, mark="mark")
    [choice] = answer.choices
    assert choice.message.tool_calls[0].function.arguments == '{"large":12345678901234567890123,"exact":1.10}'
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


@pytest.mark.parametrize("call", [{"name": "f"}, {"name": "f", "args": None}, {"name": "f", "args": {}}])
def test_a_call_without_arguments_has_none(call):
    [choice] = whole({"candidates": [{"content": {"parts": [{"functionCall": call}]}, "finishReason": "STOP"}]}).choices
    assert choice.message.tool_calls[0].function.arguments == "{}"


def test_a_call_that_was_cut_short_says_so():
    [choice] = whole(candidate({"functionCall": {"name": "f"}}, reason="MAX_TOKENS")).choices
    assert choice.finish_reason == "length"


def test_calls_in_several_pieces_are_told_apart():
    stream = [candidate({"functionCall": {"name": name}}) for name in ("one", "two")]
    chunks = read_in([frame(each) for each in [*stream, candidate(reason="STOP")]])
    assert [chunk["choices"][0]["delta"]["tool_calls"][0]["index"] for chunk in chunks[:2]] == [0, 1]
    assert chunks[2]["choices"][0]["finish_reason"] == "tool_calls"
    alone = read_in([frame(each) for each in stream], parallel_tool_calls=False)
    assert len(alone) == 1


def test_calls_without_end_are_no_answer():
    with pytest.raises(BadAnswer, match="too many"):
        whole(candidate(*[{"functionCall": {"name": "f"}}] * 129, reason="STOP"))


def test_candidates_of_one_stream_are_told_apart():
    first, second = candidate({"text": "a"}), candidate({"text": "b"}, index=1)
    ends = [candidate(reason="STOP", index=1), candidate(reason="SAFETY")]
    chunks = read_in([frame(each) for each in [first, second, *ends]])
    found = [(choice["index"], choice["finish_reason"]) for chunk in chunks for choice in chunk["choices"]]
    assert found == [(0, None), (1, None), (1, "stop"), (0, "content_filter")]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks] == ["assistant", "assistant", None, None]


def test_pieces_that_say_nothing_are_passed_over():
    nothing = [candidate({"text": ""}), {"modelVersion": "x"}, candidate({"text": "", "thoughtSignature": "c2ln"})]
    assert len(read_in([frame(each) for each in [candidate({"text": "a"}), *nothing]])) == 1


def test_an_answer_ends_once():
    chunks = read_in([frame(candidate({"text": text}, reason="STOP")) for text in ("a", "b", "")])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == ["stop", None]


def test_thoughts_are_told_from_the_answer():
    parts: list[dict[str, Any]] = [
        {"text": "Hm. ", "thought": True},
        {"text": "Yes"},
        {"text": "So. ", "thought": True},
    ]
    [choice] = whole(candidate(*parts, reason="STOP")).choices
    assert (choice.message.content, choice.message.reasoning_content) == ("Yes", "Hm. So. ")


def test_what_a_piece_says_of_a_failure_comes_after_what_was_good():
    chunks = reader().feed(frame(candidate({"text": "a"})) + frame({"error": {"message": "Overloaded"}}))
    assert next(chunks).choices[0].delta.content == "a"
    with pytest.raises(UpstreamStreamError, match="Overloaded"):
        next(chunks)
