"""When a delivery is tried again (contract §7). Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

JITTER: Final = 0.2  # so that what failed together is not tried again together
MOST_PATIENCE: Final = 2  # times the planned delay: as long as a receiver may ask us to wait


def delay_s(
    attempts: int, *, delays_s: Sequence[float], chance: float, retry_after_s: float | None = None
) -> float | None:
    """Seconds from the failure of this many attempts to the next one; None: that was the last.

    ``chance`` is uniform in [0, 1). ``retry_after_s`` is what the receiver asked for, granted up to twice the plan.
    """
    if attempts >= len(delays_s):
        return None
    planned = delays_s[attempts]
    delay = planned * (1 + JITTER * (2 * chance - 1))
    if retry_after_s is None:
        return delay
    return max(delay, min(retry_after_s, MOST_PATIENCE * planned))


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """A ``Retry-After`` header in either of its forms; None if it is absent or says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or an offset of twenty digits overflows
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
