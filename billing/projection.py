"""Where this month ends if it goes on like the last seven days. From hourly sums, so it is one cheap query.

The seven days are whole hours, up to the last full one. An organization that is younger is judged by the time since it
was made, and not at all before that is a day.
"""

import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.db.models import Sum

from accounts.models import Organization
from billing import months
from billing.rollup_models import UsageHourOfAllKeys

WINDOW: Final = dt.timedelta(days=7)
LEAST: Final = dt.timedelta(days=1)
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Projection:
    """At the end of the month. ``days``: what the run-rate is taken from; ``*_reached_at``: None if not this month."""

    units: int
    cost: Decimal
    units_a_day: int
    cost_a_day: Decimal
    days: int
    quota_reached_at: dt.datetime | None
    budget_reached_at: dt.datetime | None


def of(
    organization: Organization,
    *,
    now: dt.datetime,
    used: int,
    cost: Decimal,
    month_limit: int,
    budget: Decimal | None,
) -> Projection | None:
    """From what the month has come to by ``now``. None while there is too little to go by."""
    until = now.replace(minute=0, second=0, microsecond=0)
    elapsed = min(WINDOW, until - organization.created_at)
    if elapsed < LEAST:
        return None
    hours = UsageHourOfAllKeys.objects.filter(organization=organization, hour__gte=until - WINDOW, hour__lt=until)
    found = hours.aggregate(units=Sum("units"), cost=Sum("cost"))
    if found["units"] is None:
        return None
    units_a_second = Decimal(found["units"]) / int(elapsed.total_seconds())
    cost_a_second = found["cost"] / int(elapsed.total_seconds())
    ends = dt.datetime.fromtimestamp(months.bounds(months.of(now.timestamp()))[1], dt.UTC)
    left_s = int((ends - now).total_seconds())
    return Projection(
        units=used + int(units_a_second * left_s),
        cost=cost + cost_a_second * left_s,
        units_a_day=int(units_a_second * DAY_S),
        cost_a_day=cost_a_second * DAY_S,
        days=max(1, round(elapsed / LEAST)),
        quota_reached_at=_reached(now, ends, Decimal(month_limit - used), units_a_second),
        budget_reached_at=None if budget is None else _reached(now, ends, budget - cost, cost_a_second),
    )


def _reached(now: dt.datetime, ends: dt.datetime, left: Decimal, a_second: Decimal) -> dt.datetime | None:
    if left <= 0 or a_second <= 0:
        return None
    seconds = left / a_second
    return now + dt.timedelta(seconds=math.ceil(seconds)) if seconds < (ends - now).total_seconds() else None
