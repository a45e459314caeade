"""What is shown of the days: bars, shares of time, and how each component does now.

Read from PostgreSQL at most every few seconds in each process. With PostgreSQL away the last reading stays, since this
is the page that people open then.
"""

import datetime as dt
import logging
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from helixflow.lib import charts
from helixflow.models import Incident, State, StatusDay
from helixflow.status.components import COMPONENTS, MODEL

logger = logging.getLogger(__name__)

DAYS: Final = 90
FRESH_S: Final = 5.0
LATE: Final = dt.timedelta(minutes=5)  # after which what a probe found says nothing of now
INCIDENTS: Final = 20  # shown with their updates; the feed's as well
MOST_MODELS: Final = 100
UNKNOWN: Final = "unknown"
_BARS: Final = {State.OPERATIONAL: charts.OK, State.DEGRADED: charts.DEGRADED, State.DOWN: charts.DOWN}
_BAD_DAY: Final = 0.02  # down for so much of it: half an hour


@dataclass(frozen=True, slots=True)
class Day:
    """``state`` None: not a single check. ``uptime``: the share of checks that did not find it down."""

    date: dt.date
    state: State | None
    uptime: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """One component: now, and its last ninety days, oldest first."""

    key: str
    name: str
    what: str
    state: str
    checked_at: dt.datetime | None
    days: list[Day]

    @property
    def bars(self) -> charts.Days:
        return charts.days([_bar(day) for day in self.days], title=f"{self.name}, the last {len(self.days)} days")

    @property
    def uptime(self) -> float | None:
        """Of all days on which it was looked at, each counting the same."""
        known = [day.uptime for day in self.days if day.uptime is not None]
        return sum(known) / len(known) if known else None

    @property
    def share(self) -> str:
        """``uptime`` in words; empty if nothing is known."""
        return "" if self.uptime is None else share(self.uptime)

    @property
    def days_known(self) -> int:
        return sum(day.uptime is not None for day in self.days)


@dataclass(frozen=True, slots=True)
class Status:
    """``read_at`` None: nothing is known, as PostgreSQL was away from the start."""

    components: list[Standing] = field(default_factory=list)
    models: list[Standing] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    read_at: dt.datetime | None = None

    @property
    def open(self) -> list[Incident]:
        return [each for each in self.incidents if each.is_open]

    @property
    def announced(self) -> list[Incident]:
        return sorted((each for each in self.incidents if each.is_announced), key=lambda each: each.starts_at)

    @property
    def past(self) -> list[Incident]:
        return [each for each in self.incidents if not each.is_open and not each.is_announced]


class _Keeper:
    """One reading at a time; who comes meanwhile gets the one before."""

    def __init__(self) -> None:
        self._status = Status()
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def get(self) -> Status:
        if time.monotonic() - self._read_at > FRESH_S and self._lock.acquire(blocking=self._status.read_at is None):
            try:
                self._status = read()
            except DatabaseError as error:
                connection.close()
                logger.warning("the days of the status page can't be read: %s", str(error).partition("\n")[0])
            finally:
                self._read_at = time.monotonic()
                self._lock.release()
        return self._status

    def forget(self) -> None:
        self._status, self._read_at = Status(), float("-inf")


keeper = _Keeper()
current = keeper.get


def unread() -> list[Standing]:
    """The components, with nothing known of them."""
    now = timezone.now()
    return [_standing(each.key, each.name, each.what, {}, now) for each in COMPONENTS]


def unread_model(name: str) -> Standing:
    return _standing(f"{MODEL}{name}", name, "", {}, timezone.now())


def read() -> Status:
    """Raises django.db.Error."""
    now = timezone.now()
    since = now.date() - dt.timedelta(days=DAYS - 1)
    rows: dict[str, dict[dt.date, StatusDay]] = {}
    for row in StatusDay.objects.filter(day__gte=since).order_by("component", "day"):
        rows.setdefault(row.component, {})[row.day] = row
    fixed = [_standing(each.key, each.name, each.what, rows.get(each.key, {}), now) for each in COMPONENTS]
    names = sorted(key.removeprefix(MODEL) for key, days in rows.items() if _is_offered(key, days, now))
    return Status(
        components=fixed,
        models=[_standing(f"{MODEL}{name}", name, "", rows[f"{MODEL}{name}"], now) for name in names[:MOST_MODELS]],
        incidents=list(Incident.objects.latest_first()[:INCIDENTS]),
        read_at=now,
    )


def _is_offered(key: str, days: dict[dt.date, StatusDay], now: dt.datetime) -> bool:
    """A model that the last rounds did not meet any more is no longer offered."""
    return key.startswith(MODEL) and now - max(row.checked_at for row in days.values()) < dt.timedelta(days=1)


def _standing(key: str, name: str, what: str, rows: dict[dt.date, StatusDay], now: dt.datetime) -> Standing:
    last = rows[max(rows)] if rows else None
    is_late = last is None or now - last.checked_at > LATE
    return Standing(
        key=key,
        name=name,
        what=what,
        state=UNKNOWN if last is None or is_late else last.state,
        checked_at=last.checked_at if last else None,
        days=[_day(day, rows.get(day)) for day in _last_days(now.date())],
    )


def _last_days(today: dt.date) -> Iterable[dt.date]:
    return (today - dt.timedelta(days=back) for back in range(DAYS - 1, -1, -1))


def _bar(day: Day) -> charts.Day:
    label = f"{day.date:%-d %B %Y}"
    if day.state is None or day.uptime is None:
        return charts.Day(charts.UNKNOWN, label, "not measured")
    return charts.Day(_BARS[day.state], label, f"{share(day.uptime)} up")


def share(uptime: float) -> str:
    """In percent, rounded down: what was down for a minute is not 100%."""
    return f"{math.floor(uptime * 10_000) / 100:g}%"


def _day(day: dt.date, row: StatusDay | None) -> Day:
    if row is None or not row.checks:
        return Day(day, None)
    uptime = 1 - row.down / row.checks
    if row.down / row.checks > _BAD_DAY:
        return Day(day, State.DOWN, uptime)
    return Day(day, State.DEGRADED if row.down or row.degraded > 1 else State.OPERATIONAL, uptime)
