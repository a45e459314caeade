"""An organization's usage of the current minute and month, beside its limits (docs/usage-api.md).

What was used is read from the counters that admission goes by, where Redis has them, else from the ledger. Requests,
tokens and money are always the ledger's: they are known when a request has ended and the meter has written it down.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, Q, Sum

from accounts.models import ApiKey, Organization
from billing import months, plans
from billing.models import KeyLimits, UsageMonth
from billing.reports import live
from billing.rollup_models import UsageDay

LIVE: Final = "live"
LEDGER: Final = "ledger"


@dataclass(frozen=True, slots=True)
class Tokens:
    """``cached`` ones are part of the prompt."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class OfKey:
    """``minute_used`` is None while Redis can't tell; ``limits`` where the key has some of its own."""

    key: ApiKey
    limits: KeyLimits | None
    minute_used: int | None
    used: int
    requests: int
    tokens: Tokens
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """Times in epoch seconds. ``minute_used`` and ``parallel`` are None while Redis can't tell."""

    month: int
    source: str  # of ``used``
    minute_limit: int
    minute_used: int | None
    minute_resets_at: int
    month_limit: int
    used: int
    max_parallel: int | None
    parallel: int | None
    budget: Decimal | None
    requests: int
    tokens: Tokens
    cost: Decimal
    keys: list[OfKey]


def current(organization_id: uuid.UUID) -> Usage:
    """Raises django.db.Error. Without Redis it still answers."""
    counters = live.read_if_there(organization_id)
    now, month = (counters.now, counters.month) if counters else (int(time.time()), months.of(time.time()))
    counted = counters.counted if counters else None
    terms = _terms(organization_id, month)
    ledger = {row.api_key_id: row for row in _months(organization_id, month)}
    tokens = _tokens(organization_id, month)

    def of_key(key: ApiKey) -> OfKey:
        row = ledger.get(key.id) or UsageMonth()
        return OfKey(
            key=key,
            limits=getattr(key, "limits", None),
            minute_used=counters.minute_used_by_key.get(key.id, 0) if counters else None,
            used=counted.used_by_key.get(key.id, 0) if counted else row.units,
            requests=row.requests,
            tokens=tokens.get(key.id, Tokens()),
            cost=row.cost,
        )

    return Usage(
        month=month,
        source=LIVE if counted else LEDGER,
        minute_limit=terms["requests_per_minute"],
        minute_used=counters.minute_used if counters else None,
        minute_resets_at=now - now % 60 + 60,
        month_limit=terms["requests_per_month"],
        used=counted.used if counted else sum(row.units for row in ledger.values()),
        max_parallel=terms["max_parallel"],
        parallel=counters.parallel if counters else None,
        budget=terms["budget"],
        requests=sum(row.requests for row in ledger.values()),
        tokens=Tokens(
            prompt=sum(each.prompt for each in tokens.values()),
            cached=sum(each.cached for each in tokens.values()),
            completion=sum(each.completion for each in tokens.values()),
        ),
        cost=sum((row.cost for row in ledger.values()), Decimal(0)),
        keys=[of_key(key) for key in _keys(organization_id, set(ledger))],
    )


def _terms(organization_id: uuid.UUID, month: int) -> dict[str, Any]:
    caps = {"max_parallel": F("subscription__max_parallel"), "budget": F("subscription__monthly_budget")}
    terms = plans.limit_expressions(month=month) | caps
    found: dict[str, Any] = Organization.objects.filter(id=organization_id).annotate(**terms).values(*terms).get()
    return found


def _months(organization_id: uuid.UUID, month: int) -> list[UsageMonth]:
    return list(UsageMonth.objects.filter(organization_id=organization_id, month=months.first_day(month)))


def _keys(organization_id: uuid.UUID, used: set[uuid.UUID]) -> list[ApiKey]:
    """Newest first: those that may be used, and those that were this month."""
    keys = ApiKey.objects.filter(organization_id=organization_id).filter(Q(revoked_at=None) | Q(id__in=used))
    return list(keys.select_related("limits").order_by("-id"))


def _tokens(organization_id: uuid.UUID, month: int) -> dict[uuid.UUID, Tokens]:
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in months.bounds(month))
    rows = (
        UsageDay.objects.filter(organization_id=organization_id, hour__gte=begins, hour__lt=ends)
        .values("api_key_id")
        .annotate(prompt=Sum("prompt_tokens"), cached=Sum("cached_tokens"), completion=Sum("completion_tokens"))
        .order_by()
    )
    return {row["api_key_id"]: Tokens(int(row["prompt"]), int(row["cached"]), int(row["completion"])) for row in rows}
