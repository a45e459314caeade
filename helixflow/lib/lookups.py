"""Looking names up within a time limit. ``getaddrinfo`` has none and can't be interrupted, so it runs in a thread.

A look-up that nobody waits for any more ends by itself, within the system's own limit. The threads are daemons, unlike
those of ``concurrent.futures``: a name server that says nothing must not hold up the end of the process.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

MOST_THREADS: Final = 256  # kept once made


@dataclass(slots=True)
class _LookUp:
    function: Callable[[], object]
    done: SimpleQueue[tuple[Any, BaseException | None]] = field(default_factory=SimpleQueue)
    abandoned: bool = False

    def run(self) -> None:
        try:
            self.done.put((self.function(), None))
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            self.done.put((None, error))


class _Threads:
    """As many as there have ever been look-ups at once."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_LookUp] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._number = 0
        self._lock = threading.Lock()

    def run(self, look_up: _LookUp) -> None:
        self._waiting.put(look_up)
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            if self._number >= MOST_THREADS:
                return
            threading.Thread(target=self._serve, name="look-up", daemon=True).start()
            self._number += 1

    def _serve(self) -> None:
        while True:
            look_up = self._waiting.get()
            if not look_up.abandoned:
                look_up.run()
            del look_up
            self._idle.release()


_threads = _Threads()


def _forget_threads() -> None:
    global _threads  # noqa: PLW0603  # a forked process has none of its parent's threads
    _threads = _Threads()


os.register_at_fork(after_in_child=_forget_threads)


def in_time(function: Callable[[], T], timeout_s: float) -> T:
    """What a look-up returns or raises; TimeoutError if it does neither in time."""
    look_up = _LookUp(function)
    _threads.run(look_up)
    try:
        result, error = look_up.done.get(timeout=timeout_s)
    except Empty:
        look_up.abandoned = True
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(T, result)
