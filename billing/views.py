"""The dashboard's pages for the plan with its caps, and for the limits of a key."""

from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods

from accounts import access
from accounts.models import Membership, Organization
from billing import key_limits, months, subscriptions
from billing.forms import CapsForm, KeyLimitsForm
from billing.models import Subscription, SubscriptionChange
from billing.reports import standing, usage
from helixflow.lib import errors

KEYS: Final = 100  # shown; an organization can have a thousand
HISTORY: Final = 20  # changes shown

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@form_view
def plan(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    subscription = subscriptions.of(membership.organization)
    if request.method != "POST":
        return _plan_page(request, membership, subscription, CapsForm(subscription))
    access.require_manager(membership, of="its plan")
    form = CapsForm(subscription, request.POST)
    if form.is_valid():
        try:
            subscriptions.set_caps(organization=membership.organization, user=membership.user, **form.cleaned_data)
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            messages.success(request, "Saved. It counts from the next request on.")
            return redirect("plan")
    return _plan_page(request, membership, subscription, form)


@login_required
@form_view
def limits_of_key(request: HttpRequest, key_id: str) -> HttpResponse:
    """The card of the key's page alone: where its form is sent, and comes back to with errors."""
    membership = access.page_membership(request)
    key = access.get_api_key(membership, key_id)
    form = None
    if request.method == "POST":
        access.require_key_manager(membership)
        form = KeyLimitsForm(standing.of(key), request.POST)
        if form.is_valid():
            try:
                key_limits.set_limits(key=key, user=membership.user, **form.cleaned_data)
            except errors.InvalidRequest as refused:
                form.add_problems(refused)
            else:
                messages.success(request, f"The limits of “{key.name}” are saved.")
                return redirect("api-key", key_id)
    return render(request, "billing/key_limits.html", {"membership": membership, "key": key, "form": form})


def _plan_page(
    request: HttpRequest, membership: Membership, subscription: Subscription, form: CapsForm
) -> HttpResponse:
    used = usage.current(membership.organization_id)
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in months.bounds(used.month))
    context = {
        "membership": membership,
        "memberships": access.memberships(membership.user),
        "subscription": subscription,
        "used": used,
        "tokens": used.tokens.prompt + used.tokens.completion,
        "minute_note": f"of {used.minute_limit:,} requests a minute",
        "parallel_note": f"of {used.max_parallel or 0:,} requests at once",  # counted only where they are capped
        "begins": begins,
        "ends": ends,
        "keys": sorted(used.keys, key=lambda each: each.used, reverse=True)[:KEYS],
        "more_keys": max(0, len(used.keys) - KEYS),
        "history": _history(membership.organization),
        "form": form,
        "read_only": _why_read_only(membership),
        "currency": settings.CURRENCY,
    }
    return render(request, "billing/plan.html", context)


def _history(organization: Organization) -> list[tuple[SubscriptionChange, str]]:
    """The latest changes, and who made each. Staff that isn't of the organization stays nameless."""
    changes = organization.subscription_changes.select_related("plan", "changed_by")[:HISTORY]
    ours = set(organization.memberships.values_list("user_id", flat=True))

    def by(change: SubscriptionChange) -> str:
        user = change.changed_by
        if user is None or (user.is_staff and user.id not in ours):
            return "Support"
        return user.get_short_name()

    return [(change, by(change)) for change in changes]


def _why_read_only(membership: Membership) -> str:
    try:
        access.require_manager(membership, of="its plan")
    except errors.AuthorizationFailed as refused:
        return refused.message
    return ""


urlpatterns = [
    path("dashboard/plan", plan, name="plan"),
    path("dashboard/api-keys/<str:key_id>/limits", limits_of_key, name="api-key-limits"),
]
