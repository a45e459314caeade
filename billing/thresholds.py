"""Events that a growing ledger raises: a month's quota runs low, a key meets a rate limit.

Called by the meter inside the transaction of a batch, so an event is there if and only if its records are.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from uuid import UUID

from billing import events


def usage_grew(changes: Mapping[tuple[UUID, date], tuple[int, int]]) -> None:
    """(organization, month) → units of its quota used before and after the batch."""


def refused(refusals: Iterable[events.Refused]) -> None:
    """What admission turned away, as it is first written."""
