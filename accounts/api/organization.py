"""``/v1/organization``: the organization a login acts for, and its settings, which owners and admins change."""

from typing import Any

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, organizations
from accounts.api import callers
from accounts.models import Membership
from helixflow.lib import clock, drf
from helixflow.lib.serializers import StrictCharField, StrictIntegerField, StrictSerializer, validated


class Settings(StrictSerializer):
    """Types only; the rules are the service's."""

    name = StrictCharField(required=False, trim_whitespace=False, allow_blank=True)
    cache_ttl_s = StrictIntegerField(required=False, allow_null=True)
    contents_days = StrictIntegerField(required=False, allow_null=True)


class OrganizationView(APIView):
    def get(self, request: Request) -> Response:
        return drf.respond(request, represent(callers.membership(request)))

    def patch(self, request: Request) -> Response:
        membership = callers.membership(request)
        access.require_manager(membership, of="its settings")
        settings = validated(Settings(data=request.data))
        membership.organization = organizations.update(
            organization=membership.organization, user=callers.user(request), **settings
        )
        return drf.respond(request, represent(membership))


def represent(membership: Membership) -> dict[str, Any]:
    """``role`` is the caller's."""
    organization = membership.organization
    return {
        "id": organization.public_id,
        "object": "organization",
        "name": organization.name,
        "role": membership.role,
        "cache_ttl_s": organization.cache_ttl_s,
        "contents_days": organization.contents_days,
        "created_at": clock.rfc3339(organization.created_at),
    }


urlpatterns = [re_path(r"^organization/?$", OrganizationView.as_view())]
