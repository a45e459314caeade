"""Ids of tool calls, for providers that want back more of a call than OpenAI's shape has room for.

Gemini signs what it thought before a call, and refuses a conversation in which the signature is missing. Callers bring
back a call's id and nothing else of it, so the id carries the rest: ``call_…`` is ours alone, ``call_…-…`` holds what
the provider wants to see again. Only the account that gave a signature takes it, so it is marked with that.
"""

import base64
import binascii
import hashlib
import operator
import re
import secrets
from typing import Final

import msgspec
from msgspec.structs import replace

from inference.parts import AssistantMessage, Message, ToolMessage
from inference.providers.adapter import Account
from inference.schemas import ChatRequest

MAX_CARRIED: Final = 64 * 1024
_CARRYING: Final = re.compile(r"(call_[A-Za-z0-9]{24})-([A-Za-z0-9_-]+)\Z")


class Carried(msgspec.Struct, array_like=True, omit_defaults=True):
    """``mark`` is the account's; ``id`` is the provider's own; ``signature`` as it was given."""

    mark: str
    id: str = ""
    signature: str = ""


def mark(account: Account) -> str:
    """The same in every process. What it is made of can't be told from it."""
    told = msgspec.msgpack.encode([account.kind, account.base_url, account.project, account.credential])
    return hashlib.blake2b(told, digest_size=4, person=b"tool call mark").hexdigest()


def make(carried: Carried) -> str:
    """A new id. What is too large to go back and forth is left out."""
    made = f"call_{secrets.token_hex(12)}"
    if not (carried.id or carried.signature):
        return made
    packed = base64.urlsafe_b64encode(msgspec.msgpack.encode(carried)).rstrip(b"=").decode()
    return f"{made}-{packed}" if len(packed) <= MAX_CARRIED else made


def plain(call_id: str) -> str:
    """The id without what it carries: other providers bound its length (OpenAI at 40 characters)."""
    found = _CARRYING.match(call_id)
    return found[1] if found else call_id


def plainly(request: ChatRequest) -> ChatRequest:
    """The request with plain ids, for a provider of another kind: the same one where they are plain already."""
    changed: list[Message] = []
    for message in request.messages:
        if isinstance(message, ToolMessage):
            changed.append(_with_plain_id(message))
        elif isinstance(message, AssistantMessage) and message.tool_calls:
            calls = [replace(call, id=plain(call.id)) for call in message.tool_calls]
            changed.append(replace(message, tool_calls=calls) if calls != message.tool_calls else message)
        else:
            changed.append(message)
    return replace(request, messages=changed) if any(map(operator.is_not, changed, request.messages)) else request


def _with_plain_id(message: ToolMessage) -> ToolMessage:
    found = plain(message.tool_call_id)
    return message if found == message.tool_call_id else replace(message, tool_call_id=found)


def carried(call_id: str, *, mark: str) -> Carried:
    """What the account with this mark gave; nothing where another did, or the id was never ours."""
    found = _CARRYING.match(call_id) if len(call_id) <= 2 * MAX_CARRIED else None
    if found is None:
        return Carried(mark)
    packed = found[2]
    try:
        read = msgspec.msgpack.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=Carried)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        return Carried(mark)
    return read if read.mark == mark else Carried(mark)
