"""``/v1/members``: who is in the organization a login acts for. Ids are those of users."""

from typing import Any

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, members, roles
from accounts.api import callers
from accounts.models import Membership
from helixflow.lib import clock, drf, paging
from helixflow.lib.serializers import StrictBooleanField, StrictCharField, StrictSerializer, validated


class Role(StrictSerializer):
    role = StrictCharField()


class Removal(StrictSerializer):
    """A body is optional. ``revoke_keys``: the API keys they made end with them."""

    revoke_keys = StrictBooleanField(required=False, default=False)


class MemberList(APIView):
    def get(self, request: Request) -> Response:
        page = members.page(
            callers.membership(request).organization,
            cursor=request.query_params.get("cursor"),
            limit=paging.limit_of(request.query_params.get("limit")),
        )
        return drf.respond_page(request, [represent(member) for member in page.members], page.following)


class MemberDetail(APIView):
    def get(self, request: Request, user_id: str) -> Response:
        return drf.respond(request, represent(access.get_member(callers.membership(request), user_id)))

    def patch(self, request: Request, user_id: str) -> Response:
        membership = callers.membership(request)
        access.require(membership, roles.MANAGE_MEMBERS)
        member = access.get_member(membership, user_id)
        role = validated(Role(data=request.data))["role"]
        return drf.respond(request, represent(members.change_role(by=membership, member=member, role=role)))

    def delete(self, request: Request, user_id: str) -> Response:
        """Of oneself: leaves, which every role may."""
        membership = callers.membership(request)
        member = access.get_member(membership, user_id)
        removal = validated(Removal(data=request.data))
        if member.id == membership.id:
            members.leave(member=membership)
        else:
            members.remove(by=membership, member=member, revoke_keys=removal["revoke_keys"])
        return drf.respond(request, {"id": member.user.public_id, "object": "member", "deleted": True})


def represent(member: Membership) -> dict[str, Any]:
    return {
        "id": member.user.public_id,
        "object": "member",
        "email": member.user.email,
        "name": member.user.name,
        "role": member.role,
        "joined_at": clock.rfc3339(member.created_at),
    }


urlpatterns = [
    re_path(r"^members/?$", MemberList.as_view()),
    re_path(r"^members/(?P<user_id>[^/]+)/?$", MemberDetail.as_view()),
]
