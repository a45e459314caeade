"""Support looks at the dashboard as an organization has it: to read, for half an hour, and in its audit log.

Who looks stays who they are: the session is the operator's own, with the organization noted in it, and pages are shown
as an owner sees them. ``helixflow.middleware`` lets nothing through that changes anything; what is not a page (sockets,
the API) doesn't pass there, so for it there is no such organization (``membership``).

Not shown: the operator's own account pages, which are nobody else's; the playground; whatever is downloaded; stored
prompts and answers.
"""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Final

from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit
from accounts.models import Membership, Organization, Role, User
from helixflow.lib import errors

LASTS: Final = dt.timedelta(minutes=30)
KEY: Final = "viewing"  # in the session
PERMISSION: Final = "accounts.change_organization"
READ_ONLY: Final = "You are looking as support: nothing can be changed. End the view first."
NOT_SHOWN: Final = "Not shown while you are looking as support. End the view first."
MAX_REASON: Final = 200
# By the beginning of the path. Pages of the account are the operator's own; the playground spends; exports hold all.
CLOSED: Final = (
    "/dashboard/organizations",
    "/dashboard/playground",
    "/dashboard/profile",
    "/dashboard/security",
    "/dashboard/settings/delete",
    "/dashboard/settings/exports",
)


@dataclass(frozen=True, slots=True)
class Viewing:
    """``until``: when it ends by itself."""

    operator: User
    organization: Organization
    until: dt.datetime


def start(*, request: HttpRequest, operator: User, organization: Organization, reason: str) -> Viewing:
    """From the next page on. Raises InvalidRequest, AuthorizationFailed."""
    if not may(operator):
        raise errors.AuthorizationFailed("Your account may not look at the dashboards of others.")
    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise errors.InvalidRequest(f"Say why, in up to {MAX_REASON} characters.", param="reason")
    if (before := current(request)) is not None:
        end(session=request.session, viewing=before)
    until = timezone.now() + LASTS
    request.session[KEY] = {"organization": organization.id.hex, "until": until.timestamp()}
    minutes = int(LASTS.total_seconds() // 60)
    summary = f"began to look at the dashboard as support, read-only, for up to {minutes} minutes: {reason.strip()}"
    _record("support.view_started", operator, organization, summary)
    return Viewing(operator, organization, until)


def end(*, session: SessionBase, viewing: Viewing) -> None:
    """Idempotent."""
    if session.pop(KEY, None) is not None:
        _record(
            "support.view_ended", viewing.operator, viewing.organization, "ended looking at the dashboard as support"
        )


def current(request: HttpRequest) -> Viewing | None:
    """What this request's session looks at. One that is over, or whose operator may no longer, is ended here."""
    noted = request.session.get(KEY)
    if noted is None:
        return None
    operator = request.user
    organization = Organization.objects.filter(id=uuid.UUID(noted["organization"])).first()
    if organization is None or not isinstance(operator, User):
        del request.session[KEY]
        return None
    viewing = Viewing(operator, organization, dt.datetime.fromtimestamp(noted["until"], dt.UTC))
    if viewing.until <= timezone.now() or not may(operator):
        end(session=request.session, viewing=viewing)
        return None
    return viewing


def refusal(request: HttpRequest) -> str:
    """Why this request can't be answered while its session looks at an organization; empty if it can be.

    Ending the view and logging out can always be; and the admin site, which is the operator's own, is not asked about.
    """
    path = request.path
    if path in {"/dashboard/support-view/end", "/logout"}:
        return ""
    if request.method not in {"GET", "HEAD"}:
        return READ_ONLY
    return NOT_SHOWN if path.startswith(CLOSED) else ""


def membership(request: HttpRequest) -> Membership | None:
    """As an owner of what is looked at, though there is no such row. None: the session looks at nobody.

    Raises AuthorizationFailed for what did not come by way of the middleware.
    """
    if KEY not in request.session:
        return None
    viewing: Viewing | None = getattr(request, "viewing", None)
    if viewing is None:
        raise errors.AuthorizationFailed(NOT_SHOWN)
    return Membership(organization=viewing.organization, user=viewing.operator, role=Role.OWNER)


def is_view(membership: Membership) -> bool:
    """Whether it is one of ``membership``'s: support looks, and some things are not for it to see."""
    return membership.pk is None


def require_nobody(session: SessionBase) -> None:
    """Raises AuthorizationFailed while the session looks at an organization."""
    if KEY in session:
        raise errors.AuthorizationFailed(NOT_SHOWN)


def may(user: User) -> bool:
    return user.is_active and user.is_staff and user.has_perm(PERMISSION)


def _record(action: str, operator: User, organization: Organization, summary: str) -> None:
    audit.record(action, user=operator, organization=organization, target=organization.public_id, summary=summary)
