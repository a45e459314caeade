"""What the gateways tell the meter, as entries of the usage streams. Pure: msgspec only.

An entry has the fields ``o`` (the organization, hex), ``e`` (one of the structs below, JSON) and, where settlement
found no note, ``late``. Each struct's ``id`` makes it idempotent: redelivery changes nothing.
"""

import uuid
from typing import Final

import msgspec

ORGANIZATION: Final = "o"
EVENT: Final = "e"
LATE: Final = "late"

GATEWAY: Final = "gateway"
REAPER: Final = "reaper"

CHAT: Final = "chat.completions"  # what is asked for, unless it is said

PROVIDER: Final = "provider"
ESTIMATED: Final = "estimated"
NOTHING: Final = "none"


class Attempt(msgspec.Struct, frozen=True):
    """One try at one deployment; ``outcome`` is ``ok`` or what went wrong."""

    deployment: str
    outcome: str
    duration_ms: float


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Disjoint: the first four are the prompt, the last three the completion, all seven the total."""

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    input_audio: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0

    def items(self) -> tuple[tuple[str, int], ...]:
        """The classes that occur."""
        return tuple((name, count) for name in self.__struct_fields__ if (count := getattr(self, name)))


class Usage(msgspec.Struct, tag="usage", omit_defaults=True, kw_only=True):
    """How one admitted request ended. ``id`` is the request's UUIDv7, so it also says when it began."""

    id: uuid.UUID
    organization_id: uuid.UUID
    api_key_id: uuid.UUID
    user_id: uuid.UUID | None = None
    month: int  # of the quota: 202611
    units: int  # of it: 1, or 0 for a request that produced nothing
    status: int  # HTTP; 499 if the caller left before an answer
    duration_ms: float
    error_code: str = ""
    operation: str = CHAT  # the path, with dots
    model: str = ""  # as asked for
    fallback_model: str = ""  # that answered in its place
    deployment: str = ""
    attempts: list[Attempt] = []
    streamed: bool = False
    end_user: str = ""
    usage_source: str = NOTHING
    tokens: Tokens = Tokens()
    first_token_ms: float | None = None
    settled_by: str = GATEWAY


class Refused(msgspec.Struct, tag="refused", kw_only=True):
    """Requests that admission refused within one calendar minute (epoch minutes), counted by one gateway."""

    id: uuid.UUID
    organization_id: uuid.UUID
    api_key_id: uuid.UUID
    minute: int
    reason: str  # limits.Reason
    count: int
    limit: int  # that they met


Event = Usage | Refused

encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Event).decode
