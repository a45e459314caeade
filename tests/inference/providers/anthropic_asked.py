"""What the adapter makes of chat requests, checked against Anthropic's rules and the types of its own client."""

import asyncio
import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParams
from pydantic import TypeAdapter

from inference.providers.adapter import Account, Unsupported
from inference.providers.anthropic import AnthropicAdapter
from tests.fakes import anthropic_rules
from tests.fakes.behaviours import Received
from tests.inference.chat_bodies import parse

NEWER = "claude-opus-5-5"
BETWEEN = "claude-opus-5"
OLDER = "claude-sonnet-4-5"
ARGUMENTS = '{"city": "Z\\u00fcrich"}'

_TYPES: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)


def adapter(**account: str) -> AnthropicAdapter:
    return AnthropicAdapter(Account(**{"kind": "anthropic", "credential": "sk-ant-secret"} | account))


def asked(*, to: str = NEWER, stream: bool = False, **changes: Any) -> dict[str, Any]:
    """The body for a request that is minimal but for these fields."""
    wire = asyncio.run(adapter().wire(parse(**changes), upstream_model=to, stream=stream))
    lines = wire.headers.decode().split("\r\n")[:-1]
    headers = dict(line.split(": ") for line in lines) | {"content-type": "application/json"}
    assert anthropic_rules.complaint(Received("POST", wire.path, headers, wire.body)) is None
    body: dict[str, Any] = json.loads(wire.body)
    _TYPES.validate_python(body, strict=True)
    return body


def said(*messages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return asked(messages=list(messages), **changes)


def user(content: Any = "Hello") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = None, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content} | fields


def call(name: str = "get_weather", arguments: str = ARGUMENTS, called: str = "call_1") -> dict[str, Any]:
    return {"id": called, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content: Any = "21", called: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": called, "content": content}


def function(name: str = "get_weather", **fields: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "parameters": parameters} | fields}


def unsupported(*, to: str = NEWER, **changes: Any) -> str:
    """The field that is named."""
    with pytest.raises(Unsupported) as caught:
        asked(to=to, **changes)
    return caught.value.param
