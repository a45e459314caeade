"""Everything somebody is logged in with, browsers and API sessions in one list, for its owner to see and end.

A browser's session key is its cookie, so it is shown by a digest; it and an API session's id are opaque to callers.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import audit, sessions, user_agents, web_sessions
from accounts.models import TokenSession, User, WebSession
from helixflow.lib import errors, ids

MOST: Final = 50  # of each kind are listed, the last used


@dataclass(frozen=True, slots=True)
class OpenSession:
    handle: str
    is_api: bool
    is_current: bool
    device: str  # Firefox on Linux
    user_agent: str
    address: str | None
    created_at: datetime
    last_used_at: datetime


def listed(user: User, current_key: str | None) -> list[OpenSession]:
    """The current one first, then the last used."""
    rows = [_of_browser(row, current_key) for row in _browsers(user).order_by("-last_used_at")[:MOST]]
    rows += [_of_api(row) for row in _logins(user).order_by("-last_used_at")[:MOST]]
    return sorted(rows, key=lambda row: (row.is_current, row.last_used_at), reverse=True)


def count(user: User) -> int:
    return _browsers(user).count() + _logins(user).count()


def end(*, user: User, handle: str) -> OpenSession:
    """Its next request is refused. Raises NotFound for what is not open, or somebody else's."""
    with transaction.atomic():
        ended = _end_api(user, handle) if handle.startswith(ids.SESSION) else _end_browser(user, handle)
        audit.record("session.ended", user=user, summary=f"ended a session: {ended.device}")
    return ended


def end_others(*, user: User, current_key: str | None) -> int:
    """All but the browser session with that key; how many."""
    with transaction.atomic():
        ended = web_sessions.end_all(user=user, but=current_key) + sessions.end_all(user=user)
        if ended:
            audit.record("session.others_ended", user=user, summary=f"signed out of {ended} other sessions")
    return ended


def _browsers(user: User) -> QuerySet[WebSession]:
    return WebSession.objects.filter(user=user, expire_date__gt=timezone.now())


def _logins(user: User) -> QuerySet[TokenSession]:
    return TokenSession.objects.filter(user=user, ended_at=None, expires_at__gt=timezone.now())


def _end_browser(user: User, handle: str) -> OpenSession:
    found = next((row for row in _browsers(user).order_by("-last_used_at") if _handle(row) == handle), None)
    if found is None:
        raise errors.NotFound("This session has ended already.")
    found.delete()
    return _of_browser(found, None)


def _end_api(user: User, handle: str) -> OpenSession:
    try:
        found = _logins(user).filter(id=ids.parse_public_id(ids.SESSION, handle)).first()
    except ValueError:
        found = None
    if found is None:
        raise errors.NotFound("This session has ended already.")
    sessions.end(session_id=found.id)
    return _of_api(found)


def _handle(row: WebSession) -> str:
    return salted_hmac("accounts.open_sessions", row.session_key, algorithm="sha256").hexdigest()[:32]


def _of_browser(row: WebSession, current_key: str | None) -> OpenSession:
    return OpenSession(
        handle=_handle(row),
        is_api=False,
        is_current=row.session_key == current_key,
        device=user_agents.describe(row.user_agent),
        user_agent=row.user_agent,
        address=row.address,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


def _of_api(row: TokenSession) -> OpenSession:
    return OpenSession(
        handle=ids.public_id(ids.SESSION, row.id),
        is_api=True,
        is_current=False,
        device=user_agents.describe(row.user_agent),
        user_agent=row.user_agent,
        address=row.address,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
