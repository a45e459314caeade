"""Whether to try Redis at all: after a few failures within seconds, callers stop waiting for what is away. Pure.

Event loop and threads share it: while all is well nothing locks.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

ONE_S = 0.1  # failures this close together are one: everybody waited for the same answer


class Breaker:
    """Opens at ``failures`` within ``window_s``; then one call every ``pause_s`` is let through to find out.

    Ask ``allows`` before a call and tell ``succeeded`` or ``failed`` after it. A probe that never reports (its caller
    left) is followed by another after the pause.
    """

    __slots__ = ("_clock", "_failed_at", "_lock", "_pause_s", "_probing", "_waits_since", "_window_s", "is_open")

    def __init__(
        self,
        failures: int = 5,
        window_s: float = 10.0,
        pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_open = False
        self._window_s = window_s
        self._pause_s = pause_s
        self._clock = clock
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._waits_since = 0.0  # when it opened, or its last probe began or failed
        self._probing = False
        self._lock = threading.Lock()

    def allows(self) -> bool:
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if now - self._waits_since < self._pause_s:
                return False
            self._waits_since = now
            self._probing = True
            return True

    def succeeded(self) -> None:
        """While it is open only the probe's word counts: what had begun before says nothing of now."""
        if self._probing:
            with self._lock:
                self.is_open = self._probing = False
                self._failed_at.clear()

    def failed(self) -> None:
        with self._lock:
            now = self._clock()
            if self._probing:
                self._probing = False
                self._waits_since = now
            elif not self.is_open and not (self._failed_at and now - self._failed_at[-1] < ONE_S):
                self._failed_at.append(now)
                if len(self._failed_at) == self._failed_at.maxlen and now - self._failed_at[0] <= self._window_s:
                    self.is_open = True
                    self._waits_since = now
