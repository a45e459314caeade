"""Bodies of chat requests for tests, and what becomes of them."""

import json
from typing import Any

import pytest

from helixflow.lib import errors
from inference.schemas import ChatRequest, encode_chat_request, parse_chat_request

MINIMAL = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}


def parse(**changes: Any) -> ChatRequest:
    return parse_chat_request(json.dumps(MINIMAL | changes).encode())


def sent(*, stream: bool = False, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_chat_request(parse(**changes), upstream_model="theirs", stream=stream))
    return body


def refusal(body: bytes) -> errors.InvalidRequest:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse_chat_request(body)
    return caught.value


def refusal_of(**changes: Any) -> errors.InvalidRequest:
    return refusal(json.dumps(MINIMAL | changes).encode())


def message_refusal(**message: Any) -> errors.InvalidRequest:
    return refusal_of(messages=[message])


def raw(name: str, value: str) -> bytes:
    """A body with a value that Python's json would not write."""
    return json.dumps(MINIMAL).encode()[:-1] + f', "{name}": {value}}}'.encode()
