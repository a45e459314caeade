"""What the dashboard's overview tells of an organization, in a handful of queries however much it has done.

Days are UTC's. Everything but the counters of the minute and the month comes from hourly sums and monthly totals, and
from the newest records by their index: nothing is counted.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.contrib.postgres.aggregates import JSONBAgg
from django.db.models import CharField, F, JSONField, Q, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from accounts.models import ApiKey, Organization
from billing import months, plans
from billing.models import STARTER, Plan, UsageMonth, UsageRecord
from billing.reports import live, receipts, timeseries
from billing.rollup_models import UsageHourOfAllKeys
from helixflow.lib import clock

RECENT: Final = 10
HOURS: Final = 24  # in the charts


@dataclass(frozen=True, slots=True)
class Sums:
    """``tokens``: prompts and answers."""

    requests: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)
    errors: int = 0

    def plus(self, hour: timeseries.Sums, share: float = 1.0) -> "Sums":
        """``share`` of the hour, as if it had been even."""
        return Sums(
            self.requests + round(hour.requests * share),
            self.tokens + round((hour.prompt_tokens + hour.completion_tokens) * share),
            self.cost + hour.cost * Decimal(share).quantize(Decimal("0.0001")),
            self.errors + round(sum(hour.failures.values()) * share),
        )


@dataclass(frozen=True, slots=True)
class Hour:
    """``p50`` and ``p95`` in milliseconds, None where nothing was."""

    start: datetime
    sums: Sums
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Activity:
    """``by_now``: of yesterday, up to this time of day. ``duration`` and ``first_token``: p50, p95 and p99 of the last
    24 hours in milliseconds, None where nothing was. ``hours``: the last 24, the running one among them.
    """

    today: Sums
    yesterday: Sums
    by_now: Sums
    duration: dict[str, float] | None
    first_token: dict[str, float] | None
    hours: list[Hour]


@dataclass(frozen=True, slots=True)
class Standing:
    """``minute_used`` and ``parallel`` are None while Redis can't tell. ``cost``: this month's."""

    plan: str
    minute_limit: int
    minute_used: int | None
    minute_resets_at: datetime
    month_limit: int
    month_used: int
    month_resets_at: datetime
    max_parallel: int | None
    parallel: int | None
    budget: Decimal | None
    cost: Decimal
    requests: int  # of this month, those that gave their unit back among them


@dataclass(frozen=True, slots=True)
class Recent:
    record: UsageRecord
    key: ApiKey | None


def standing(organization_id: uuid.UUID) -> Standing:
    """The minute, the month and the money. Two queries, and Redis, without which it still answers."""
    counters = live.read_if_there(organization_id)
    now = counters.now if counters else int(clock.now().timestamp())
    month = counters.month if counters else months.of(now)
    counted = counters.counted if counters else None
    terms = _terms(organization_id)
    ledger = UsageMonth.objects.filter(organization_id=organization_id, month=months.first_day(month)).aggregate(
        requests=Sum("requests", default=0), units=Sum("units", default=0), cost=Sum("cost", default=Decimal(0))
    )
    return Standing(
        plan=terms["plan"],
        minute_limit=terms["requests_per_minute"],
        minute_used=counters.minute_used if counters else None,
        minute_resets_at=datetime.fromtimestamp(now - now % 60 + 60, UTC),
        month_limit=terms["requests_per_month"],
        month_used=counted.used if counted else int(ledger["units"]),
        month_resets_at=datetime.fromtimestamp(months.bounds(month)[1], UTC),
        max_parallel=terms["max_parallel"],
        parallel=counters.parallel if counters else None,
        budget=terms["budget"],
        cost=ledger["cost"],
        requests=int(ledger["requests"]),
    )


def activity(organization_id: uuid.UUID) -> Activity:
    """Today beside yesterday, and the last 24 hours. One query."""
    now = clock.now()
    today = timeseries.floor(now, timeseries.DAY)
    yesterday = today - timedelta(days=1)
    shown = [timeseries.floor(now, timeseries.HOUR) - timedelta(hours=back) for back in reversed(range(HOURS))]
    hours = _hours(organization_id, yesterday, timed_from=shown[0])
    running = shown[-1] - timedelta(days=1)
    so_far = (now - timedelta(days=1) - running) / timedelta(hours=1)
    days = {today: Sums(), yesterday: Sums()}
    by_now = Sums()
    for start, hour in hours.items():
        day = timeseries.floor(start, timeseries.DAY)
        days[day] = days[day].plus(hour)
        if start < running:
            by_now = by_now.plus(hour)
        elif start == running:
            by_now = by_now.plus(hour, so_far)
    total = timeseries.Sums()
    for start in shown:
        total.add(hours.get(start, timeseries.Sums()))
    return Activity(
        today=days[today],
        yesterday=days[yesterday],
        by_now=by_now,
        duration=total.quantiles(total.duration_digits),
        first_token=total.quantiles(total.first_token_digits),
        hours=[_hour(start, hours.get(start, timeseries.Sums())) for start in shown],
    )


def recent(organization_id: uuid.UUID) -> list[Recent]:
    """The newest requests, with their keys. Two queries."""
    records = list(receipts.search(organization_id).order_by("-id")[:RECENT])
    wanted = {record.api_key_id for record in records}
    keys = {key.id: key for key in ApiKey.objects.filter(organization_id=organization_id, id__in=wanted)}
    return [Recent(record, keys.get(record.api_key_id)) for record in records]


def _hours(organization_id: uuid.UUID, since: datetime, *, timed_from: datetime) -> dict[datetime, timeseries.Sums]:
    """All keys and models together. Times are added up only where they are shown: they are most of the work."""
    timed = Q(hour__gte=timed_from)
    rows = (
        UsageHourOfAllKeys.objects.filter(organization_id=organization_id, hour__gte=since)
        .values("hour")
        .order_by()
        .annotate(
            total_requests=Sum("requests"),
            total_prompt=Sum("prompt_tokens"),
            total_completion=Sum("completion_tokens"),
            total_cost=Sum("cost"),
            total_duration=Sum("duration_digits", filter=timed, default=Decimal(0)),
            total_first_token=Sum("first_token_digits", filter=timed, default=Decimal(0)),
            all_failures=JSONBAgg("failures", filter=~Q(failures={}), default=Value([], JSONField())),
        )
    )
    return {
        row["hour"]: timeseries.Sums(
            requests=int(row["total_requests"]),
            prompt_tokens=int(row["total_prompt"]),
            completion_tokens=int(row["total_completion"]),
            cost=row["total_cost"],
            duration_digits=row["total_duration"],
            first_token_digits=row["total_first_token"],
            failures={"": sum(times for each in row["all_failures"] for times in each.values())},
        )
        for row in rows
    }


def _hour(start: datetime, hour: timeseries.Sums) -> Hour:
    found = hour.quantiles(hour.duration_digits) or {}
    return Hour(start, Sums().plus(hour), found.get("p50"), found.get("p95"))


def _terms(organization_id: uuid.UUID) -> dict[str, Any]:
    starter = Subquery(Plan.objects.filter(slug=STARTER).values("name")[:1])
    terms = plans.limit_expressions() | {
        "plan": Coalesce("subscription__plan__name", starter, Value("Starter"), output_field=CharField()),
        "max_parallel": F("subscription__max_parallel"),
        "budget": F("subscription__monthly_budget"),
    }
    found: dict[str, Any] = Organization.objects.filter(id=organization_id).annotate(**terms).values(*terms).get()
    return found
