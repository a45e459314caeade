"""``/v1/invitations``: the open ones of the organization a login acts for. The link is in the mail and nowhere else."""

from typing import Any

from django.urls import re_path
from django.utils.decorators import method_decorator
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, invitations, roles
from accounts.api import callers
from accounts.models import Invitation, Membership
from accounts.throttles import INVITATION, throttled
from helixflow.lib import clock, drf, ids, paging
from helixflow.lib.serializers import StrictCharField, StrictSerializer, validated


class InvitationFields(StrictSerializer):
    """Types only; the rules are the service's."""

    email = StrictCharField(allow_blank=True)
    role = StrictCharField(required=False, default="member")


class InvitationList(APIView):
    def get(self, request: Request) -> Response:
        membership = _manager(request)
        shown, following = paging.page(
            invitations.open_ones(membership.organization),
            prefix=ids.INVITATION,
            cursor=request.query_params.get("cursor"),
            limit=paging.limit_of(request.query_params.get("limit")),
        )
        return drf.respond_page(request, [represent(invitation) for invitation in shown], following)

    @method_decorator(throttled(INVITATION))
    def post(self, request: Request) -> Response:
        membership = _manager(request)
        fields = validated(InvitationFields(data=request.data))
        invitation = invitations.invite(by=membership, **fields)
        return drf.respond(request, represent(invitation), status.HTTP_201_CREATED)


class InvitationDetail(APIView):
    def get(self, request: Request, invitation_id: str) -> Response:
        return drf.respond(request, represent(access.get_invitation(_manager(request), invitation_id)))

    def delete(self, request: Request, invitation_id: str) -> Response:
        """Withdraws; the row stays for the log's sake. Answers with it, also the second time."""
        membership = _manager(request)
        invitation = access.get_invitation(membership, invitation_id)
        return drf.respond(request, represent(invitations.withdraw(by=membership, invitation=invitation)))


class InvitationResending(APIView):
    @method_decorator(throttled(INVITATION))
    def post(self, request: Request, invitation_id: str) -> Response:
        membership = _manager(request)
        invitation = access.get_invitation(membership, invitation_id)
        return drf.respond(request, represent(invitations.resend(by=membership, invitation=invitation)))


def represent(invitation: Invitation) -> dict[str, Any]:
    """``status``: open, expired, accepted or withdrawn."""
    return {
        "id": invitation.public_id,
        "object": "invitation",
        "email": invitation.email,
        "role": invitation.role,
        "status": invitations.status(invitation),
        "invited_by": ids.public_id(ids.USER, invitation.invited_by_id) if invitation.invited_by_id else None,
        "created_at": clock.rfc3339(invitation.created_at),
        "expires_at": clock.rfc3339(invitation.expires_at),
    }


def _manager(request: Request) -> Membership:
    membership = callers.membership(request)
    access.require(membership, roles.MANAGE_MEMBERS)
    return membership


urlpatterns = [
    re_path(r"^invitations/?$", InvitationList.as_view()),
    re_path(r"^invitations/(?P<invitation_id>[^/]+)/?$", InvitationDetail.as_view()),
    re_path(r"^invitations/(?P<invitation_id>[^/]+)/resend/?$", InvitationResending.as_view()),
]
