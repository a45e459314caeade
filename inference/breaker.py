"""Whether one deployment may be asked, judged by how its answers went. Pure; times are seconds of one monotonic clock.

    closed ──failures──▶ open ──its time is over──▶ half open ──a probe answers──▶ closed
       │                   ▲                            │
      429                  └──────a probe fails─────────┘
       ▼
    limited ──its time is over──▶ closed

What had begun before the last change says nothing of now: each attempt carries the ``epoch`` of its beginning, and a
report from an earlier one changes nothing. Where every deployment of a model is cut off, routing may ask one before its
time is over (``inference.routing``): then an answer counts as that of a probe does, and a failure changes no times.
"""

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final

FAILURES_IN_A_ROW: Final = 5
WINDOW_S: Final = 30.0
WINDOW_REQUESTS: Final = 20
WINDOW_FAILED: Final = 0.5
OPEN_S: Final = 2.0  # doubles with each probe that fails
LONGEST_OPEN_S: Final = 60.0
LIMITED_S: Final = 1.0  # where the provider names no time; doubles while it repeats
LONGEST_LIMITED_S: Final = 30.0
LONGEST_ASKED_S: Final = 300.0  # by a Retry-After
JITTER: Final = 0.1  # so that processes don't come back in the same instant; never earlier than asked
PATIENCE_S: Final = 5.0  # another probe may begin while one lasts that long: a long answer must not lock callers out


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    LIMITED = "limited"


class Window:
    """Successes and failures of the last ``span_s`` / 2 to ``span_s`` seconds, in two halves."""

    __slots__ = ("_before", "_failed_before", "_half_s", "_turn_at", "failed", "total")

    def __init__(self, span_s: float) -> None:
        self._half_s = span_s / 2
        self._turn_at = float("-inf")
        self.total = self.failed = self._before = self._failed_before = 0

    def add(self, *, failed: bool, now: float) -> None:
        if now >= self._turn_at:
            old = now >= self._turn_at + self._half_s
            self._before, self._failed_before = (0, 0) if old else (self.total, self.failed)
            self.total = self.failed = 0
            self._turn_at = now + self._half_s
        self.total += 1
        self.failed += failed

    @property
    def too_many(self) -> bool:
        total = self.total + self._before
        return total >= WINDOW_REQUESTS and self.failed + self._failed_before >= total * WINDOW_FAILED


class Breaker:
    """``cut_off``: it was, and has not answered since; from ``until`` on it may be tried. ``failed_at``: when that, or
    something after it, last went wrong. ``unsaid``: the last change was made here, and other processes are to be told.
    """

    __slots__ = (
        *("_draw", "_in_a_row", "_limits", "_openings", "_probe_began_at", "_probes", "_window"),
        *("cut_off", "epoch", "failed_at", "reason", "unsaid", "until"),
    )

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._in_a_row = self._openings = self._limits = self._probes = 0
        self._probe_began_at = 0.0
        self._window = Window(WINDOW_S)
        self.cut_off: State | None = None  # OPEN or LIMITED
        self.until = self.failed_at = float("-inf")
        self.reason = ""
        self.epoch = 0
        self.unsaid = False

    def state(self, now: float) -> State:
        if self.cut_off is None:
            return State.CLOSED
        if now < self.until:
            return self.cut_off
        return State.HALF_OPEN if self.cut_off is State.OPEN else State.CLOSED

    def allows(self, now: float) -> bool:
        if self.cut_off is None:
            return True
        if now < self.until:
            return False
        return self.cut_off is State.LIMITED or not self._probes or now >= self._probe_began_at + PATIENCE_S

    def wait_s(self, now: float) -> float:
        """Until ``allows`` may say yes, as far as is known now."""
        if self.allows(now):
            return 0.0
        return max(self.until, self._probe_began_at + PATIENCE_S if self._probes else 0.0) - now

    @property
    def level(self) -> int:
        """How often in a row it was cut off."""
        return self._limits if self.cut_off is State.LIMITED else self._openings

    def begin(self, now: float) -> bool:
        """An attempt begins. True: it is a probe, and must be told back by any of the four below."""
        if self.cut_off is not State.OPEN or now < self.until:
            return False
        self._probes += 1
        self._probe_began_at = now
        return True

    def produced(self, epoch: int, now: float) -> int:
        """A first token: good enough to let others in again, on probation until an answer is whole.

        Returns the epoch that the attempt goes on in.
        """
        if epoch != self.epoch:
            return epoch
        if self.cut_off is State.OPEN:
            self._close(now)
            self._in_a_row = FAILURES_IN_A_ROW - 1
        elif self.cut_off is State.LIMITED:
            self._lift(now)
        return self.epoch

    def succeeded(self, epoch: int, now: float) -> None:
        if epoch != self.epoch:
            return
        if self.cut_off is State.OPEN:
            self._close(now)
        elif self.cut_off is State.LIMITED:
            self._lift(now)
        self._in_a_row = self._openings = self._limits = 0
        self._window.add(failed=False, now=now)

    def failed(self, epoch: int, now: float, reason: str, retry_after_s: float | None = None) -> bool:
        """A Retry-After cuts it off at once: the provider says that the next attempt is in vain too.

        Returns whether that was news.
        """
        if epoch != self.epoch:
            return False
        if now < self.until:
            self.failed_at = now
            self.epoch += 1
            return True
        self._in_a_row += 1
        self._window.add(failed=True, now=now)
        asked_s = min(retry_after_s or 0.0, LONGEST_ASKED_S)
        probed = self.cut_off is State.OPEN
        if probed or self._in_a_row >= FAILURES_IN_A_ROW or self._window.too_many:
            self._openings += 1
            backoff_s = min(OPEN_S * 2.0 ** min(self._openings - 1, 10), LONGEST_OPEN_S)
            self._cut_off(State.OPEN, now, max(backoff_s, asked_s), reason)
        elif asked_s:
            self._cut_off(State.OPEN, now, asked_s, reason)
        return True

    def limited(self, epoch: int, now: float, retry_after_s: float | None = None) -> bool:
        """A 429: it is well, and wants to be left alone. Those that were under way with it add nothing.

        Returns whether that was news.
        """
        if epoch != self.epoch:
            return False
        if now >= self.until or not self._limits:
            self._limits += 1
        pause_s = min(LIMITED_S * 2.0 ** min(self._limits - 1, 10), LONGEST_LIMITED_S)
        if retry_after_s:
            pause_s = min(retry_after_s, LONGEST_ASKED_S)
        self._cut_off(State.LIMITED, now, pause_s, "rate limited")
        return True

    def left(self, epoch: int) -> None:
        """A probe ended without saying anything."""
        if epoch == self.epoch:
            self._probes = max(0, self._probes - 1)

    def adopt(self, state: State, now: float, *, until: float, level: int, reason: str) -> None:
        """What another process has found out, later than anything known here."""
        if state is State.CLOSED:
            if self.cut_off is not None:
                self.close(now)
        else:
            if state is State.LIMITED:
                self._limits = max(self._limits, level)
            else:
                self._openings = max(self._openings, level)
            self._change(state, now, until, reason)
        self.unsaid = False

    def close(self, now: float) -> None:
        """Forget everything: a probe of another process was answered, or an operator says that all is well."""
        self._close(now)
        self._openings = self._limits = 0

    def _lift(self, now: float) -> None:
        """The limit is over: by its time, which all know, or earlier, which others are to be told."""
        self.unsaid = self.unsaid or now < self.until
        self.cut_off = None
        self.until = now
        self.reason = ""

    def _close(self, now: float) -> None:
        self._change(None, now, now, "")
        self._in_a_row = 0
        self._window = Window(WINDOW_S)

    def _cut_off(self, state: State, now: float, pause_s: float, reason: str) -> None:
        self._change(state, now, now + pause_s * (1 + JITTER * self._draw()), reason)

    def _change(self, cut_off: State | None, now: float, until: float, reason: str) -> None:
        self.cut_off = cut_off
        self.until = until
        self.reason = reason
        self.failed_at = now
        self.epoch += 1
        self.unsaid = True
        self._probes = 0
        self._probe_began_at = 0.0
