"""How one admitted request is closed: what the settle script, and the spool while Redis is away, take."""

import uuid
from typing import Self

import msgspec

from billing import events


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """``month`` as 202611; ``units`` 0 gives the month's unit back; ``leased``: it holds a parallel request's lease.

    ``payload`` is the encoded event, empty for a request that was refused after an admission of unknown outcome.
    """

    id: uuid.UUID
    organization_id: uuid.UUID
    api_key_id: uuid.UUID
    month: int
    units: int
    leased: bool = False
    payload: msgspec.Raw = msgspec.Raw(b"")

    @classmethod
    def of(cls, event: events.Usage, *, leased: bool = False) -> Self:
        return cls(
            event.id,
            event.organization_id,
            event.api_key_id,
            event.month,
            event.units,
            leased,
            msgspec.Raw(events.encode(event)),
        )
