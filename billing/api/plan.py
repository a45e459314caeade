"""``/v1/plan``: what the organization may use, and its caps, which its owners and admins set. With a login's JWT."""

from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db.models import Sum
from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.api import callers
from accounts.models import Organization
from billing import money, plans, subscriptions
from billing.models import SubscriptionChange, UsageMonth
from helixflow.lib import clock, drf, errors
from helixflow.lib.serializers import StrictIntegerField, StrictSerializer, validated

HISTORY: Final = 20  # changes shown
NOT_YOURS: Final = ("plan", "slug", "name", "requests_per_minute", "requests_per_month")


class CapFields(StrictSerializer):
    """Types only; the rules are the rows'."""

    max_parallel = StrictIntegerField(required=False, allow_null=True)
    monthly_budget = money.AmountField(required=False, allow_null=True)


class PlanView(APIView):
    def get(self, request: Request) -> Response:
        return drf.respond(request, represent(callers.membership(request).organization))

    def patch(self, request: Request) -> Response:
        membership = callers.membership(request)
        access.require_manager(membership, of="its plan")
        _require_caps_only(request.data)
        caps = validated(CapFields(data=request.data))
        subscriptions.set_caps(organization=membership.organization, user=callers.user(request), **caps)
        return drf.respond(request, represent(membership.organization))


def represent(organization: Organization) -> dict[str, Any]:
    subscription = subscriptions.of(organization)
    in_force = plans.in_force(organization)
    changes = organization.subscription_changes.select_related("plan", "changed_by")[:HISTORY]
    return {
        "object": "plan",
        "slug": subscription.plan.slug,
        "name": in_force.name,
        "requests_per_minute": in_force.requests_per_minute,
        "requests_per_month": in_force.requests_per_month,
        "max_parallel": subscription.max_parallel,
        "monthly_budget": money.text_or_none(subscription.monthly_budget),
        "currency": settings.CURRENCY,
        "spent_this_month": money.text(_spent_this_month(organization)),
        "subscribed_since": clock.rfc3339(subscription.started_at),
        "history": [_represent_change(change) for change in changes],
    }


def _represent_change(change: SubscriptionChange) -> dict[str, Any]:
    """Limits are null where the plan's applied; who changed it is, where it was our staff."""
    user = change.changed_by
    return {
        "plan": change.plan.slug,
        "requests_per_minute": change.requests_per_minute,
        "requests_per_month": change.requests_per_month,
        "max_parallel": change.max_parallel,
        "monthly_budget": money.text_or_none(change.monthly_budget),
        "changed_by": None if user is None or user.is_staff else user.public_id,
        "changed_at": clock.rfc3339(change.created_at),
    }


def _spent_this_month(organization: Organization) -> Decimal:
    """As far as it is metered."""
    now = clock.now()
    months = UsageMonth.objects.filter(organization=organization, month=date(now.year, now.month, 1))
    return months.aggregate(total=Sum("cost"))["total"] or Decimal(0)


def _require_caps_only(body: Any) -> None:
    named = [name for name in NOT_YOURS if name in body]
    if named:
        message = (
            "The plan and its limits are changed by our staff: write to "
            f"{settings.SUPPORT_EMAIL}. Here you can set monthly_budget and max_parallel."
        )
        raise errors.InvalidRequest(message, param=named[0], details=dict.fromkeys(named, message))


urlpatterns = [re_path(r"^plan/?$", PlanView.as_view())]
