"""How often models answered, over all organizations together: hourly sums alone, of nobody in particular."""

from collections import defaultdict
from datetime import datetime
from typing import Final, NamedTuple

from django.db import connection

# What is the platform's or a provider's to mend. Other codes are the caller's own doing and say nothing of a model.
FAULTS: Final = ("server_error", "service_unavailable", "timeout")

ADD_UP: Final = """
SELECT model, hour, sum(requests) - sum(others) AS counted, sum(faults) AS faults
FROM billing_usagehour, LATERAL (
    SELECT coalesce(sum(value::bigint) FILTER (WHERE key = ANY(%(faults)s)), 0) AS faults,
        coalesce(sum(value::bigint) FILTER (WHERE key <> ALL(%(faults)s)), 0) AS others
    FROM jsonb_each_text(failures)) AS told
WHERE hour >= %(since)s
GROUP BY model, hour
HAVING sum(requests) > sum(others)
"""


class Counted(NamedTuple):
    """Requests that ended well or by a fault, and how many did by a fault."""

    requests: int
    faults: int


def by_model(since: datetime) -> dict[str, dict[datetime, Counted]]:
    """By the name that callers asked for, which need not be a model's, and by hour. Looks at all that happened since,
    so its answer is worth keeping."""
    found: dict[str, dict[datetime, Counted]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(ADD_UP, {"faults": list(FAULTS), "since": since})
        for model, hour, requests, faults in cursor.fetchall():
            found[model][hour] = Counted(int(requests), int(faults))
    return found
