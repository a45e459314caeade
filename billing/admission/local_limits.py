"""The minute while Redis is away: every process lets its share of a limit through. Pure.

The share is the limit divided by the number of web processes, and at least one: a limit below the number of processes
lets each of them serve one, so then the minute may be overrun by up to that number.
"""

import threading
import uuid
from typing import Final, NamedTuple

ORGANIZATION: Final = "organization"
KEY: Final = "key"


class Taken(NamedTuple):
    """``limit`` and ``key_limit`` are this process's share, ``used`` and ``key_used`` what it let through of them.

    ``refused_by`` is ORGANIZATION or KEY; ``key_limit`` is None for a key without a limit of its own.
    """

    admitted: bool
    used: int
    limit: int
    key_used: int
    key_limit: int | None
    refused_by: str | None


class LocalLimiter:
    """Event loop and threads may share it. Remembers the current minute only."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._minute = 0
        self._used: dict[uuid.UUID, int] = {}  # by organization, and by keys with a limit

    def take(
        self,
        *,
        organization_id: uuid.UUID,
        api_key_id: uuid.UUID,
        per_minute: int,
        key_per_minute: int | None,
        minute: int,
    ) -> Taken:
        """Count one request of ``minute`` (epoch minutes) against both limits, or against neither."""
        limit = self._share(per_minute)
        key_limit = None if key_per_minute is None else self._share(key_per_minute)
        with self._lock:
            # A clock that steps back a little stays in the minute it counts; one that was far ahead is forgotten.
            if not minute <= self._minute <= minute + 2:
                self._minute = minute
                self._used = {}
            used = self._used.get(organization_id, 0)
            key_used = 0 if key_limit is None else self._used.get(api_key_id, 0)
            if used >= limit:
                return Taken(False, used, limit, key_used, key_limit, ORGANIZATION)
            if key_limit is not None:
                if key_used >= key_limit:
                    return Taken(False, used, limit, key_used, key_limit, KEY)
                key_used += 1
                self._used[api_key_id] = key_used
            self._used[organization_id] = used + 1
        return Taken(True, used + 1, limit, key_used, key_limit, None)

    def _share(self, limit: int) -> int:
        return max(1, limit // self._processes) if limit > 0 else 0
