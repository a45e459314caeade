"""Who may do what: the only getters for dashboard and API. They fetch and check; a foreign id is 404.

Members see an organization's keys; its owners and admins create, change, rotate, limit and revoke them. The same goes
for the plan's caps.
"""

import uuid

from django.contrib.sessions.backends.base import SessionBase
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import ApiKey, Membership, Organization, User
from helixflow.lib import errors, ids

SESSION_CHOICE = "organization"  # where a session keeps which of several organizations its user looks at


def memberships(user: User) -> QuerySet[Membership]:
    """Oldest first: the organization made at registration leads."""
    return Membership.objects.filter(user=user).select_related("organization").order_by("created_at", "id")


def page_membership(request: HttpRequest) -> Membership:
    """The organization a dashboard page is about: the one chosen, if its user is still in it, else the first.

    For views behind ``login_required``.
    """
    return session_membership(page_user(request), request.session)


def page_user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise errors.AuthenticationFailed
    return request.user


def session_membership(user: User, session: SessionBase) -> Membership:
    mine = list(memberships(user))
    if not mine:
        raise errors.AuthorizationFailed("You are in no organization. Ask for an invitation, or sign up for one.")
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
            raise errors.AuthorizationFailed("You are in no organization.")
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
    if not membership.manages_keys:
        raise errors.AuthorizationFailed(f"Only owners and admins of the organization manage {of}.")


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
