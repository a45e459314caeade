"""``/v1/organization``: the organization a login acts for, its settings, its hand-over and its deletion.

``/v1/organizations``: all that the caller is in.
"""

from typing import Any

from django.urls import re_path
from django.utils.decorators import method_decorator
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, deletions, members, organizations, roles
from accounts.api import callers
from accounts.models import Membership
from accounts.throttles import CONFIRMATION, INVITATION, throttled
from helixflow.lib import clock, drf, errors
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


class Transfer(StrictSerializer):
    user_id = StrictCharField()


class Deletion(StrictSerializer):
    """The organization's name, as a sign that it is meant, and the caller's password."""

    name = StrictCharField(trim_whitespace=False)
    password = StrictCharField(trim_whitespace=False)


class NewOrganization(StrictSerializer):
    name = StrictCharField(trim_whitespace=False, allow_blank=True)


class OrganizationTransfer(APIView):
    def post(self, request: Request) -> Response:
        """Answers with the organization, in which the caller is an admin now."""
        membership = callers.membership(request)
        access.require(membership, roles.TRANSFER)
        member = access.get_member(membership, validated(Transfer(data=request.data))["user_id"])
        members.transfer(by=membership, member=member)
        return drf.respond(request, represent(callers.membership(request)))


class OrganizationDeletion(APIView):
    """POST asks for it, DELETE takes it back. Both answer with the organization and its ``deletion_due_at``."""

    @method_decorator(throttled(CONFIRMATION))
    def post(self, request: Request) -> Response:
        membership = callers.membership(request)
        access.require(membership, roles.DELETE)
        given = validated(Deletion(data=request.data))
        if given["name"].strip() != membership.organization.name:
            raise errors.InvalidRequest("This is not the organization's name.", param="name")
        if not callers.user(request).check_password(given["password"]):
            raise errors.InvalidRequest("This is not your password.", param="password")
        membership.organization = deletions.delete_organization(by=membership)
        return drf.respond(request, represent(membership), status.HTTP_202_ACCEPTED)

    def delete(self, request: Request) -> Response:
        membership = callers.membership(request)
        membership.organization = deletions.keep_organization(by=membership)
        return drf.respond(request, represent(membership))


class OrganizationList(APIView):
    """The caller's: at most a hundred, so on one page. X-HelixFlow-Organization plays no part."""

    def get(self, request: Request) -> Response:
        mine = access.memberships(callers.user(request))
        return drf.respond_page(request, [represent(membership) for membership in mine], None)

    @method_decorator(throttled(INVITATION))
    def post(self, request: Request) -> Response:
        name = validated(NewOrganization(data=request.data))["name"]
        made = organizations.create(user=callers.user(request), name=name)
        return drf.respond(request, represent(made), status.HTTP_201_CREATED)


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
        "deletion_due_at": clock.rfc3339(organization.deletion_due_at) if organization.deletion_due_at else None,
    }


urlpatterns = [
    re_path(r"^organization/?$", OrganizationView.as_view()),
    re_path(r"^organization/transfer/?$", OrganizationTransfer.as_view()),
    re_path(r"^organization/deletion/?$", OrganizationDeletion.as_view()),
    re_path(r"^organizations/?$", OrganizationList.as_view()),
]
