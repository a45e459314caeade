"""Asking for another plan, and what operators answer. One request at a time; each step is mailed and recorded.

A grant is a change of plan (``billing.subscriptions``) in the same transaction: either both are there, or neither.
"""

from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import subscriptions, tasks, validation
from billing.models import Plan
from billing.plan_models import UpgradeRequest
from helixflow.lib import errors

State = UpgradeRequest.State


def latest(organization: Organization) -> UpgradeRequest | None:
    """The one that is open, else the one that was decided or withdrawn last."""
    return UpgradeRequest.objects.select_related("plan", "requested_by").filter(organization=organization).first()


def ask(
    *,
    organization: Organization,
    user: User,
    plan: Plan,
    requests_per_minute: int | None = None,
    requests_per_month: int | None = None,
    message: str = "",
) -> UpgradeRequest:
    """Raises InvalidRequest, also while another is open."""
    with transaction.atomic():
        _lock(organization)
        if UpgradeRequest.objects.filter(organization=organization, state=State.OPEN).exists():
            raise errors.InvalidRequest("You have asked already. Withdraw that request to make another.")
        wanted = UpgradeRequest(
            organization=organization,
            requested_by=user,
            plan=plan,
            requests_per_minute=requests_per_minute,
            requests_per_month=requests_per_month,
            message=message.strip(),
        )
        validation.check(wanted, leave_out=["organization", "requested_by", "plan"])
        _require_news(wanted)
        wanted.save()
        _record(wanted, user, "plan.upgrade_requested", f"asked for {_in_words(wanted)}")
        transaction.on_commit(lambda: tasks.enqueue(tasks.tell_staff_of_upgrade, str(wanted.id)))
    return wanted


def withdraw(*, organization: Organization, user: User) -> None:
    """The request that is open. Raises InvalidRequest where none is."""
    request = latest(organization)
    if request is None:
        raise errors.InvalidRequest("There is no request to withdraw.")
    with transaction.atomic():
        _close(request, State.WITHDRAWN, user)
        _record(request, user, "plan.upgrade_withdrawn", f"withdrew the request for {request.plan.name}")
        transaction.on_commit(lambda: tasks.enqueue(tasks.tell_staff_of_upgrade, str(request.id)))


def grant(*, request: UpgradeRequest, user: User, note: str = "", **terms: Any) -> None:
    """``terms`` are ``subscriptions.change``'s: what is granted may be other than what was asked for.

    Raises InvalidRequest.
    """
    with transaction.atomic():
        _close(request, State.GRANTED, user, note)
        terms = {"plan": request.plan} | terms
        subscriptions.change(organization=request.organization, user=user, **terms)
        _record(request, user, "plan.upgrade_granted", f"granted the request for {request.plan.name}")
        transaction.on_commit(lambda: tasks.enqueue(tasks.tell_owners_of_upgrade, str(request.id)))


def decline(*, request: UpgradeRequest, user: User, note: str) -> None:
    """``note`` is what the owners are told. Raises InvalidRequest."""
    if not note.strip():
        raise errors.InvalidRequest("Say why: the owners are told.", param="note")
    with transaction.atomic():
        _close(request, State.DECLINED, user, note)
        _record(request, user, "plan.upgrade_declined", f"declined the request for {request.plan.name}")
        transaction.on_commit(lambda: tasks.enqueue(tasks.tell_owners_of_upgrade, str(request.id)))


def _close(request: UpgradeRequest, state: str, user: User, note: str = "") -> None:
    _lock(request.organization)
    changes = {"state": state, "decided_at": timezone.now(), "decided_by": user, "note": note.strip()}
    if not UpgradeRequest.objects.filter(id=request.id, state=State.OPEN).update(**changes):
        raise errors.InvalidRequest("This request is not open any more.")


def _require_news(wanted: UpgradeRequest) -> None:
    """Asking for what is there already would only cost everybody's time."""
    current = subscriptions.of(wanted.organization)
    numbers = (wanted.requests_per_minute, wanted.requests_per_month)
    if wanted.plan == current.plan and not any(numbers) and not wanted.message:
        message = f"You are on {current.plan.name} already. Say which numbers you need, or what it is about."
        raise errors.InvalidRequest(message, param="plan", details={"plan": message})


def _record(request: UpgradeRequest, user: User, action: str, summary: str) -> None:
    organization = request.organization
    audit.record(action, organization=organization, user=user, target=organization.public_id, summary=summary)


def _in_words(request: UpgradeRequest) -> str:
    numbers = [
        f"{number:,} requests a {period}"
        for number, period in ((request.requests_per_minute, "minute"), (request.requests_per_month, "month"))
        if number is not None
    ]
    return f"{request.plan.name} with {' and '.join(numbers)}" if numbers else request.plan.name


def _lock(organization: Organization) -> None:
    Organization.objects.select_for_update(no_key=True).get(id=organization.id)
