"""Who may do what: the only getters for dashboard and API. They fetch and check; a foreign id is 404.

What each role may do is a table, ``accounts.roles``.
"""

import uuid

from django.contrib.sessions.backends.base import SessionBase
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import impersonation, roles
from accounts.models import ApiKey, Export, Invitation, Membership, Organization, User
from helixflow.lib import errors, ids

SESSION_CHOICE = "organization"  # where a session keeps which of several organizations its user looks at
IN_NONE = "You are in no organization. Create one at /dashboard/organizations, or ask for an invitation."


def memberships(user: User) -> QuerySet[Membership]:
    """Oldest first: the organization made at registration leads."""
    return Membership.objects.filter(user=user).select_related("organization").order_by("created_at", "id")


def page_membership(request: HttpRequest) -> Membership:
    """The organization a dashboard page is about: the one chosen, if its user is still in it, else the first.

    For views behind ``login_required``. Raises AuthorizationFailed for those who are in none.
    """
    mine = page_memberships(request)
    if not mine:
        raise errors.AuthorizationFailed(IN_NONE)
    return _chosen(mine, request.session)


def page_memberships(request: HttpRequest) -> list[Membership]:
    """All of the user's, read once a request: the switcher shows them on every page."""
    found: list[Membership] | None = getattr(request, "memberships", None)
    if found is None:
        viewed = impersonation.membership(request)
        found = [viewed] if viewed else list(memberships(page_user(request)))
        request.memberships = found  # type: ignore[attr-defined]  # kept for the rest of this request
    return found


def page_user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise errors.AuthenticationFailed
    return request.user


def session_membership(user: User, session: SessionBase) -> Membership:
    impersonation.require_nobody(session)
    mine = list(memberships(user))
    if not mine:
        raise errors.AuthorizationFailed(IN_NONE)
    return _chosen(mine, session)


def _chosen(mine: list[Membership], session: SessionBase) -> Membership:
    """The first where the chosen one is gone."""
    chosen = session.get(SESSION_CHOICE)
    return next((membership for membership in mine if membership.organization_id.hex == chosen), mine[0])


def choose_organization(user: User, session: SessionBase, public_id: str) -> Membership:
    """Makes ``public_id`` the session's organization. Raises NotFound."""
    membership = _membership_in(user, public_id)
    session[SESSION_CHOICE] = membership.organization_id.hex
    return membership


def api_membership(user: User, organization_header: str | None) -> Membership:
    """The organization a JWT acts for: the user's only one, or the one in X-HelixFlow-Organization."""
    if organization_header is not None:
        membership = _membership_in(user, organization_header)
    else:
        mine = list(memberships(user)[:2])
        if not mine:
            raise errors.AuthorizationFailed("You are in no organization. POST /v1/organizations makes one.")
        if len(mine) > 1:
            raise errors.InvalidRequest(
                "You are in several organizations: name one in the header X-HelixFlow-Organization.",
                param="X-HelixFlow-Organization",
            )
        membership = mine[0]
    _require_enabled(membership.organization)
    return membership


def require_key_manager(membership: Membership) -> None:
    require_manager(membership, of="its API keys")


def require_manager(membership: Membership, *, of: str) -> None:
    """``of`` is what is managed, as the refusal names it."""
    _require_enabled(membership.organization)
    _require_kept(membership.organization)
    if not membership.manages_keys:
        raise errors.AuthorizationFailed(f"Only owners and admins of the organization manage {of}.")


def why_not_manager(membership: Membership, *, of: str) -> str:
    """What ``require_manager`` refuses with; empty if it doesn't. For pages that say why they are read-only."""
    try:
        require_manager(membership, of=of)
    except errors.AuthorizationFailed as refused:
        return refused.message
    return ""


def require(membership: Membership, capability: roles.Capability) -> None:
    """Raises AuthorizationFailed, also where the organization is disabled or about to be deleted."""
    _require_enabled(membership.organization)
    if not capability.while_deleted:
        _require_kept(membership.organization)
    if not roles.may(membership.role, capability):
        who = roles.only(capability.roles)
        raise errors.AuthorizationFailed(f"{who} of the organization {capability.does}.")


def may(membership: Membership, capability: roles.Capability) -> bool:
    """Whether ``require`` lets them; for pages that show what they can."""
    try:
        require(membership, capability)
    except errors.AuthorizationFailed:
        return False
    return True


def get_member(membership: Membership, public_id: str) -> Membership:
    """Somebody of the same organization, by their user id. Raises NotFound."""
    user_id = parse_id(ids.USER, public_id)
    rows = Membership.objects.filter(organization=membership.organization_id).select_related("user", "organization")
    found = rows.filter(user_id=user_id).first()
    if found is None:
        raise errors.NotFound("Nobody with this id is in the organization.")
    return found


def get_invitation(membership: Membership, public_id: str) -> Invitation:
    """Also one that is used, withdrawn or expired. Raises NotFound."""
    invitation_id = parse_id(ids.INVITATION, public_id)
    rows = Invitation.objects.filter(organization=membership.organization_id).select_related("invited_by")
    found = rows.filter(id=invitation_id).first()
    if found is None:
        raise errors.NotFound("There is no invitation with this id.")
    return found


def get_export(membership: Membership, public_id: str) -> Export:
    """Raises NotFound."""
    export_id = parse_id(ids.EXPORT, public_id)
    found = Export.objects.filter(organization=membership.organization_id, id=export_id).first()
    if found is None:
        raise errors.NotFound("There is no export with this id. They are kept for seven days.")
    return found


def get_api_key(membership: Membership, public_id: str) -> ApiKey:
    """Raises NotFound, whether the key is another organization's or nobody's."""
    key_id = parse_id(ids.API_KEY, public_id)
    key = ApiKey.objects.of(membership.organization).select_related("created_by").filter(id=key_id).first()
    if key is None:
        raise errors.NotFound("There is no API key with this id.")
    return key


def _membership_in(user: User, public_id: str) -> Membership:
    membership = memberships(user).filter(organization_id=parse_id(ids.ORGANIZATION, public_id)).first()
    if membership is None:
        raise errors.NotFound("You are in no organization with this id.")
    return membership


def parse_id(prefix: str, public_id: str) -> uuid.UUID:
    """Raises NotFound for what is no id with this prefix."""
    try:
        return ids.parse_public_id(prefix, public_id)
    except ValueError:
        raise errors.NotFound(f"That is not an id; one starts with {prefix}.") from None


def _require_enabled(organization: Organization) -> None:
    if organization.disabled_at is not None:
        raise errors.AuthorizationFailed("This organization is disabled. Write to support to find out why.")


def _require_kept(organization: Organization) -> None:
    if organization.deletion_due_at is not None:
        raise errors.AuthorizationFailed("This organization is about to be deleted. An owner can still keep it.")
