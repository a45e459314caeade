"""What can be done to a subscription: change its plan, cap it, end it.

Each change locks the organization's row first, so that changes of one organization queue up instead of crossing,
writes its line of history, and bumps the generation in the same transaction: the next request is held to it, in every
process. What changes nothing leaves no line.
"""

from decimal import Decimal
from typing import Any, Final, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone

from accounts import audit, generation
from accounts.models import Organization, User
from billing import validation
from billing.models import STARTER, STARTER_PER_MINUTE, STARTER_PER_MONTH, Plan, Subscription, SubscriptionChange
from helixflow.lib import errors

LIMITS: Final = ("requests_per_minute", "requests_per_month")
TERMS: Final = ("plan", *LIMITS, "max_parallel", "monthly_budget")


class Caps(TypedDict, total=False):
    """What no plan has. None: no cap."""

    max_parallel: int | None
    monthly_budget: Decimal | None


def change(
    *,
    organization: Organization,
    plan: Plan,
    user: User | None,
    requests_per_minute: int | None = None,
    requests_per_month: int | None = None,
    **caps: Unpack[Caps],
) -> Subscription:
    """Puts the organization on ``plan``, with numbers of its own where they are given, else with the plan's.

    Caps that aren't given stay. Raises InvalidRequest, also where neither the plan nor the caller has a number.
    """
    require_numbers(plan, requests_per_minute=requests_per_minute, requests_per_month=requests_per_month)
    return _write(
        organization,
        user,
        plan=plan,
        requests_per_minute=requests_per_minute,
        requests_per_month=requests_per_month,
        **caps,
    )


def set_caps(*, organization: Organization, user: User | None, **caps: Unpack[Caps]) -> Subscription:
    """Caps that aren't given stay. Raises InvalidRequest."""
    return _write(organization, user, **caps)


@transaction.atomic
def end(*, organization: Organization, user: User | None) -> None:
    """Back to Starter, without caps. Ending twice changes nothing."""
    _lock(organization)
    before = _terms(of(organization))
    deleted, _ = Subscription.objects.filter(organization=organization).delete()
    if deleted:
        _record(Subscription(organization=organization, plan=starter()), user, before)


def require_numbers(plan: Plan, **own: int | None) -> None:
    """Some plans leave their limits to each organization. Raises InvalidRequest."""
    missing = [name for name in LIMITS if own[name] is None and getattr(plan, name) is None]
    if missing:
        message = f"{plan.name} has no number of its own: say which applies to this organization."
        raise errors.InvalidRequest(message, param=missing[0], details=dict.fromkeys(missing, message))


def of(organization: Organization) -> Subscription:
    """The organization's, or one that is not saved: on Starter since the organization was made."""
    found = Subscription.objects.select_related("plan").filter(organization=organization).first()
    return found or _on_starter(organization)


def known(organization: Organization) -> Subscription:
    """The same for one that was read with ``select_related("subscription__plan")``."""
    found: Subscription | None = getattr(organization, "subscription", None)
    return found or _on_starter(organization)


def _on_starter(organization: Organization) -> Subscription:
    return Subscription(organization=organization, plan=starter(), started_at=organization.created_at)


def starter() -> Plan:
    numbers = {"requests_per_minute": STARTER_PER_MINUTE, "requests_per_month": STARTER_PER_MONTH}
    return Plan.objects.get_or_create(slug=STARTER, defaults={"name": "Starter", **numbers})[0]


@transaction.atomic
def _write(organization: Organization, user: User | None, **terms: Any) -> Subscription:
    _lock(organization)
    current = of(organization)
    before = _terms(current)
    for name, value in terms.items():
        setattr(current, name, value)
    validation.check(current, leave_out=("organization", "plan"))
    if current.plan != before["plan"]:
        current.started_at = timezone.now()
    current.save()
    if _terms(current) != before:
        _record(current, user, before)
    return current


def _terms(subscription: Subscription) -> dict[str, Any]:
    return {name: getattr(subscription, name) for name in TERMS}


def _record(subscription: Subscription, user: User | None, before: dict[str, Any]) -> None:
    terms = _terms(subscription)
    SubscriptionChange.objects.create(organization=subscription.organization, changed_by=user, **terms)
    generation.bump(subscription.organization.id)
    changes = audit.differences(before, terms)
    audit.record(
        "plan.changed" if changes.keys() - {"max_parallel", "monthly_budget"} else "plan.capped",
        organization=subscription.organization,
        user=user,
        target=subscription.organization.public_id,
        summary=f"changed the plan to {subscription.plan.name}" if "plan" in changes else "changed the plan's limits",
        changes=changes,
    )


def _lock(organization: Organization) -> None:
    # no_key: rows that point to the organization can still be inserted meanwhile
    Organization.objects.select_for_update(no_key=True).get(id=organization.id)
