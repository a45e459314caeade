"""The organization, its people, and the log of what they changed."""

from typing import Any, Final

from rest_framework import serializers

from accounts.api import invitations, members, organization
from accounts.audit_log import GROUPS
from helixflow.lib.serializers import StrictCharField, StrictSerializer
from helixflow.site.openapi import team_answers as answers
from helixflow.site.openapi.operations import TIME, Operation, Tag, envelope, page


class Paging(StrictSerializer):
    """As ``helixflow.lib.paging`` reads them."""

    cursor = StrictCharField(required=False)
    limit = StrictCharField(required=False)


class AuditParameters(Paging):
    """As ``accounts.audit_forms`` reads them."""

    actor = StrictCharField(required=False, max_length=254)
    group = serializers.ChoiceField(tuple(GROUPS), required=False)
    since = serializers.DateField(required=False)
    until = serializers.DateField(required=False)


ORGANIZATION: Final[dict[str, Any]] = {
    "id": "org-…",
    "object": "organization",
    "name": "Analytical Engines",
    "role": "owner",
    "cache_ttl_s": None,
    "contents_days": None,
    "created_at": TIME,
    "deletion_due_at": None,
}
MEMBER: Final = {
    "id": "user-…",
    "object": "member",
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "member",
    "joined_at": TIME,
}
INVITATION: Final = {
    "id": "inv_…",
    "object": "invitation",
    "email": "charles@example.com",
    "role": "member",
    "status": "open",
    "invited_by": "user-…",
    "created_at": TIME,
    "expires_at": "2026-01-08T00:00:00Z",
}
AUDIT_EVENT: Final[dict[str, Any]] = {
    "id": "aud_…",
    "object": "audit_event",
    "action": "member.role_changed",
    "summary": "made charles@example.com an admin",
    "actor": "ada@example.com",
    "user_id": "user-…",
    "is_support": False,
    "target": "charles@example.com",
    "changes": {"role": {"before": "member", "after": "admin"}},
    "address": "203.0.113.7",
    "user_agent": "curl/8.14",
    "created_at": TIME,
}

ORGANIZATION_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/organization",
        id="getOrganization",
        tag="Organization",
        summary="Get the organization",
        text="The organization you act for, your role in it, and its settings.",
        answer=answers.Organization,
        anchors=("organization",),
        example=envelope(ORGANIZATION),
    ),
    Operation(
        method="patch",
        path="/organization",
        id="updateOrganization",
        tag="Organization",
        summary="Change its settings",
        text="For owners and admins. Changes count from the next request on.",
        body=organization.Settings,
        answer=answers.Organization,
        example_body={"cache_ttl_s": 3600},
        example=envelope(ORGANIZATION | {"cache_ttl_s": 3600}),
    ),
    Operation(
        method="get",
        path="/organizations",
        id="listOrganizations",
        tag="Organization",
        summary="List your organizations",
        text="All that you are in, on one page, each with your role.",
        answer=answers.Organization,
        shape="page",
        example=page(ORGANIZATION),
    ),
    Operation(
        method="post",
        path="/organizations",
        id="createOrganization",
        tag="Organization",
        summary="Create an organization",
        text="Another one, on the Starter plan, with you as its owner.",
        body=organization.NewOrganization,
        answer=answers.Organization,
        status=201,
        errors=(429,),
        example_body={"name": "Difference Engines"},
        example=envelope(ORGANIZATION | {"name": "Difference Engines"}),
    ),
    Operation(
        method="post",
        path="/organization/transfer",
        id="transferOrganization",
        tag="Organization",
        summary="Transfer the ownership",
        text="Makes a member the owner and you an admin. For owners.",
        body=organization.Transfer,
        answer=answers.Organization,
        errors=(404,),
        example_body={"user_id": "$USER_ID"},
        example=envelope(ORGANIZATION | {"role": "admin"}),
    ),
    Operation(
        method="post",
        path="/organization/deletion",
        id="deleteOrganization",
        tag="Organization",
        summary="Delete the organization",
        text="Its name says that it is meant, and your password that it is you. It is deleted after seven days, in "
        "which its keys are refused and the deletion can be taken back. For owners.",
        body=organization.Deletion,
        answer=answers.Organization,
        status=202,
        errors=(429,),
        example_body={"name": "Analytical Engines", "password": "a long password of yours"},
        example=envelope(ORGANIZATION | {"deletion_due_at": "2026-01-08T00:00:00Z"}),
    ),
    Operation(
        method="delete",
        path="/organization/deletion",
        id="keepOrganization",
        tag="Organization",
        summary="Take a deletion back",
        text="Until it is due. Keys work again at once.",
        answer=answers.Organization,
        example=envelope(ORGANIZATION),
    ),
)

MEMBER_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/members",
        id="listMembers",
        tag="Members",
        summary="List members",
        query=Paging,
        answer=answers.Member,
        shape="page",
        example=page(MEMBER),
    ),
    Operation(
        method="get",
        path="/members/{user_id}",
        id="getMember",
        tag="Members",
        summary="Get a member",
        answer=answers.Member,
        example=envelope(MEMBER),
    ),
    Operation(
        method="patch",
        path="/members/{user_id}",
        id="updateMember",
        tag="Members",
        summary="Change a role",
        text="Owners may give every role, admins that of a member. The last owner stays one.",
        body=members.Role,
        answer=answers.Member,
        example_body={"role": "admin"},
        example=envelope(MEMBER | {"role": "admin"}),
    ),
    Operation(
        method="delete",
        path="/members/{user_id}",
        id="removeMember",
        tag="Members",
        summary="Remove a member, or leave",
        text="With your own id you leave, which every role may, but the last owner. Keys that somebody made stay, "
        "unless you say otherwise.",
        body=members.Removal,
        optional_body=True,
        answer=answers.RemovedMember,
        example_body={"revoke_keys": True},
        example=envelope({"id": "user-…", "object": "member", "deleted": True}),
    ),
    Operation(
        method="get",
        path="/invitations",
        id="listInvitations",
        tag="Members",
        summary="List invitations",
        text="Those that are open. For owners and admins, as all of invitations.",
        query=Paging,
        answer=answers.Invitation,
        shape="page",
        example=page(INVITATION),
    ),
    Operation(
        method="post",
        path="/invitations",
        id="createInvitation",
        tag="Members",
        summary="Invite somebody",
        text="By e-mail. The link in it works once, and ends with the invitation.",
        body=invitations.InvitationFields,
        answer=answers.Invitation,
        status=201,
        errors=(429,),
        example_body={"email": "charles@example.com", "role": "member"},
        example=envelope(INVITATION),
    ),
    Operation(
        method="get",
        path="/invitations/{invitation_id}",
        id="getInvitation",
        tag="Members",
        summary="Get an invitation",
        answer=answers.Invitation,
        example=envelope(INVITATION),
    ),
    Operation(
        method="post",
        path="/invitations/{invitation_id}/resend",
        id="resendInvitation",
        tag="Members",
        summary="Send an invitation again",
        text="With a new link; the old one works no more.",
        answer=answers.Invitation,
        errors=(429,),
        example=envelope(INVITATION),
    ),
    Operation(
        method="delete",
        path="/invitations/{invitation_id}",
        id="withdrawInvitation",
        tag="Members",
        summary="Withdraw an invitation",
        answer=answers.Invitation,
        example=envelope(INVITATION | {"status": "withdrawn"}),
    ),
)

AUDIT_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/audit-events",
        id="listAuditEvents",
        tag="Audit log",
        summary="List audit events",
        text="Every change of access, limits or money, newest first: who, what, when and from where. For owners.",
        query=AuditParameters,
        answer=answers.AuditEvent,
        shape="page",
        example=page(AUDIT_EVENT),
    ),
)

TAGS: Final = (
    Tag("Organization", "organization", "Its name, its settings, its owner and its end.", ORGANIZATION_OPERATIONS),
    Tag("Members", "members", "People, their roles, and invitations.", MEMBER_OPERATIONS),
    Tag("Audit log", "audit-log", "Who changed what.", AUDIT_OPERATIONS),
)
