"""What becomes of upstreams' answers: the shapes of the reference, and nothing of the upstream's own making."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.answers import MAX_SAID, read_answer, read_chunk
from inference.completions import BadAnswer, ChunkRewriter, UpstreamStreamError, Usage, rewrite_completion

OURS: dict[str, Any] = {"id": "chatcmpl-ours", "created": 1677652288, "model": "gpt-3.5-turbo"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
MESSAGE = {"role": "assistant", "content": "Hello! How can I help you today?"}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
LOGPROBS = {"content": [TOKEN | {"top_logprobs": [TOKEN]}], "refusal": None}
VENDORS = {
    "timings": {"predicted_ms": 3.5},
    "__verbose": {"prompt": "secret", "generation_settings": {"model": "/srv/models/x.gguf"}},
    "prompt_filter_results": [],
    "x_groq": {"id": "req_1"},
    "kv_transfer_params": None,
}


def upstream_answer(message: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message or MESSAGE, "finish_reason": "stop"}
    answer = {"id": "theirs", "object": "chat.completion", "created": 1, "model": "/srv/x.gguf", "choices": [choice]}
    return answer | {"usage": USAGE} | changes


def rewritten(answer: Any) -> dict[str, Any]:
    body, *_ = rewrite_completion(read_answer(json.dumps(answer).encode()), **OURS)
    ChatCompletion.model_validate_json(body)
    printed: dict[str, Any] = json.loads(body)
    return printed


def usage_of(usage: Any) -> Usage | None:
    return rewrite_completion(read_answer(json.dumps(upstream_answer(usage=usage)).encode()), **OURS)[1]


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    made = {"id": "theirs", "object": "chat.completion.chunk", "created": 1, "model": "x.gguf", "choices": [choice]}
    return made | changes


class Stream:
    """A rewriter that is fed objects and gives objects."""

    def __init__(self, *, include_usage: bool = False) -> None:
        self.rewriter = ChunkRewriter(**OURS, include_usage=include_usage)

    def __call__(self, payload: Any) -> Any:
        return self.read(self.rewriter.rewrite(read_chunk(json.dumps(payload).encode())))

    def finish(self) -> Any:
        return self.read(self.rewriter.finish())

    def started(self) -> bool:
        return self.rewriter.started

    def finished(self) -> bool:
        return self.rewriter.finished

    @staticmethod
    def read(frame: bytes | None) -> Any:
        if frame is None:
            return None
        assert frame.startswith(b"data: {")
        assert frame.endswith(b"}\n\n")
        assert frame.count(b"\n") == 2
        ChatCompletionChunk.model_validate_json(frame[6:])
        return json.loads(frame[6:])


# Whole answers


def test_an_answer_is_printed_as_the_reference_prints_it():
    body, usage, _ = rewrite_completion(read_answer(json.dumps(upstream_answer()).encode()), **OURS)
    assert body == (
        b'{"id":"chatcmpl-ours","object":"chat.completion","created":1677652288,"model":"gpt-3.5-turbo",'
        b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},'
        b'"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}'
    )
    assert usage == Usage(9, 12, 21)


def test_what_is_the_upstreams_own_does_not_leak():
    answer = upstream_answer(MESSAGE | VENDORS, usage=USAGE | VENDORS) | VENDORS
    answer["choices"][0] |= VENDORS
    assert rewritten(answer) == rewritten(upstream_answer())


def test_documented_fields_stay():
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "refusal": None,
        "tool_calls": [TOOL_CALL, {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "x"}}],
        "function_call": {"name": "f", "arguments": "{}"},
        "annotations": [
            {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
        ],
        "audio": {"id": "audio_1", "data": "AAAA", "expires_at": 1, "transcript": "hi"},
    }
    extra = {"service_tier": "default", "system_fingerprint": "fp_1"}
    body = rewritten(upstream_answer(message, **extra))
    assert body["choices"][0]["message"] == message
    assert {key: body[key] for key in extra} == extra


def test_a_null_content_stays_and_an_absent_one_is_null():
    for message in ({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, {"tool_calls": [TOOL_CALL]}):
        printed = rewritten(upstream_answer(message))["choices"][0]["message"]
        assert printed == {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}


@pytest.mark.parametrize("logprobs", [LOGPROBS, None])
def test_logprobs_stay(logprobs):
    answer = upstream_answer()
    answer["choices"][0]["logprobs"] = logprobs
    assert rewritten(answer)["choices"][0]["logprobs"] == logprobs


def test_several_choices_without_an_index_are_numbered():
    choices = [{"message": {"content": text}} for text in "ab"]
    body = rewritten(upstream_answer(choices=choices))
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [
        (0, "a", "stop"),
        (1, "b", "stop"),
    ]


def test_a_tool_call_gets_what_the_caller_must_send_back():
    body = rewritten(upstream_answer({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}))
    call = body["choices"][0]["message"]["tool_calls"][0]
    assert (call["id"], call["type"]) == ("call_0", "function")


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("function_call", "function_call"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("something else", "stop"),
        ("", "stop"),
        (None, "stop"),
    ],
)
def test_finish_reasons_are_openais(said, printed):
    answer = upstream_answer()
    answer["choices"][0]["finish_reason"] = said
    assert rewritten(answer)["choices"][0]["finish_reason"] == printed


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (USAGE, Usage(9, 12, 21)),
        ({"prompt_tokens": 9.0, "completion_tokens": 12, "total_tokens": None}, Usage(9, 12, 21)),
        ({"prompt_tokens": 9}, Usage(9, 0, 9)),
        (None, None),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        (USAGE | {"completion_tokens": -1}, None),
        (USAGE | {"completion_tokens": 2**63}, None),
        (USAGE | {"total_tokens": 1e300}, None),
    ],
)
def test_usage_is_read_with_tolerance_and_never_nonsense(reported, usage):
    assert usage_of(reported) == usage


def test_details_of_usage_stay():
    details = {
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": None},
    }
    assert rewritten(upstream_answer(usage=USAGE | details))["usage"] == USAGE | details
    usage = usage_of(USAGE | details)
    assert usage
    assert usage.prompt_tokens_details
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert rewritten(upstream_answer(usage=USAGE | dict.fromkeys(details)))["usage"] == USAGE


NO_SENSE = [
    b"",
    b"<html>502</html>",
    b"null",
    b"[]",
    b"{}",
    b'{"choices": null}',
    b'{"choices": {}}',
    b'{"choices": "x"}',
    b'{"choices": [null]}',
    b'{"choices": [{"index": "0", "message": {"content": "x"}, "delta": {}}]}',
    b'{"choices": [{"message": {"content": 5}, "delta": {"content": 5}}]}',
    b'{"choices": [{"message": {"content": "\xff"}, "delta": {"content": "\xff"}}]}',
    b'{"choices": [{"message": {"content": "\\ud800 "}, "delta": {"content": "\\ud800 "}}]}',
    b'{"choices": [{"message": {}, "delta": {}}], "usage": "many"}',
    b'{"choices": [{"message": {}, "delta": {}}], "moderation": ' + b'{"a":' * 100_000,
    b'{"choices": [{"message": {"content": "x"}',
]


@pytest.mark.parametrize("body", [*NO_SENSE, b'{"choices": []}', b'{"choices": [{"index": 0}]}'])
def test_an_answer_that_makes_no_sense_is_said_to_be_one(body):
    with pytest.raises(BadAnswer):
        read_answer(body)


FAILURES = [
    ({"error": {"message": "out of memory", "code": 500}}, "out of memory"),
    ({"error": "out of memory"}, "out of memory"),
    ({"error": {"code": 500}}, "the upstream reported an error"),
    ({"error": {"message": "x" * 90_000}}, "x" * MAX_SAID),
    ({"error": ["a"], "choices": []}, "the upstream reported an error"),
]


@pytest.mark.parametrize(("payload", "message"), FAILURES)
def test_an_error_in_place_of_an_answer_is_raised_with_its_message(payload, message):
    for read in (read_answer, read_chunk):
        with pytest.raises(UpstreamStreamError) as caught:
            read(json.dumps(payload).encode())
        assert str(caught.value) == message


# Streams


def test_a_chunk_is_printed_as_the_reference_prints_it():
    rewriter = ChunkRewriter(**OURS, include_usage=False)
    assert rewriter.rewrite(read_chunk(json.dumps(chunk({"content": "Hello"})).encode())) == (
        b'data: {"id":"chatcmpl-ours","object":"chat.completion.chunk","created":1677652288,"model":"gpt-3.5-turbo",'
        b'"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
    )


def test_a_stream_without_usage_asked_shows_none_and_records_it():
    stream = Stream()
    assert not stream.started()
    assert "usage" not in stream(chunk({"role": "assistant", "content": ""}))
    assert stream.started()
    assert "usage" not in stream(chunk({"content": "Hi"}))
    assert not stream.finished()
    assert "usage" not in stream(chunk({}, "stop"))
    assert stream.finished()
    assert stream(chunk(choices=[], usage=USAGE)) is None
    assert stream.finish() is None
    assert stream.rewriter.usage == Usage(9, 12, 21)
    assert stream.rewriter.finish_reasons == {0: "stop"}


def test_usage_that_was_asked_comes_once_in_a_chunk_of_its_own():
    stream = Stream(include_usage=True)
    assert stream(chunk({"content": "Hi"}))["usage"] is None
    assert stream(chunk({}, "stop"))["usage"] is None
    last = stream(chunk(choices=[], usage=USAGE))
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert stream.finish() is None
    assert stream(chunk(choices=[], usage=USAGE)) is None


def test_usage_on_the_last_chunk_of_content_is_sent_at_the_end():
    stream = Stream(include_usage=True)
    assert stream(chunk({"content": "Hi"}, "stop", usage=USAGE))["usage"] is None
    last = stream.finish()
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert stream.finish() is None


def test_usage_on_every_chunk_is_sent_once_as_last_seen():
    stream = Stream(include_usage=True)
    for count in (1, 2):
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        assert stream(chunk({"content": "a"}, usage=usage))["usage"] is None
        assert stream(chunk(choices=[], usage=usage)) is None  # a running count
    assert stream(chunk({}, "stop", usage=None))["usage"] is None
    assert stream.finish()["usage"]["completion_tokens"] == 2


def test_usage_that_was_estimated_can_be_sent_too():
    stream = Stream(include_usage=True)
    stream(chunk({"content": "Hi"}, "stop"))
    assert stream.finish() is None
    stream.rewriter.usage = Usage(1, 2, 3)
    assert stream.finish()["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_a_prelude_without_choices_is_dropped():
    stream = Stream(include_usage=True)
    assert stream(chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}])) is None
    assert not stream.started()


def test_what_is_the_upstreams_own_does_not_leak_from_chunks():
    payload = chunk({"content": "Hi"} | VENDORS) | VENDORS
    payload["choices"][0] |= VENDORS
    assert Stream()(payload) == Stream()(chunk({"content": "Hi"}))


def test_documented_fields_of_a_chunk_stay():
    delta = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "refusal": "no",
        "tool_calls": [{"index": 1} | TOOL_CALL],
        "function_call": {"name": "f", "arguments": "{}"},
        "audio": {"id": "a", "data": "AAAA"},
    }
    extra = {"service_tier": "default", "system_fingerprint": "fp_1", "obfuscation": "abc"}
    payload = chunk(delta, **extra)
    payload["choices"][0]["logprobs"] = LOGPROBS
    printed = Stream()(payload)
    assert printed["choices"] == payload["choices"]
    assert {key: printed[key] for key in extra} == extra


def test_extras_of_one_chunk_are_not_repeated_on_the_next():
    stream = Stream()
    stream(chunk({"content": "a"}, system_fingerprint="fp", obfuscation="abc"))
    assert not {"system_fingerprint", "obfuscation"} & set(stream(chunk({"content": "b"})))


def test_what_is_missing_but_clear_is_filled_in():
    printed = Stream()({"choices": [{"delta": {"tool_calls": [{"id": "a"}, {"id": "b"}]}}, {"finish_reason": ""}]})
    assert printed["choices"] == [
        {
            "index": 0,
            "delta": {"tool_calls": [{"index": 0, "id": "a"}, {"index": 1, "id": "b"}]},
            "finish_reason": None,
        },
        {"index": 1, "delta": {}, "finish_reason": None},
    ]


def test_several_choices_finish_each_by_itself():
    stream = Stream()
    for index in (0, 1):
        stream(chunk(choices=[{"index": index, "delta": {"content": "a"}}]))
    stream(chunk({}, "stop"))
    assert not stream.finished()
    stream(chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "length"}]))
    assert stream.finished()
    assert stream.rewriter.finish_reasons == {0: "stop", 1: "length"}


def test_what_the_model_wrote_is_counted_for_an_estimate():
    stream = Stream()
    stream(chunk({"role": "assistant", "content": "ab", "reasoning_content": "cd", "refusal": "e"}))
    stream(chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "gh"}}]}))
    stream(chunk({"tool_calls": [{"index": 0, "custom": {"input": "i"}}]}))
    stream(chunk({"function_call": {"arguments": "jk"}}))
    assert stream.rewriter.completion_chars == 11


def test_a_text_with_line_ends_stays_on_one_line():
    text = "a\nb\r\n\u2028\x00☃"
    assert Stream()(chunk({"content": text}))["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize("data", [*NO_SENSE, b"[DONE]"])
def test_a_chunk_that_makes_no_sense_is_said_to_be_one(data):
    with pytest.raises(BadAnswer):
        read_chunk(data)


def test_a_stream_that_finishes_with_an_error_has_failed():
    with pytest.raises(UpstreamStreamError):
        Stream()(chunk({}, "error"))
