"""How far behind the workers of batches are, for metrics: by indexes, and without counting requests."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from helixflow.lib import ids

TIMEOUT_MS: Final = 1000  # of each statement
DAY: Final = timedelta(days=1)

OPEN: Final = """
SELECT count(*), coalesce(sum(total - completed - failed), 0), count(*) FILTER (WHERE waits_for <> '')
FROM inference_batch WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
"""
LAG: Final = """
SELECT min(due_at) FROM inference_batchlane
WHERE due_at <= %(now)s AND (lease IS NULL OR leased_until <= %(now)s)
"""
LATELY: Final = """
SELECT coalesce(sum(completed), 0), coalesce(sum(failed), 0) FROM inference_batch WHERE id >= %(day)s
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """``waiting``: requests of ``open`` batches, of which some are ``paused``; ``lag_s``: how long the lane that is due
    longest waits for a worker. The last two: requests of the last day's batches.
    """

    open: int
    waiting: int
    paused: int
    lag_s: float
    completed: int
    failed: int


def read(connection: psycopg.Connection[Any], now: datetime) -> Backlog:
    """Raises psycopg.Error, after a second a statement at most."""
    values = {"now": now, "day": ids.first_at(now - DAY)}
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
        still_open, waiting, paused = cursor.execute(OPEN).fetchone() or (0, 0, 0)
        (oldest,) = cursor.execute(LAG, values).fetchone() or (None,)
        completed, failed = cursor.execute(LATELY, values).fetchone() or (0, 0)
    lag_s = (now - oldest).total_seconds() if oldest else 0.0
    return Backlog(still_open, int(waiting), paused, lag_s, int(completed), int(failed))
