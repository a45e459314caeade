"""What support sees of an organization on one page of the admin site. Read here, shown by ``billing.admin_desk``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, OuterRef

from accounts.models import AuditEvent, Membership, Organization
from accounts.two_factor_models import TwoFactor
from billing import grants, projection, subscriptions
from billing.models import FAILED, Subscription, UsageRecord
from billing.plan_models import QuotaGrant, UpgradeRequest
from billing.reports import standing, usage
from helixflow.lib import clock, ids
from webhooks.models import Delivery

KEYS: Final = 12
MEMBERS: Final = 12
ERRORS: Final = 10
DELIVERIES: Final = 10
AUDIT: Final = 12
GRANTS: Final = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """``percent`` is None where nothing is known, or there is no limit, which is empty then."""

    label: str
    used: str
    limit: str
    percent: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    organization: Organization
    subscription: Subscription
    used: usage.Usage
    bars: list[Bar]
    projected: projection.Projection | None
    keys: list[usage.OfKey]
    more_keys: int
    members: list[Membership]
    more_members: bool
    errors: list[tuple[UsageRecord, str]]
    deliveries: list[Delivery]
    audit: list[AuditEvent]
    grants: list[QuotaGrant]
    upgrade: UpgradeRequest | None
    currency: str


def of(organization: Organization) -> Desk:
    """About a dozen queries, whatever the organization has. Raises django.db.Error."""
    organization = Organization.objects.select_related("subscription__plan").get(id=organization.id)
    used = usage.current(organization.id)
    keys = sorted(used.keys, key=lambda each: each.used, reverse=True)
    members = _members(organization)
    return Desk(
        organization=organization,
        subscription=subscriptions.known(organization),
        used=used,
        bars=_bars(used),
        projected=projection.of(
            organization,
            now=clock.now(),
            used=used.used,
            cost=used.cost,
            month_limit=used.month_limit,
            budget=used.budget,
        ),
        keys=keys[:KEYS],
        more_keys=max(0, len(keys) - KEYS),
        members=members[:MEMBERS],
        more_members=len(members) > MEMBERS,
        errors=_errors(organization, keys),
        deliveries=_deliveries(organization),
        audit=list(AuditEvent.objects.filter(organization_id=organization.id).order_by("-id")[:AUDIT]),
        grants=list(grants.of(organization, used.month).select_related("granted_by")[:GRANTS]),
        upgrade=_open_request(organization),
        currency=settings.CURRENCY,
    )


def _bars(used: usage.Usage) -> list[Bar]:
    unknown = "counters out of reach" if used.minute_used is None else ""
    found = [
        _bar("This minute", used.minute_used, used.minute_limit, unknown),
        _bar("This month", used.used, used.month_limit, "" if used.source == usage.LIVE else "from the ledger"),
        _bar("Budget", used.cost, used.budget, "" if used.budget is not None else "no budget"),
    ]
    if used.max_parallel is not None:
        found.append(_bar("Under way", used.parallel, used.max_parallel, unknown))
    return found


def _bar(label: str, used: Any, limit: Any, note: str) -> Bar:
    percent = None if used is None or limit is None else 100 if not limit else min(100, round(100 * used / limit))
    return Bar(label, "?" if used is None else standing.with_unit(used), standing.with_unit(limit), percent, note)


def _members(organization: Organization) -> list[Membership]:
    """Owners first; one more than are shown."""
    second = TwoFactor.objects.filter(user=OuterRef("user")).exclude(confirmed_at=None)
    found = organization.memberships.select_related("user").annotate(has_two_factor=Exists(second))
    return sorted(found.order_by("-role", "created_at")[: MEMBERS + 1], key=lambda each: each.role != "owner")


def _errors(organization: Organization, keys: Sequence[usage.OfKey]) -> list[tuple[UsageRecord, str]]:
    """The latest requests that failed, and under which key."""
    names = {each.key.id: each.key.name for each in keys}
    records = UsageRecord.objects.filter(FAILED, organization=organization).order_by("-id")[:ERRORS]
    return [
        (record, names.get(record.api_key_id) or ids.public_id(ids.API_KEY, record.api_key_id)) for record in records
    ]


def _deliveries(organization: Organization) -> list[Delivery]:
    rows = Delivery.objects.filter(organization=organization).select_related("event", "endpoint")
    return list(rows.order_by("-id")[:DELIVERIES])


def _open_request(organization: Organization) -> UpgradeRequest | None:
    found = UpgradeRequest.objects.filter(organization=organization, state=UpgradeRequest.State.OPEN)
    return found.select_related("plan", "requested_by").first()
