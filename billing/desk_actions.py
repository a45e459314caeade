"""What support can do from an organization's page: each a form that says what will happen, and leaves its trace.

The services behind them write the audit log; the admin's own history names the operator too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.http import HttpRequest

from accounts import impersonation, organizations, services, sessions, two_factor, web_sessions
from accounts.audit import record
from accounts.models import Organization, User
from billing import grants, subscriptions, upgrades
from billing.models import Plan
from billing.plan_models import MAX_GRANT, MAX_MESSAGE, MAX_REASON, QuotaGrant, UpgradeRequest
from helixflow.lib import errors

MANAGE_PLAN: Final = "billing.change_subscription"
MANAGE_ORGANIZATION: Final = "accounts.change_organization"
MANAGE_USER: Final = "accounts.change_user"


@dataclass(frozen=True, slots=True)
class Case:
    """What an act is about: the organization, and of it one row where the act names one."""

    request: HttpRequest
    operator: User
    organization: Organization
    subject: Any = None


def _reason(label: str = "Reason", hint: str = "Kept in the organization's audit log.") -> forms.CharField:
    return forms.CharField(label=label, help_text=hint, max_length=200, widget=forms.TextInput(attrs={"size": 60}))


def _note(*, required: bool) -> forms.CharField:
    return forms.CharField(
        label="Note",
        help_text="The owners get it by e-mail.",
        required=required,
        max_length=MAX_MESSAGE,
        widget=forms.Textarea(attrs={"rows": 4}),
    )


def _number(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, min_value=0, help_text="Empty: the plan's.")


class Confirm(forms.Form):
    """Nothing to fill in."""


class Reason(forms.Form):
    reason = _reason()


class Grant(forms.Form):
    units = forms.IntegerField(label="Requests", min_value=1, max_value=MAX_GRANT)
    reason = forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        help_text="Kept in the organization's audit log, which its owners read.",
        widget=forms.TextInput(attrs={"size": 60}),
    )


class ChangePlan(forms.Form):
    plan = forms.ModelChoiceField(queryset=Plan.objects.order_by("name"), empty_label=None)
    requests_per_minute = _number("Requests per minute")
    requests_per_month = _number("Requests per month")


class GrantUpgrade(ChangePlan):
    note = _note(required=False)


class Decline(forms.Form):
    note = _note(required=True)


def _change_plan(case: Case, **terms: Any) -> str:
    changed = subscriptions.change(organization=case.organization, user=case.operator, **terms)
    return f"{case.organization.name} is on {changed.plan.name}."


def _grant_quota(case: Case, *, units: int, reason: str) -> str:
    grants.grant(organization=case.organization, user=case.operator, units=units, reason=reason)
    return f"{units:,} more requests this month. The owners are written to."


def _revoke_grant(case: Case) -> str:
    grants.revoke(grant=case.subject, user=case.operator)
    return "Taken back."


def _grant_upgrade(case: Case, *, note: str, **terms: Any) -> str:
    upgrades.grant(request=case.subject, user=case.operator, note=note, **terms)
    return "Granted. The owners are written to."


def _decline_upgrade(case: Case, *, note: str) -> str:
    upgrades.decline(request=case.subject, user=case.operator, note=note)
    return "Declined. The owners are written to."


def _disable(case: Case, *, reason: str) -> str:
    organizations.disable(organization=case.organization, user=case.operator, reason=reason)
    return f"{case.organization.name} is disabled: every key is refused."


def _enable(case: Case, *, reason: str) -> str:
    organizations.enable(organization=case.organization, user=case.operator, reason=reason)
    return f"{case.organization.name} is enabled."


def _view(case: Case, *, reason: str) -> str:
    impersonation.start(request=case.request, operator=case.operator, organization=case.organization, reason=reason)
    return f"You are looking at {case.organization.name}, read-only."


def _sign_out(case: Case, *, reason: str) -> str:
    ended = sessions.end_all(user=case.subject) + web_sessions.end_all(user=case.subject)
    record(
        "login.ended_by_support",
        user=case.operator,
        organization=case.organization,
        target=case.subject.public_id,
        summary=f"signed {case.subject.email} out everywhere: {reason}",
    )
    return f"Signed out: {case.subject.email}, {ended} session{'' if ended == 1 else 's'} ended."


def _send_verification(case: Case) -> str:
    if case.subject.is_verified:
        raise errors.InvalidRequest("This address is confirmed already.")
    services.send_verification(user=case.subject)
    return f"A link is on its way to {case.subject.email}."


def _remove_two_factor(case: Case, *, reason: str) -> str:
    if not two_factor.remove(user=case.subject, by=case.operator):
        raise errors.InvalidRequest("Two-factor authentication is not on.")
    record(
        "two_factor.removed",
        user=case.operator,
        organization=case.organization,
        target=case.subject.public_id,
        summary=f"removed two-factor authentication from the account {case.subject.email}: {reason}",
    )
    return f"Removed: {case.subject.email} logs in with a password alone until they set it up again."


@dataclass(frozen=True, slots=True)
class Act:
    """``run`` takes the case and the form's fields, and says what was done. ``of``: what kind of row it names."""

    title: str
    verb: str
    tells: str
    permission: str
    run: Callable[..., str]
    form: type[forms.Form] = Reason
    of: str = ""
    initial: Callable[[Case], dict[str, Any]] | None = None
    leads_to: str = ""  # a path, else back to the organization


def _current_terms(case: Case) -> dict[str, Any]:
    current = subscriptions.of(case.organization)
    numbers = {name: getattr(current, name) for name in subscriptions.LIMITS}
    return {"plan": current.plan_id, **numbers}


def _wished_terms(case: Case) -> dict[str, Any]:
    numbers = {name: getattr(case.subject, name) for name in subscriptions.LIMITS}
    return {"plan": case.subject.plan_id, **numbers}


ACTS: Final = {
    "plan": Act(
        "Change the plan",
        "Change plan",
        "The new limits count from the next request on. Budget and parallel requests stay as they are.",
        MANAGE_PLAN,
        _change_plan,
        ChangePlan,
        initial=_current_terms,
    ),
    "grant": Act(
        "Grant quota",
        "Grant quota",
        "More requests this month, on top of the plan, from the next request on. The owners get an e-mail.",
        MANAGE_PLAN,
        _grant_quota,
        Grant,
    ),
    "revoke-grant": Act(
        "Take back a grant",
        "Take back",
        "The month's limit is lower from the next request on. What was used of it stays used.",
        MANAGE_PLAN,
        _revoke_grant,
        Confirm,
        of="grant",
    ),
    "grant-upgrade": Act(
        "Grant the upgrade",
        "Grant",
        "The plan changes at once. The owners, and who asked, get an e-mail.",
        MANAGE_PLAN,
        _grant_upgrade,
        GrantUpgrade,
        of="upgrade",
        initial=_wished_terms,
    ),
    "decline-upgrade": Act(
        "Decline the upgrade",
        "Decline",
        "Nothing changes. The owners, and who asked, get an e-mail with your note.",
        MANAGE_PLAN,
        _decline_upgrade,
        Decline,
        of="upgrade",
    ),
    "disable": Act(
        "Disable the organization",
        "Disable",
        "Every API key is refused with 403 from the next request on, and nothing can be changed in the dashboard.",
        MANAGE_ORGANIZATION,
        _disable,
    ),
    "enable": Act("Enable the organization", "Enable", "Its keys work again at once.", MANAGE_ORGANIZATION, _enable),
    "view-as": Act(
        "View the dashboard as support",
        "View",
        "You see what its owners see, for up to 30 minutes, and can change nothing. Stored prompts and answers, the "
        "playground and downloads stay closed. The owners read in the audit log that you looked, and why.",
        impersonation.PERMISSION,
        _view,
        leads_to="/dashboard",
    ),
    "sign-out": Act(
        "Sign out everywhere",
        "Sign out",
        "Every browser and API session of this account ends. API keys go on working.",
        MANAGE_USER,
        _sign_out,
        of="user",
    ),
    "send-verification": Act(
        "Send the verification link",
        "Send link",
        "An e-mail with a new link goes to the address of the account.",
        MANAGE_USER,
        _send_verification,
        Confirm,
        of="user",
    ),
    "remove-two-factor": Act(
        "Remove two-factor authentication",
        "Remove",
        "For somebody who has lost device and recovery codes, once they have proved who they are. They get an e-mail.",
        MANAGE_USER,
        _remove_two_factor,
        of="user",
    ),
}


def subject(act: Act, organization: Organization, text: str) -> Any:
    """The row that ``text``, a UUID as admin addresses have it, names in this organization; None if there is none."""
    if act.of == "grant":
        rows: Any = QuotaGrant.objects.filter(revoked_at=None, organization=organization)
    elif act.of == "upgrade":
        rows = UpgradeRequest.objects.filter(state=UpgradeRequest.State.OPEN, organization=organization)
        rows = rows.select_related("plan", "organization")
    else:
        rows = User.objects.filter(memberships__organization=organization)
    return rows.filter(id=text).first()


def may(act: Act, operator: User, about: Any = None) -> bool:
    """Whoever acts on staff is a superuser."""
    is_above = isinstance(about, User) and (about.is_staff or about.is_superuser) and not operator.is_superuser
    return operator.has_perm(act.permission) and not is_above
