"""Which API keys were refused at a limit lately. Under an Idempotency-Key the body comes before admission, and reading
it is work that a refusal does not give back: so who is over the limit has no more of them than they have retries."""

import time
import uuid
from typing import Final

from billing.admission import limits

MOST: Final = 10_000


class OverLimit:
    """Those of one process."""

    def __init__(self) -> None:
        self._until: dict[uuid.UUID, float] = {}  # the end of the minute, on the monotonic clock

    def __contains__(self, key_id: uuid.UUID) -> bool:
        return self._until.get(key_id, 0.0) > time.monotonic()

    def add(self, verdict: limits.Verdict) -> None:
        if verdict.outcome == limits.PARALLEL:  # which may be over in a moment
            return
        if len(self._until) >= MOST:
            self._until.clear()
        self._until[verdict.snapshot.key_id] = time.monotonic() + max(1, verdict.reset_at - verdict.now)
