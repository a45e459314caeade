"""A note: what Redis knows of a request that is admitted and not settled, enough to settle it if its gateway dies.

Admission writes ``process \\t organization \\t API key \\t user \\t month \\t leased \\t epoch second``.
A request that lasts adds a mark, JSON on a line of its own; a newer one takes its place.
"""

import uuid
from typing import NamedTuple

import msgspec

from billing import events

LIFE_S = 1500  # longer than any exchange may take; whoever has a note for longer has lost it


class Mark(msgspec.Struct, omit_defaults=True):
    """How far a request got, ``elapsed_ms`` after it began.

    ``answering``: a first byte was there for its caller, so its unit is spent. ``tokens`` and ``usage_source`` say what
    was produced by then.
    """

    operation: str = events.CHAT
    model: str = ""
    fallback_model: str = ""
    streamed: bool = False
    end_user: str = ""
    deployment: str = ""
    attempts: list[events.Attempt] = []  # the last may be under way
    answering: bool = False
    tokens: events.Tokens = events.Tokens()
    usage_source: str = events.NOTHING
    first_token_ms: float | None = None
    elapsed_ms: float = 0.0


class Note(NamedTuple):
    process: str
    organization_id: uuid.UUID
    api_key_id: uuid.UUID
    user_id: uuid.UUID | None
    month: int
    leased: bool
    admitted_at: int  # epoch seconds, by Redis's clock
    mark: Mark


def head(
    process: str,
    organization_id: uuid.UUID,
    api_key_id: uuid.UUID,
    user_id: uuid.UUID | None,
    month: int,
    *,
    leased: bool,
) -> str:
    """What admission writes, but for the time."""
    user = user_id.hex if user_id else ""
    return f"{process}\t{organization_id.hex}\t{api_key_id.hex}\t{user}\t{month}\t{int(leased)}\t"


def parse(text: bytes) -> Note:
    """Raises ValueError."""
    first, _, marks = text.decode().partition("\n")
    process, organization, key, user, month, leased, admitted_at = first.split("\t")
    mark = msgspec.json.decode(marks.rpartition("\n")[2], type=Mark) if marks else Mark()
    return Note(
        process,
        uuid.UUID(organization),
        uuid.UUID(key),
        uuid.UUID(user) if user else None,
        int(month),
        leased == "1",
        int(admitted_at),
        mark,
    )
