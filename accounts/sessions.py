"""API sessions: one row per login through ``/v1/auth``, named by every JWT of it, and the rotation of refresh tokens.

A refresh token is used once. A client whose answer was lost, or which refreshes from several places at once, may
repeat it for ``REPEAT_S`` and gets the very same successor; later the repeat means theft, and the session ends.
"""

import ipaddress
import uuid
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import TokenSession, User
from helixflow.lib.errors import AuthenticationFailed

REPEAT_S: Final = 10
ENDED: Final = "This session has ended. Log in again."


def start(*, user: User, address: str = "", user_agent: str = "") -> TokenSession:
    """Raises AuthenticationFailed if the password has changed since ``user`` gave it: that change ended everything."""
    now = timezone.now()
    with transaction.atomic():
        if not User.objects.select_for_update().filter(id=user.id, password=user.password, is_active=True).exists():
            raise AuthenticationFailed(ENDED)
        return TokenSession.objects.create(
            user=user,
            created_at=now,
            last_used_at=now,
            expires_at=now + settings.JWT_REFRESH_LIFETIME,
            refresh_jti=uuid.uuid4(),
            address=_clean_address(address),
            user_agent=user_agent.replace("\0", "")[:300],
        )


def refresh(*, session_id: uuid.UUID, jti: uuid.UUID) -> TokenSession:
    """The session with its refresh token rotated, under a row lock. Raises AuthenticationFailed.

    ``refresh_jti`` and ``rotated_at`` of the answer determine the successor, so a repeat gets the same one.
    """
    now = timezone.now()
    with transaction.atomic():
        session = (
            TokenSession.objects.select_for_update(of=("self",)).select_related("user").filter(id=session_id).first()
        )
        if session is None or session.ended_at or session.expires_at <= now or not session.user.is_active:
            raise AuthenticationFailed(ENDED)
        if jti == session.refresh_jti:
            _rotate(session)
            return session
        if jti == session.previous_refresh_jti and _rotated_just_now(session):
            return session
        end(session_id=session.id)
    raise AuthenticationFailed(ENDED)  # outside the transaction, which must commit the end


def _rotated_just_now(session: TokenSession) -> bool:
    return session.rotated_at is not None and timezone.now() - session.rotated_at <= timedelta(seconds=REPEAT_S)


def _rotate(session: TokenSession) -> None:
    now = timezone.now()
    session.previous_refresh_jti = session.refresh_jti
    session.refresh_jti = uuid.uuid4()
    session.rotated_at = session.last_used_at = now
    session.expires_at = now + settings.JWT_REFRESH_LIFETIME
    session.save(
        update_fields=["refresh_jti", "previous_refresh_jti", "rotated_at", "last_used_at", "expires_at"],
    )


def end(*, session_id: uuid.UUID) -> None:
    """Idempotent: the first end counts."""
    TokenSession.objects.filter(id=session_id, ended_at=None).update(ended_at=timezone.now())


def end_all(*, user: User) -> int:
    """Every API session of ``user``; how many were ended."""
    return TokenSession.objects.filter(user=user, ended_at=None).update(ended_at=timezone.now())


def _clean_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:  # a Unix socket, or a proxy's word that is no address
        return None
