"""Mails that a month's quota or budget is being used up: once for each month and threshold.

Looked for once a minute among the months' sums (``watch``): what admission and the meter do for each request stays as
cheap as it was, and an alert a minute late is early enough. A threshold that was reached is a row, and its mail is sent
from there until a mail server took it.
"""

import datetime as dt
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import Membership, Organization, Role, User
from billing import months, plans
from billing.models import UsageMonth
from billing.plan_models import MAX_PERCENTS, PERCENTS, Alert, AlertSettings
from helixflow.lib import errors

AT_ONCE: Final = 500  # organizations looked at together
UNDER_WAY: Final = dt.timedelta(minutes=20)  # longer than all tries of one mail
GIVE_UP: Final = dt.timedelta(days=2)
MOST: Final = 100  # mails queued at once
MAX_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class _Standing:
    organization_id: uuid.UUID
    kind: str
    limit: Decimal
    used: Decimal


def of(organization: Organization) -> AlertSettings:
    """The organization's, or a row with the defaults that is not saved."""
    return AlertSettings.objects.filter(organization=organization).first() or AlertSettings(organization=organization)


def change(
    *,
    organization: Organization,
    user: User,
    quota_percents: Collection[int],
    budget_percents: Collection[int],
    recipients: Collection[uuid.UUID] | None,
) -> AlertSettings:
    """``recipients`` are owners and admins; None: all of them. Raises InvalidRequest."""
    wanted = {
        "quota_percents": _clean_percents(quota_percents, "quota_percents"),
        "budget_percents": _clean_percents(budget_percents, "budget_percents"),
        "recipient_ids": None if recipients is None else sorted(set(recipients)),
    }
    if recipients is not None:
        allowed = set(managers(organization).values_list("user_id", flat=True))
        if not wanted["recipient_ids"] or set(recipients) - allowed:
            message = "Choose at least one of the organization's owners and admins."
            raise errors.InvalidRequest(message, param="recipients", details={"recipients": message})
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(id=organization.id)
        current = of(organization)
        before = {name: getattr(current, name) for name in wanted}
        if before == wanted:
            return current
        saved, _ = AlertSettings.objects.update_or_create(organization=organization, defaults=wanted)
        audit.record(
            "plan.alerts_changed",
            organization=organization,
            user=user,
            target=organization.public_id,
            summary="changed the alerts of quota and budget",
            changes={name: (before[name], value) for name, value in wanted.items() if before[name] != value},
        )
    return saved


def managers(organization: Organization) -> QuerySet[Membership]:
    roles = (Role.OWNER, Role.ADMIN)
    members = Membership.objects.filter(organization=organization, role__in=roles, user__is_active=True)
    return members.select_related("user").order_by("created_at", "id")


def addresses(organization: Organization) -> list[str]:
    """Whom alerts are sent to: those chosen that still manage the organization, and where none does all who do."""
    members = list(managers(organization))
    chosen = of(organization).recipient_ids
    named = [member for member in members if chosen is None or member.user_id in chosen]
    return [member.user.email for member in named or members]


def watch() -> int:
    """Write down what has been reached this month; how many thresholds are new. Running it twice finds nothing more."""
    day = timezone.now().date().replace(day=1)
    users = UsageMonth.objects.filter(month=day).order_by("organization_id").values_list("organization_id", flat=True)
    found = 0
    batch: list[uuid.UUID] = []
    for organization_id in users.distinct().iterator(chunk_size=AT_ONCE):
        batch.append(organization_id)
        if len(batch) == AT_ONCE:
            found += _watch_some(batch, day)
            batch = []
    return found + (_watch_some(batch, day) if batch else 0)


def due() -> list[uuid.UUID]:
    """Alerts whose mail is to be queued now; each is claimed, so that two that ask don't both send it."""
    now = timezone.now()
    waiting = Alert.objects.filter(sent_at=None, created_at__gt=now - GIVE_UP)
    waiting = waiting.filter(Q(queued_at=None) | Q(queued_at__lt=now - UNDER_WAY))
    found = waiting.order_by("created_at").values_list("id", flat=True)[:MOST]
    return [alert_id for alert_id in found if waiting.filter(id=alert_id).update(queued_at=now)]


def _watch_some(organization_ids: list[uuid.UUID], day: dt.date) -> int:
    chosen = AlertSettings.objects.in_bulk(organization_ids)
    reached = []
    for standing in _standings(organization_ids, day):
        settings = chosen.get(standing.organization_id)
        percents: Collection[int] = getattr(settings, f"{standing.kind}_percents") if settings else PERCENTS
        reached += [(standing, percent) for percent in percents if _is_reached(standing, percent)]
    if not reached:
        return 0
    known = set(
        Alert.objects.filter(
            month=day, organization_id__in={standing.organization_id for standing, _ in reached}
        ).values_list("organization_id", "kind", "percent")
    )
    new = [each for each in reached if (each[0].organization_id, each[0].kind, each[1]) not in known]
    Alert.objects.bulk_create(list(_rows(new, day)), ignore_conflicts=True)
    return len(new)


def _rows(reached: list[tuple[_Standing, int]], day: dt.date) -> Iterator[Alert]:
    """Of several reached at once only the highest is told."""
    highest: dict[tuple[uuid.UUID, str], int] = {}
    for standing, percent in reached:
        whose = (standing.organization_id, standing.kind)
        highest[whose] = max(percent, highest.get(whose, 0))
    now = timezone.now()
    for standing, percent in reached:
        told = highest[standing.organization_id, standing.kind] == percent
        yield Alert(
            organization_id=standing.organization_id,
            month=day,
            kind=standing.kind,
            percent=percent,
            limit=standing.limit,
            used=standing.used,
            created_at=now,
            sent_at=None if told else now,
        )


def _standings(organization_ids: list[uuid.UUID], day: dt.date) -> Iterator[_Standing]:
    sums = UsageMonth.objects.filter(month=day, organization_id__in=organization_ids).values("organization_id")
    used = {row["organization_id"]: row for row in sums.annotate(of_quota=Sum("units"), spent=Sum("cost")).order_by()}
    limits: dict[str, Any] = plans.limit_expressions(month=months.of_day(day))
    rows = Organization.objects.filter(id__in=used).annotate(**limits, budget=F("subscription__monthly_budget"))
    for row in rows.values("id", "requests_per_month", "budget"):
        mine = used[row["id"]]
        yield _Standing(row["id"], Alert.Kind.QUOTA, Decimal(row["requests_per_month"]), Decimal(mine["of_quota"]))
        if row["budget"] is not None:
            yield _Standing(row["id"], Alert.Kind.BUDGET, row["budget"], mine["spent"])


def _is_reached(standing: _Standing, percent: int) -> bool:
    """A limit of zero lets nothing in: nobody has to be told that it is used up."""
    return 0 < standing.limit * percent <= standing.used * 100


def _clean_percents(percents: Collection[int], name: str) -> list[int]:
    if len(set(percents)) > MAX_PERCENTS or any(not 1 <= percent <= MAX_PERCENT for percent in percents):
        message = f"Up to {MAX_PERCENTS} percentages from 1 to {MAX_PERCENT}."
        raise errors.InvalidRequest(message, param=name, details={name: message})
    return sorted(set(percents))
