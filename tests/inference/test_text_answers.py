"""Reading an upstream's text completions, whole and in chunks, and putting chunks together."""

import json
from typing import Any

import pytest

from inference.answers import BadAnswer, UpstreamStreamError, Usage
from inference.text_answers import ChunkReading, TextAssembler, read_completion, rewrite_completion

OURS: dict[str, Any] = {"id": "cmpl-1", "created": 1, "model": "m"}
LOGPROBS: dict[str, list[Any]] = {
    "text_offset": [0, 2],
    "token_logprobs": [None, -0.5],
    "tokens": ["ab", "c"],
    "top_logprobs": [None, {"c": -0.5, "d": -1.5}],
}


def estimate(chars):
    return Usage(1, chars, chars + 1)


def read(**choice):
    return read_completion(json.dumps({"choices": [choice]}).encode()).choices[0]


def rewritten(answer):
    body, *_ = rewrite_completion(read_completion(json.dumps(answer).encode()), **OURS, estimate=estimate)
    return json.loads(body)


def assembled(*chunks):
    reading, assembler = ChunkReading(), TextAssembler()
    for chunk in chunks:
        assembler.add(reading.read(json.dumps(chunk).encode()))
    return json.loads(assembler.result(**OURS, estimate=estimate)[0])


def test_an_answer_is_written_as_openai_prints_it():
    choice = {"text": "abc", "index": 0, "logprobs": LOGPROBS, "finish_reason": "length"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer = {"choices": [choice], "usage": usage, "system_fingerprint": "fp", "timings": {}, "model": "/srv/x"}
    assert rewritten(answer) == OURS | {
        "object": "text_completion",
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": "fp",
    }


def test_what_is_missing_has_its_usual_value():
    choice = read(text=None)
    assert (choice.text, choice.index, choice.finish_reason) == ("", 0, "stop")
    assert read(text="x", finish_reason="max_tokens").finish_reason == "length"


def test_logprobs_in_the_shape_of_chat_s_become_openai_s():
    content = [
        {"token": "ab", "logprob": -0.25, "bytes": [97, 98], "top_logprobs": []},
        {"id": 7, "token": "c", "logprob": -0.5, "top_logprobs": [{"token": "c", "logprob": -0.5}]},
    ]
    logprobs = read(text="abc", logprobs={"content": content}).logprobs
    assert (logprobs.tokens, logprobs.token_logprobs) == (["ab", "c"], [-0.25, -0.5])
    assert (logprobs.text_offset, logprobs.top_logprobs) == ([0, 2], [{}, {"c": -0.5}])


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{"text": 1}]},
        {"choices": [{"text": "", "index": -1}]},
        {"choices": [{"text": "", "index": 2048 * 16}]},
        {"choices": [{"text": "", "logprobs": {"tokens": "ab"}}]},
        [],
        None,
    ],
)
def test_what_makes_no_sense_is_a_bad_answer(answer):
    with pytest.raises(BadAnswer):
        read_completion(json.dumps(answer).encode())


def test_an_error_in_its_place_is_the_upstream_s():
    with pytest.raises(UpstreamStreamError, match="out of memory"):
        read_completion(b'{"error": {"message": "out of memory"}}')
    with pytest.raises(UpstreamStreamError):
        ChunkReading().read(b'{"error": "out of memory"}')


def test_chunks_make_the_answer_they_are_parts_of():
    first = {"text": "ab", "index": 0, "logprobs": {name: values[:1] for name, values in LOGPROBS.items()}}
    second = {"text": "c", "index": 0, "logprobs": {name: values[1:] for name, values in LOGPROBS.items()}}
    other = {"text": "x", "index": 1, "finish_reason": "stop"}
    end = {"text": "", "index": 0, "finish_reason": "length"}
    answer = assembled(*({"choices": [each]} for each in (first, other, second, end)))
    assert answer["choices"] == [
        {"text": "abc", "index": 0, "logprobs": LOGPROBS, "finish_reason": "length"},
        {"text": "x", "index": 1, "logprobs": None, "finish_reason": "stop"},
    ]
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}


def test_offsets_in_chunks_count_from_the_beginning_of_the_text():
    def chunk(text):
        content = [{"token": text, "logprob": -1.0}]
        return {"choices": [{"text": text, "logprobs": {"content": content}}]}

    answer = assembled(chunk("ab"), chunk("cde"), chunk("f"))
    assert answer["choices"][0]["logprobs"]["text_offset"] == [0, 2, 5]


def test_usage_that_comes_alone_is_the_whole():
    done = {"text": "", "finish_reason": "stop"}
    part = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = [{"choices": [done | {"index": index}], "usage": part} for index in range(2)]
    assert assembled(*chunks)["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert assembled(*chunks, {"choices": [], "usage": whole})["usage"] == whole


def test_usage_that_runs_along_is_not_added_up():
    chunks = [
        {"choices": [{"text": "x", "index": 0}], "usage": {"prompt_tokens": 1, "completion_tokens": count}}
        for count in (1, 2, 3)
    ]
    assert assembled(*chunks)["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}


def test_a_stream_without_choices_makes_no_answer():
    with pytest.raises(BadAnswer):
        TextAssembler().result(**OURS, estimate=estimate)
