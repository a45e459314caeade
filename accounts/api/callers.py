"""Who calls, behind the JWT of a login."""

from rest_framework.request import Request

from accounts import access
from accounts.models import Membership, User


def user(request: Request) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: IsAuthenticated is the default
    return request.user


def membership(request: Request) -> Membership:
    """In the organization that the call is about. Raises what ``access.api_membership`` does."""
    return access.api_membership(user(request), request.headers.get("X-HelixFlow-Organization"))
