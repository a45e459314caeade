"""Public ids: a prefix and a UUIDv7 (RFC 9562) in base62, so that they sort by time and cannot be guessed.

The database stores the UUID; the text form exists only at the edges. ``key_06W…`` ⇄ UUID.
"""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in ASCII order: ids sort as UUIDs
LENGTH: Final = 22  # 62**22 > 2**128
_PAIRS: Final = [high + low for high in ALPHABET for low in ALPHABET]  # two digits a division: each request makes ids
_VALUES: Final = {char: value for value, char in enumerate(ALPHABET)}

USER: Final = "user-"
ORGANIZATION: Final = "org-"
API_KEY: Final = "key_"
REQUEST: Final = "req_"
COMPLETION: Final = "chatcmpl-"
TEXT_COMPLETION: Final = "cmpl-"
EVENT: Final = "evt_"
WEBHOOK: Final = "whe_"
DELIVERY: Final = "whd_"
BATCH: Final = "batch_"
BATCH_ITEM: Final = "batch_req_"  # its batch's own part, and its position
FILE: Final = "file-"
INVITATION: Final = "inv_"
AUDIT_EVENT: Final = "aud_"
EXPORT: Final = "exp_"
SESSION: Final = "ses_"
INCIDENT: Final = "inc_"


def uuid7() -> uuid.UUID:
    """48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (0x7 << 76)  # version
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant
    return uuid.UUID(int=value)


def time_of(value: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def first_at(moment: datetime) -> uuid.UUID:
    """The smallest UUIDv7 that can have been made at ``moment``: a bound for ranges of time-ordered ids."""
    return uuid.UUID(int=(int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0x2 << 62))


def encode_base62(number: int, length: int) -> str:
    """``number`` in exactly ``length`` base62 characters; it must fit."""
    parts = []
    for _ in range(length // 2):
        number, pair = divmod(number, 62 * 62)
        parts.append(_PAIRS[pair])
    if length % 2:
        parts.append(ALPHABET[number])
    return "".join(reversed(parts))


def public_id(prefix: str, value: uuid.UUID) -> str:
    return prefix + encode_base62(value.int, LENGTH)


def parse_public_id(prefix: str, text: str) -> uuid.UUID:
    """The UUID behind a public id. Raises ValueError for any text that ``public_id`` could not have made."""
    body = text[len(prefix) :]
    if not text.startswith(prefix) or len(body) != LENGTH:
        raise ValueError(f"not an id that starts with {prefix}")
    number = 0
    for char in body:
        if char not in _VALUES:
            raise ValueError(f"not an id that starts with {prefix}")
        number = number * 62 + _VALUES[char]
    if number >= 1 << 128:
        raise ValueError(f"not an id that starts with {prefix}")
    return uuid.UUID(int=number)


def new_id(prefix: str) -> str:
    return public_id(prefix, uuid7())
