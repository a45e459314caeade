"""How much may be tried beyond one attempt a request. Pure.

Retries are what turns an outage into a flood, so those that fail are paid for, out of what first attempts earn that are
answered. Those that are answered cost nothing: as long as there is a deployment that answers, nobody is refused one.
"""

from typing import Final

from helixflow.lib.metrics import Retries

FULL: Final = 30.0
EARNED: Final = 0.1


class RetryBudget:
    """Of one model in one process. ``counts`` are what Prometheus sees."""

    __slots__ = ("_left", "counts")

    def __init__(self, counts: Retries | None = None) -> None:
        self._left = FULL
        self.counts = counts or Retries()

    def take(self) -> bool:
        """Whether one may be made now. Those that are under way don't count until they have failed."""
        if self._left < 1:
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
