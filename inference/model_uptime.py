"""How models have been doing over the last day, for everybody who may call them (docs/playground.md).

Counted over all organizations together, so only shares are shown. The sums are kept in the cache for a minute or two:
adding them up looks at every hour of every organization.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.cache import cache
from django.utils import timezone
from redis import RedisError

from billing.reports import reliability
from billing.reports.reliability import Counted
from helixflow.lib import charts

logger = logging.getLogger(__name__)

HOURS: Final = 24
CACHE_KEY: Final = "model-uptime"
KEPT_S: Final = 120
WELL: Final = 0.995
POORLY: Final = 0.95
WORDS: Final = {
    charts.OK: "fine",
    charts.DEGRADED: "some failed",
    charts.DOWN: "many failed",
    charts.UNKNOWN: "no calls",
}


@dataclass(frozen=True, slots=True)
class Hour:
    """``uptime``: the share that was answered; None: nobody asked."""

    at: datetime
    uptime: float | None

    @property
    def state(self) -> str:
        return state_of(self.uptime)

    @property
    def text(self) -> str:
        return f"{shown(self.uptime)}, {WORDS[self.state]}" if self.uptime is not None else WORDS[self.state]


@dataclass(frozen=True, slots=True)
class Uptime:
    """``hours``: the last 24, oldest first, the one that is running last."""

    uptime: float | None
    hours: tuple[Hour, ...]

    @property
    def state(self) -> str:
        return state_of(self.uptime)

    @property
    def text(self) -> str:
        return "" if self.uptime is None else shown(self.uptime)

    @property
    def chart(self) -> charts.Days:
        bars = [charts.Day(hour.state, f"{hour.at.day} {hour.at:%b, %H:%M} UTC", hour.text) for hour in self.hours]
        return charts.days(bars, title="Answered, hour by hour over the last day")


def all_models() -> dict[str, Uptime]:
    """By name, of those that anybody called. Nothing while the cache is away: pages do without."""
    try:
        sums = cache.get(CACHE_KEY)
        if sums is None:
            sums = measure()
    except RedisError as error:
        logger.warning("how models have been doing is not known: %s", error)
        return {}
    now = timezone.now()
    return {name: _uptime(counted, now) for name, counted in sums.items()}


def measure() -> dict[str, dict[datetime, Counted]]:
    """Adds up anew, and keeps it for the pages."""
    sums = {name: dict(hours) for name, hours in reliability.by_model(_first_hour(timezone.now())).items()}
    cache.set(CACHE_KEY, sums, KEPT_S)
    return sums


def unknown() -> Uptime:
    """Of a model that nobody called."""
    return _uptime({}, timezone.now())


def state_of(uptime: float | None) -> str:
    if uptime is None:
        return charts.UNKNOWN
    if uptime >= WELL:
        return charts.OK
    return charts.DEGRADED if uptime >= POORLY else charts.DOWN


def shown(uptime: float) -> str:
    """Rounded down: one failure in a thousand is no 100%."""
    return "100%" if uptime == 1 else f"{int(uptime * 1000) / 10:.1f}%"


def _first_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)


def _uptime(counted: dict[datetime, Any], now: datetime) -> Uptime:
    moments = [_first_hour(now) + timedelta(hours=hour) for hour in range(HOURS)]
    found = [Counted(*counted.get(moment, (0, 0))) for moment in moments]
    hours = tuple(Hour(moment, _share([each])) for moment, each in zip(moments, found, strict=True))
    return Uptime(_share(found), hours)


def _share(counted: list[Counted]) -> float | None:
    requests = sum(each.requests for each in counted)
    return 1 - sum(each.faults for each in counted) / requests if requests else None
