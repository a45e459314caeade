"""The dashboard's page of an organization's people: members and their roles, invitations, leaving."""

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access, invitations, members, roles, throttles
from accounts.models import Membership, Role
from accounts.team_forms import InviteForm, RemoveForm, RoleForm, TypedForm
from helixflow.lib import errors

PAGE: Final = 50
MAX_KEYS_SHOWN: Final = 20

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_safe
def team(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    cursor = request.GET.get("cursor") or None
    page = members.page(membership.organization, cursor=cursor, limit=PAGE)
    manages = access.may(membership, roles.MANAGE_MEMBERS)
    context = {
        "members": page.members,
        "following": f"cursor={page.following}" if page.following else "",
        "first": "cursor=" if cursor else "",
        "manages": manages,
        "grants": [role.value for role in roles.grantable(membership.role)] if manages else [],
        "open_invitations": _invitations(membership) if manages else [],
    }
    return _render(request, membership, "team", context)


@login_required
@require_safe
def role_table(request: HttpRequest) -> HttpResponse:
    return _render(request, access.page_membership(request), "roles", {"roles": Role, "capabilities": _table()})


@login_required
@form_view
@throttles.throttled(throttles.INVITATION)
def invite(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.MANAGE_MEMBERS)
    form = InviteForm(membership, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            invitation = invitations.invite(by=membership, **form.cleaned_data)
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            messages.success(request, f"Invited. A link is on its way to {invitation.email}.")
            return redirect("team")
    return _render(request, membership, "invite", {"form": form})


@login_required
@require_POST
@throttles.throttled(throttles.INVITATION)
def resend(request: HttpRequest, invitation_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.MANAGE_MEMBERS)
    invitation = access.get_invitation(membership, invitation_id)
    try:
        invitations.resend(by=membership, invitation=invitation)
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, f"Sent to {invitation.email} again. The link sent before no longer works.")
    return redirect("team")


@login_required
@require_POST
def withdraw(request: HttpRequest, invitation_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.MANAGE_MEMBERS)
    invitation = access.get_invitation(membership, invitation_id)
    try:
        invitations.withdraw(by=membership, invitation=invitation)
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, f"Withdrawn. The link sent to {invitation.email} no longer works.")
    return redirect("team")


@login_required
@form_view
def member_detail(request: HttpRequest, user_id: str) -> HttpResponse:
    """Somebody's role, for those who may change it."""
    membership = access.page_membership(request)
    access.require(membership, roles.MANAGE_MANAGERS)
    member = access.get_member(membership, user_id)
    form = RoleForm(membership, member, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            members.change_role(by=membership, member=member, role=form.cleaned_data["role"])
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            messages.success(request, f"Saved. {member.user.get_short_name()} is {form.cleaned_data['role']} now.")
            return redirect("team")
    return _render(request, membership, "member", {"member": member, "form": form})


@login_required
@form_view
def remove(request: HttpRequest, user_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.MANAGE_MEMBERS)
    member = access.get_member(membership, user_id)
    form = RemoveForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            revoked = members.remove(by=membership, member=member, revoke_keys=form.cleaned_data["revoke_keys"])
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            also = f", with {revoked:,} API {'key' if revoked == 1 else 'keys'} revoked" if revoked else ""
            messages.success(request, f"Removed {member.user.email}{also}.")
            return redirect("team")
    return _render(request, membership, "remove", {"member": member, "form": form} | _keys_of(member))


@login_required
@form_view
def transfer(request: HttpRequest, user_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.TRANSFER)
    member = access.get_member(membership, user_id)
    name = membership.organization.name
    form = TypedForm(name, "The organization's name", request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            members.transfer(by=membership, member=member)
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            messages.success(request, f"Transferred. {member.user.email} is its owner now, and you are an admin.")
            return redirect("team")
    return _render(request, membership, "transfer", {"member": member, "form": form})


@login_required
@form_view
def leave(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    refused = "" if members.may_leave(membership) else members.LAST_OWNER
    if request.method == "POST":
        try:
            members.leave(member=membership)
        except errors.InvalidRequest as error:
            refused = error.message
        else:
            request.session.pop(access.SESSION_CHOICE, None)
            messages.success(request, f"You left {membership.organization.name}.")
            return redirect("organizations")
    return _render(request, membership, "leave", {"refused": refused} | _keys_of(membership))


def _invitations(membership: Membership) -> list[tuple[Any, str]]:
    """At most ``invitations.MAX_OPEN``."""
    return [(each, invitations.status(each)) for each in invitations.open_ones(membership.organization)]


def _table() -> list[tuple[str, list[bool]]]:
    return [(each.label, [role in each.roles for role in Role]) for each in roles.TABLE]


def _keys_of(member: Membership) -> dict[str, Any]:
    keys = members.keys_made_by(member)
    shown = list(keys[: MAX_KEYS_SHOWN + 1])
    more = keys.count() - MAX_KEYS_SHOWN if len(shown) > MAX_KEYS_SHOWN else 0
    return {"keys": shown[:MAX_KEYS_SHOWN], "more_keys": more}


def _render(request: HttpRequest, membership: Membership, page: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, f"accounts/team/{page}.html", {"membership": membership, **context})


urlpatterns = [
    path("dashboard/team", team, name="team"),
    path("dashboard/team/roles", role_table, name="team-roles"),
    path("dashboard/team/invite", invite, name="team-invite"),
    path("dashboard/team/leave", leave, name="team-leave"),
    path("dashboard/team/invitations/<str:invitation_id>/resend", resend, name="invitation-resend"),
    path("dashboard/team/invitations/<str:invitation_id>/withdraw", withdraw, name="invitation-withdraw"),
    path("dashboard/team/members/<str:user_id>", member_detail, name="member"),
    path("dashboard/team/members/<str:user_id>/remove", remove, name="member-remove"),
    path("dashboard/team/members/<str:user_id>/transfer", transfer, name="member-transfer"),
]
