"""/dashboard/plan: the plan, what was used of it, its caps and alerts, and asking for another."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access
from accounts.forms import ServiceForm
from accounts.models import Membership, Organization
from billing import alerts, invoices, months, projection, subscriptions, upgrades
from billing.forms import AlertsForm, CapsForm, UpgradeForm
from billing.models import SubscriptionChange
from billing.plan_models import AlertSettings, UpgradeRequest
from billing.reports import usage
from helixflow.lib import clock, errors

KEYS: Final = 100  # shown; an organization can have a thousand
HISTORY: Final = 20  # changes shown
MONTHS: Final = 6  # shown; the page of invoices has the rest

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@form_view
def plan(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    if request.method != "POST":
        return _plan_page(request, membership)
    access.require_manager(membership, of="its plan")
    organization = membership.organization
    form = CapsForm(subscriptions.of(organization), request.POST)

    def save() -> None:
        subscriptions.set_caps(organization=organization, user=membership.user, **form.cleaned_data)

    if _saved(form, save):
        messages.success(request, "Saved. It counts from the next request on.")
        return redirect("plan")
    return _plan_page(request, membership, form)


@login_required
@form_view
def change_alerts(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require_manager(membership, of="its plan")
    organization = membership.organization
    data = request.POST if request.method == "POST" else None
    form = AlertsForm(alerts.of(organization), list(alerts.managers(organization)), data)

    def save() -> None:
        alerts.change(organization=organization, user=membership.user, **form.chosen())

    if request.method == "POST" and _saved(form, save):
        messages.success(request, "Saved. What was told this month is not told again.")
        return redirect("plan")
    return render(request, "billing/alerts.html", {"membership": membership, "form": form})


@login_required
@form_view
def upgrade(request: HttpRequest) -> HttpResponse:
    """Asking for another plan. While a request is open the plan's page shows it, and how to withdraw it."""
    membership = access.page_membership(request)
    access.require_manager(membership, of="its plan")
    organization = membership.organization
    latest = upgrades.latest(organization)
    if latest is not None and latest.state == UpgradeRequest.State.OPEN:
        messages.info(request, "You have asked already. Withdraw that request to make another.")
        return redirect("plan")
    subscription = subscriptions.of(organization)
    form = UpgradeForm(subscription, request.POST if request.method == "POST" else None)

    def save() -> None:
        upgrades.ask(organization=organization, user=membership.user, **form.cleaned_data)

    if request.method == "POST" and _saved(form, save):
        messages.success(request, "Sent. Our staff answer by e-mail; the plan's page shows what became of it.")
        return redirect("plan")
    context = {"membership": membership, "subscription": subscription, "form": form}
    return render(request, "billing/upgrade.html", context)


@login_required
@require_POST
def withdraw_upgrade(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require_manager(membership, of="its plan")
    try:
        upgrades.withdraw(organization=membership.organization, user=membership.user)
    except errors.InvalidRequest as refused:
        messages.warning(request, refused.message)
    else:
        messages.success(request, "Withdrawn.")
    return redirect("plan")


def _saved(form: ServiceForm, save: Callable[[], None]) -> bool:
    """Whether the form was good and the service took it; else the form says why not."""
    if not form.is_valid():
        return False
    try:
        save()
    except errors.InvalidRequest as refused:
        form.add_problems(refused)
        return False
    return True


def _plan_page(request: HttpRequest, membership: Membership, caps: CapsForm | None = None) -> HttpResponse:
    organization = _with_terms(membership.organization)
    subscription = subscriptions.known(organization)
    used = usage.current(membership.organization_id)
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in months.bounds(used.month))
    agreed = subscription.requests_per_month or subscription.plan.requests_per_month or 0
    statements = invoices.months_of(organization, limit=MONTHS + 1)
    context = {
        "membership": membership,
        "subscription": subscription,
        "used": used,
        "tokens": used.tokens.prompt + used.tokens.completion,
        "minute_note": f"of {used.minute_limit:,} requests a minute",
        "parallel_note": f"of {used.max_parallel or 0:,} requests at once",  # counted only where they are capped
        "begins": begins,
        "ends": ends,
        "projected": _projected(organization, used),
        "granted": max(0, used.month_limit - agreed),
        "keys": sorted(used.keys, key=lambda each: each.used, reverse=True)[:KEYS],
        "more_keys": max(0, len(used.keys) - KEYS),
        "history": _history(organization),
        "months": statements[:MONTHS],
        "more_months": len(statements) > MONTHS,
        "upgrade": _shown(upgrades.latest(organization)),
        "form": caps or CapsForm(subscription),
        "alerts": getattr(organization, "alert_settings", None) or AlertSettings(organization=organization),
        "read_only": access.why_not_manager(membership, of="its plan"),
        "currency": settings.CURRENCY,
    }
    return render(request, "billing/plan.html", context)


def _projected(organization: Organization, used: usage.Usage) -> projection.Projection | None:
    return projection.of(
        organization,
        now=clock.now(),
        used=used.used,
        cost=used.cost,
        month_limit=used.month_limit,
        budget=used.budget,
    )


def _shown(latest: UpgradeRequest | None) -> UpgradeRequest | None:
    """One that was withdrawn is forgotten; an answer stays until the next request."""
    return None if latest is None or latest.state == UpgradeRequest.State.WITHDRAWN else latest


def _with_terms(organization: Organization) -> Organization:
    """With the subscription, its plan and the alerts, in one query."""
    return Organization.objects.select_related("subscription__plan", "alert_settings").get(id=organization.id)


def _history(organization: Organization) -> list[tuple[SubscriptionChange, str]]:
    """The latest changes, and who made each. Staff that isn't of the organization stays nameless."""
    ours = Membership.objects.filter(organization=organization, user=OuterRef("changed_by"))
    changes = organization.subscription_changes.select_related("plan", "changed_by").annotate(is_ours=Exists(ours))

    def by(change: SubscriptionChange) -> str:
        user = change.changed_by
        if user is None or (user.is_staff and not change.is_ours):  # type: ignore[attr-defined]  # annotated
            return "Support"
        return user.get_short_name()

    return [(change, by(change)) for change in changes[:HISTORY]]


urlpatterns = [
    path("dashboard/plan", plan, name="plan"),
    path("dashboard/plan/alerts", change_alerts, name="plan-alerts"),
    path("dashboard/plan/upgrade", upgrade, name="plan-upgrade"),
    path("dashboard/plan/upgrade/withdraw", withdraw_upgrade, name="plan-upgrade-withdraw"),
]
