import json

import pytest

from helixflow.lib import errors
from inference.batch import lines
from inference.batch_models import Operation

CHAT = {"model": "gpt-4", "messages": [{"role": "user", "content": "What is a batch?"}]}


def line(**changes):
    fields = {"custom_id": "a", "method": "POST", "url": str(Operation.CHAT), "body": CHAT} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def test_a_line_keeps_its_callers_json_without_the_white_space():
    raw = (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4",\t"top_p": 0.50'
    )
    raw += b', "messages": [ {"role": "user", "content": "caf\\u00e9  au lait"} ] } }'
    read = lines.parse(raw, 1, Operation.CHAT)
    assert (read.custom_id, read.model) == ("a", "gpt-4")
    kept = b'{"model":"gpt-4","top_p":0.50,"messages":[{"role":"user","content":"caf\\u00e9  au lait"}]}'
    assert read.body == kept


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (Operation.CHAT, CHAT),
        (Operation.COMPLETIONS, {"model": "gpt-4", "prompt": ["a", "b"]}),
        (Operation.EMBEDDINGS, {"model": "text-embedding-3-small", "input": [1, 2]}),
    ],
)
def test_each_endpoint_reads_its_own_bodies_and_what_is_written_is_read_again(operation, body):
    read = lines.parse(line(url=operation, body=body), 1, operation)
    assert json.loads(read.body) == body
    assert lines.parse(lines.write(read, operation).removesuffix(b"\n"), 1, operation) == read
    wrong = {"model": "gpt-4", "file": "x"}
    with pytest.raises(lines.BadLine, match="Unknown parameter: 'file'"):
        lines.parse(line(url=operation, body=wrong), 1, operation)


@pytest.mark.parametrize(
    ("raw", "code", "param", "says"),
    [
        (b"", lines.INVALID_JSON, None, "one JSON object"),
        (line()[:-1], lines.INVALID_JSON, None, "one JSON object"),
        (line() + line(), lines.INVALID_JSON, None, "one JSON object"),
        (line().replace(b'"gpt-4"', b"[" * 100_000), lines.INVALID_JSON, None, "nested too deeply"),
        (b'{"custom_id": "\xff"}', lines.INVALID_JSON, None, "UTF-8"),
        (b'{"custom_id": "\\ud800"}', lines.INVALID_JSON, None, "one JSON object"),
        (b"[1]", lines.INVALID_LINE, None, "custom_id, method, url and body"),
        (line(custom_id=...), lines.INVALID_LINE, "custom_id", "is required"),
        (line(custom_id=""), lines.INVALID_LINE, "custom_id", "must not be empty"),
        (line(custom_id="a" * 513), lines.INVALID_LINE, "custom_id", "at most 512 characters"),
        (line(custom_id="a\0"), lines.INVALID_LINE, "custom_id", "not allowed"),
        (line(custom_id=7), lines.INVALID_LINE, "custom_id", "must be a string"),
        (line(method="GET"), lines.INVALID_LINE, "method", "method must be POST."),
        (json.dumps(CHAT).encode(), lines.INVALID_LINE, "model", "Around it belongs"),
        (line(body={"model": "m", "prompt": "x"}), lines.INVALID_REQUEST, "body.prompt", "is /v1/chat/completions."),
        (line(url="/v1/embeddings"), lines.INVALID_LINE, "url", "must be /v1/chat/completions"),
        (line(url="http://169.254.169.254/"), lines.INVALID_LINE, "url", "must be /v1/chat/completions"),
        (line(headers={"Authorization": "x"}), lines.INVALID_LINE, "headers", "Unknown parameter"),
        (line(body=...), lines.INVALID_LINE, "body", "is required"),
        (line(body=None), lines.INVALID_REQUEST, "body", "JSON object"),
        (line(body={"messages": []}), lines.INVALID_REQUEST, "body.messages", "must not be empty"),
        (line(body={"messages": CHAT["messages"]}), lines.INVALID_REQUEST, "body.model", "is required"),
        (line(body=CHAT | {"temperature": 2.5}), lines.INVALID_REQUEST, "body.temperature", "between 0 and 2"),
        (line(body=CHAT | {"api_base": "http://x"}), lines.INVALID_REQUEST, "body.api_base", "Unknown parameter"),
        (line(body=CHAT | {"stream": True}), lines.INVALID_REQUEST, "body.stream", "not streamed"),
        (b" " * lines.MAX_BYTES + line(), lines.TOO_LONG, None, "split this request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",  # some lines are long
)
def test_a_bad_line_is_named_with_what_to_do(raw, code, param, says):
    with pytest.raises(lines.BadLine) as bad:
        lines.parse(raw, 7, Operation.CHAT)
    found = bad.value.error()
    assert (found["code"], found["param"], found["line"]) == (code, param, 7)
    assert says in found["message"]


def test_an_entry_has_its_custom_id_among_its_fields_and_a_default():
    named = lines.parse_inline(json.dumps(CHAT | {"custom_id": "mine"}).encode(), 3, Operation.CHAT)
    assert (named.custom_id, json.loads(named.body)) == ("mine", CHAT)
    assert lines.parse_inline(json.dumps(CHAT).encode(), 3, Operation.CHAT).custom_id == "request-4"
    assert (
        lines.parse_inline(json.dumps(CHAT | {"custom_id": None}).encode(), 0, Operation.CHAT).custom_id == "request-1"
    )


@pytest.mark.parametrize(
    ("entry", "param"),
    [
        ("text", "requests[3]"),
        (None, "requests[3]"),
        (CHAT | {"custom_id": ""}, "requests[3].custom_id"),
        (CHAT | {"custom_id": 1}, "requests[3].custom_id"),
        (CHAT | {"temperature": 3}, "requests[3].temperature"),
        (CHAT | {"stream": True}, "requests[3].stream"),
        ({"params": CHAT}, "requests[3].params"),
        (json.loads(line()), "requests[3].body"),
        ({"model": "gpt-4", "messages": [{"role": "user"}]}, "requests[3].messages[0].content"),
    ],
)
def test_a_bad_entry_is_named_by_its_index(entry, param):
    with pytest.raises(errors.InvalidRequest) as bad:
        lines.parse_inline(json.dumps(entry).encode(), 3, Operation.CHAT)
    assert bad.value.param == param
