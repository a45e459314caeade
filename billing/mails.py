"""The mails about plan, quota and budget: ``templates/billing/email/<name>.txt`` and ``.html``."""

import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts.models import Membership, Organization, Role
from billing import alerts, months, plans
from billing.plan_models import Alert, QuotaGrant, UpgradeRequest
from billing.reports import standing
from helixflow.lib import mail

State = UpgradeRequest.State


def send_alert(alert_id: uuid.UUID) -> bool:
    """Unless that was done; whether a mail was sent. Raises OSError, SMTPException."""
    alert = Alert.objects.select_related("organization").filter(id=alert_id, sent_at=None).first()
    if alert is None:
        return False
    to = alerts.addresses(alert.organization)
    if to:
        _send(to, _subject(alert), "alert", _alert_context(alert))
    Alert.objects.filter(id=alert.id).update(sent_at=timezone.now())
    return bool(to)


def tell_staff_of_upgrade(request_id: uuid.UUID) -> None:
    """That one was made, or withdrawn. To the address of support."""
    request = _request(request_id)
    if request is None or request.state not in {State.OPEN, State.WITHDRAWN}:
        return
    verb = "asks for" if request.state == State.OPEN else "no longer asks for"
    subject = f"{request.organization.name} {verb} {request.plan.name}"
    link = mail.link("admin:accounts_organization_change", str(request.organization_id))
    _send([settings.SUPPORT_EMAIL], subject, "upgrade_asked", {"request": request, "link": link})


def tell_owners_of_upgrade(request_id: uuid.UUID) -> None:
    """What became of it. To the owners, and to whoever asked if they are still of the organization."""
    request = _request(request_id)
    if request is None or request.state not in {State.GRANTED, State.DECLINED}:
        return
    granted = request.state == State.GRANTED
    subject = "Your request for another plan was granted" if granted else "About your request for another plan"
    to = _owners(request.organization, request.requested_by_id)
    if to:
        terms = _terms(request.organization) if granted else ""  # which can be other than what was asked for
        context = {"request": request, "granted": granted, "terms": terms, "link": mail.link("plan")}
        _send(to, subject, "upgrade_decided", context)


def tell_owners_of_grant(grant_id: uuid.UUID) -> None:
    grant = QuotaGrant.objects.select_related("organization").filter(id=grant_id, revoked_at=None).first()
    to = _owners(grant.organization) if grant else []
    if grant is not None and to:
        _send(to, f"{grant.units:,} more requests for {grant.month:%B %Y}", "quota_granted", _grant_context(grant))


def _owners(organization: Organization, also: uuid.UUID | None = None) -> list[str]:
    members = Membership.objects.filter(organization=organization, user__is_active=True).select_related("user")
    chosen = [each for each in members.order_by("created_at") if each.role == Role.OWNER or each.user_id == also]
    return [member.user.email for member in chosen]


def _request(request_id: uuid.UUID) -> UpgradeRequest | None:
    found = UpgradeRequest.objects.select_related("organization", "plan", "requested_by", "decided_by")
    return found.filter(id=request_id).first()


def _terms(organization: Organization) -> str:
    agreed = plans.in_force(organization)
    return f"{agreed.name} now: {agreed.requests_per_minute:,} requests a minute, {agreed.requests_per_month:,} a month"


def _subject(alert: Alert) -> str:
    of_budget = alert.kind == Alert.Kind.BUDGET
    if alert.percent >= 100:
        return "This month's budget is spent" if of_budget else "This month's requests are used up"
    return f"{alert.percent}% of this month's {'budget is spent' if of_budget else 'requests are used'}"


def _alert_context(alert: Alert) -> dict[str, Any]:
    of_budget = alert.kind == Alert.Kind.BUDGET
    used, limit = (alert.used, alert.limit) if of_budget else (int(alert.used), int(alert.limit))
    renewed = datetime.fromtimestamp(months.bounds(months.of_day(alert.month))[1], UTC)
    return {
        "alert": alert,
        "organization": alert.organization,
        "of_budget": of_budget,
        "is_reached": alert.percent >= 100,
        "used": standing.with_unit(used) if of_budget else f"{standing.shown(used)} requests",
        "limit": standing.with_unit(limit) if of_budget else standing.shown(limit),
        "renewed": renewed,
        "link": mail.link("plan"),
    }


def _grant_context(grant: QuotaGrant) -> dict[str, Any]:
    return {
        "grant": grant,
        "organization": grant.organization,
        "units": standing.shown(grant.units),
        "link": mail.link("plan"),
    }


def _send(to: list[str], subject: str, template: str, context: dict[str, Any]) -> None:
    mail.send(to, subject, f"billing/email/{template}", context)
