"""How much may be tried beyond one attempt a request. Pure.

Retries are what turns an outage into a flood, so those that fail are paid for, out of what first attempts earn that are
answered. Those that are answered cost nothing: as long as there is a deployment that answers, nobody is refused one.
A little comes with time: a process with few requests would else have nothing for long after an outage.
"""

import time
from collections.abc import Callable
from typing import Final

from helixflow.lib.metrics import Retries

FULL: Final = 30.0
EARNED: Final = 0.1
PER_SECOND: Final = 0.1  # full again in five minutes


class RetryBudget:
    """Of one model in one process. ``counts`` are what Prometheus sees."""

    __slots__ = ("_clock", "_left", "_seen_at", "counts")

    def __init__(self, counts: Retries | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = FULL
        self._clock = clock
        self._seen_at = clock()
        self.counts = counts or Retries()

    def take(self, *, owed: bool = False) -> bool:
        """Whether one may be made now. Those that are under way don't count until they have failed. ``owed``: in any
        case."""
        now = self._clock()
        self._left = min(self._left + (now - self._seen_at) * PER_SECOND, FULL)
        self._seen_at = now
        if self._left < 1 and not owed:
            self.counts.refused += 1
            return False
        self.counts.made += 1
        return True

    def first_answered(self) -> None:
        left = self._left
        if left < FULL:
            self._left = min(left + EARNED, FULL)

    def attempt_failed(self) -> None:
        self._left = max(self._left - 1, 0.0)
