"""Calendar months in UTC, as the number 202611: what quotas and budgets are counted in. Pure."""

from calendar import timegm
from datetime import UTC, date, datetime
from functools import lru_cache


def of(epoch_s: float) -> int:
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.year * 100 + moment.month


@lru_cache(maxsize=64)
def bounds(month: int) -> tuple[int, int]:
    """The month's first second and the next month's, in epoch seconds."""
    year, number = divmod(month, 100)
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return timegm((year, number, 1, 0, 0, 0)), timegm((*following, 1, 0, 0, 0))


def first_day(month: int) -> date:
    """As rows have it."""
    return date(month // 100, month % 100, 1)


def of_day(day: date) -> int:
    return day.year * 100 + day.month
