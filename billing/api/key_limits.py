"""``/v1/api-keys/{id}/limits``: what a key may use of its organization's limits. With a login's JWT."""

from typing import Any

from django.conf import settings
from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.api import callers
from billing import key_limits, money
from billing.models import KeyLimits
from helixflow.lib import drf
from helixflow.lib.serializers import StrictIntegerField, StrictSerializer, validated


class LimitFields(StrictSerializer):
    """All three, so that none is lifted by being forgotten; null is no limit. The rules are the row's."""

    requests_per_minute = StrictIntegerField(allow_null=True)
    requests_per_month = StrictIntegerField(allow_null=True)
    monthly_budget = money.AmountField(allow_null=True)


class KeyLimitsView(APIView):
    def get(self, request: Request, key_id: str) -> Response:
        key = access.get_api_key(callers.membership(request), key_id)
        return drf.respond(request, represent(key_limits.of(key)))

    def put(self, request: Request, key_id: str) -> Response:
        membership = callers.membership(request)
        access.require_key_manager(membership)
        key = access.get_api_key(membership, key_id)
        fields = validated(LimitFields(data=request.data))
        return drf.respond(request, represent(key_limits.set_limits(key=key, user=callers.user(request), **fields)))


def represent(limits: KeyLimits) -> dict[str, Any]:
    return {
        "object": "api_key.limits",
        "api_key_id": limits.api_key.public_id,
        "requests_per_minute": limits.requests_per_minute,
        "requests_per_month": limits.requests_per_month,
        "monthly_budget": money.text_or_none(limits.monthly_budget),
        "currency": settings.CURRENCY,
    }


urlpatterns = [re_path(r"^api-keys/(?P<key_id>[^/]+)/limits/?$", KeyLimitsView.as_view())]
