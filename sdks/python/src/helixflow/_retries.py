"""Whether to try again, and after how long. Pure."""

from __future__ import annotations

import time
from typing import Callable, Mapping

LONGEST_RETRY_AFTER_S = 60.0
FIRST_S = 0.5
LONGEST_S = 8.0
STATUSES = frozenset({408, 409, 429})  # and all from 500 on


def retry_after_s(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """What ``Retry-After`` says, in seconds from now: it is a number of seconds or a date of HTTP."""
    text = headers.get("retry-after")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime  # rarely needed, and slow to load

        try:
            date = parsedate_to_datetime(text).timestamp() - now()
        except (TypeError, ValueError, OverflowError):
            return None
        return max(0.0, date)
    return seconds if 0 <= seconds < float("inf") else None


def backoff_s(attempt: int) -> float:
    """0.5 s doubling up to 8 s, and up to a quarter less, so that callers who failed together come back apart."""
    import random  # slow to load, and seldom needed

    return min(FIRST_S * 2.0**attempt, LONGEST_S) * (1 - 0.25 * random.random())  # noqa: S311  # nobody has to guess


def wait_s(attempt: int, status: int, headers: Mapping[str, str]) -> float | None:
    """How long to wait before the next try after this answer to try number ``attempt`` (from 0); None: give up."""
    said = headers.get("x-should-retry", "").lower()
    if said == "false" or (said != "true" and status not in STATUSES and status < 500):
        return None
    asked = retry_after_s(headers)
    if asked is None:
        return backoff_s(attempt)
    return asked if asked <= LONGEST_RETRY_AFTER_S else None
