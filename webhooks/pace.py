"""How often something may be made, counted by the rows that it makes: no counter is needed beside them."""

import math
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from helixflow.lib import errors, ids


def require_calm(rows: QuerySet[Any], *, most: int, within: timedelta, message: str) -> None:
    """Under a lock of what they belong to, so that two at one moment are counted one after another.

    Raises RateLimitExceeded if ``most`` of the rows, which have time-ordered ids, are younger than ``within``.
    """
    now = timezone.now()
    lately = rows.filter(id__gte=ids.first_at(now - within)).order_by("-id")
    times = list(lately.values_list("created_at", flat=True)[:most])
    if len(times) == most:
        wait_s = (times[-1] + within - now).total_seconds()
        raise errors.RateLimitExceeded(message, retry_after=max(1, math.ceil(wait_s)))
