"""How far the deliverers are behind, for who watches the platform: a few looks into indexes, however large the log."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from helixflow.lib import ids

MOST: Final = 100_000  # that are counted: behind that, how many more no longer matters
LATELY: Final = timedelta(minutes=1)
TIMEOUT_MS: Final = 1000  # of each statement

# Endpoint by endpoint, so that what waits at disabled ones, for months maybe, is not read; as webhooks.queue does.
PENDING: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM webhooks_endpoint AS endpoint, LATERAL (
        SELECT 1 FROM webhooks_delivery
        WHERE endpoint_id = endpoint.id AND state = 'pending' AND next_attempt_at <= %(now)s
        AND (leased_until IS NULL OR leased_until <= %(now)s)
        OFFSET 0
    ) AS due
    WHERE endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL
    LIMIT %(most)s
) AS counted
"""

# Where somebody is at an endpoint, what else is due there waits for its receiver, and not for us.
OLDEST: Final = """
SELECT min(due.next_attempt_at) FROM webhooks_endpoint AS endpoint, LATERAL (
    SELECT next_attempt_at FROM webhooks_delivery
    WHERE endpoint_id = endpoint.id AND state = 'pending' AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at LIMIT 1
) AS due
WHERE endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM webhooks_delivery
    WHERE endpoint_id = endpoint.id AND lease IS NOT NULL AND leased_until > %(now)s
)
"""

ATTEMPTS: Final = """
SELECT count(*) FILTER (WHERE succeeded), count(*) FILTER (WHERE NOT succeeded)
FROM webhooks_attempt WHERE id >= %(lately)s
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """``pending``: deliveries that are due and in nobody's hands; ``lag_s``: how long the oldest that waits for us
    has been due. Then the attempts of the last minute. Disabled endpoints don't count.
    """

    pending: int
    lag_s: float
    succeeded: int
    failed: int


def read(connection: psycopg.Connection[Any], now: datetime) -> Backlog:
    """Raises psycopg.Error, after a second a statement at most."""
    values = {"now": now, "most": MOST, "lately": ids.first_at(now - LATELY)}
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
        (pending,) = cursor.execute(PENDING, values).fetchone() or (0,)
        (oldest,) = cursor.execute(OLDEST, values).fetchone() or (None,)
        succeeded, failed = cursor.execute(ATTEMPTS, values).fetchone() or (0, 0)
    lag_s = (now - oldest).total_seconds() if oldest else 0.0
    return Backlog(pending, lag_s, succeeded, failed)
