"""What a growing ledger has to tell beside completions: a month's quota runs low, a key meets a rate limit."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from accounts.models import Organization
from billing import events, months, plans
from helixflow.lib import clock, ids
from webhooks.models import EventType
from webhooks.services import Happening

PERCENTS: Final = (80, 95)
RATE_LIMITS: Final = frozenset({"minute", "key_minute", "parallel"})  # the others are quotas and budgets
MOST_TOLD: Final = 100_000

# Dedupe keys that are known to be committed. An organization past 80% stays there for days; without this each of its
# batches would ask PostgreSQL again.
_told: set[str] = set()


def low(changes: Mapping[tuple[UUID, date], tuple[int, int]]) -> list[Happening]:
    """(organization, month) → units of its quota used before and after the batch.

    ``quota.low`` once each at 80% and 95% of the quota in force, also where a smaller plan made it low: what
    ``remember`` was not told of yet. One query a batch, two around the turn of a month.
    """
    grown = {key: after for key, (before, after) in changes.items() if after > before}
    if not grown:
        return []
    limits = _monthly_limits(grown)
    return [
        happening
        for (organization_id, month), used in grown.items()
        for happening in _reached(organization_id, month, used, limits.get((organization_id, month), 0))
    ]


def remember(happenings: Iterable[Happening]) -> None:
    """Once they are committed."""
    if len(_told) > MOST_TOLD:
        _told.clear()
    _told.update(happening.dedupe_key for happening in happenings if happening.dedupe_key)


def exceeded(refusals: Iterable[events.Refused]) -> list[Happening]:
    """``rate_limit.exceeded``, at most once for a key and minute: with what is known of it by then.

    ``refusals`` are those that are written for the first time.
    """
    by_minute: dict[tuple[UUID, int], list[events.Refused]] = defaultdict(list)
    for refusal in refusals:
        if refusal.reason in RATE_LIMITS:
            by_minute[refusal.api_key_id, refusal.minute].append(refusal)
    return list(map(_exceeded, by_minute.values()))


def _monthly_limits(grown: Iterable[tuple[UUID, date]]) -> dict[tuple[UUID, date], int]:
    by_month: dict[date, set[UUID]] = defaultdict(set)
    for organization_id, month in grown:
        by_month[month].add(organization_id)
    found = {}
    for month, organization_ids in by_month.items():
        limits = plans.limit_expressions(month=months.of_day(month))
        rows = Organization.objects.filter(id__in=organization_ids).annotate(**limits)
        for row in rows.only("id"):
            found[row.id, month] = row.requests_per_month  # type: ignore[attr-defined]  # annotated
    return found


def _reached(organization_id: UUID, month: date, used: int, limit: int) -> Iterator[Happening]:
    """Without a limit the organization is gone, or may use nothing."""
    for percent in PERCENTS:
        dedupe_key = f"{EventType.QUOTA_LOW}:{organization_id.hex}:{month:%Y%m}:{percent}"
        if 0 < limit * percent <= used * 100 and dedupe_key not in _told:
            data = {
                "organization_id": ids.public_id(ids.ORGANIZATION, organization_id),
                "threshold": percent,
                "limit": limit,
                "used": used,
                "remaining": max(0, limit - used),
                "resets_at": clock.rfc3339(_end(month)),
                "month": f"{month:%Y-%m}",
            }
            yield Happening(organization_id, EventType.QUOTA_LOW, data, dedupe_key)


def _exceeded(refusals: list[events.Refused]) -> Happening:
    """One key's of one minute. Of several limits that it met, the one that turned most away."""
    worst = max(refusals, key=lambda refusal: refusal.count)
    data = {
        "organization_id": ids.public_id(ids.ORGANIZATION, worst.organization_id),
        "api_key_id": ids.public_id(ids.API_KEY, worst.api_key_id),
        "limit": worst.limit,
        "reason": worst.reason,
        "minute": clock.rfc3339(datetime.fromtimestamp(worst.minute * 60, UTC)),
        "count": sum(refusal.count for refusal in refusals),
    }
    dedupe_key = f"{EventType.RATE_LIMIT_EXCEEDED}:{worst.api_key_id.hex}:{worst.minute}"
    return Happening(
        worst.organization_id, EventType.RATE_LIMIT_EXCEEDED, data, dedupe_key, api_key_id=worst.api_key_id
    )


def _end(month: date) -> datetime:
    following = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
    return datetime(following.year, following.month, 1, tzinfo=UTC)
