"""Answers kept in this process, for those who ask the same again: off unless a client is given one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Callable, Mapping, Tuple

if TYPE_CHECKING:
    from helixflow._settings import Settings

Stored = Tuple[bytes, Mapping[str, str]]


class Cache:
    """The latest ``max_entries`` answers, each for ``ttl_s`` seconds. Threads and clients may share one.

    Only whole answers of chat completions, completions and embeddings are kept, and found again for exactly the same
    request with the same key. They lie in memory in the clear.
    """

    def __init__(
        self, *, max_entries: int = 1000, ttl_s: float = 3600.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        if max_entries < 1 or ttl_s <= 0:
            raise ValueError("max_entries and ttl_s must be positive")
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Stored]] = OrderedDict()

    @staticmethod
    def entry(settings: Settings, path: str, content: bytes) -> str:
        import hashlib  # slow to load

        parts = (settings.base_url.encode(), settings.api_key.encode(), path.encode(), content)
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def get(self, entry: str) -> Stored | None:
        with self._lock:
            found = self._kept.get(entry)
            if found is None or found[0] <= self._now():
                self._kept.pop(entry, None)
                return None
            self._kept.move_to_end(entry)
            return found[1]

    def put(self, entry: str, stored: Stored) -> None:
        with self._lock:
            self._kept[entry] = (self._now() + self._ttl_s, stored)
            self._kept.move_to_end(entry)
            while len(self._kept) > self._max_entries:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
