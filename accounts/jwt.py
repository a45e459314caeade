"""JWTs of ``/v1/auth`` (contract §3): signed by simplejwt, each bound to its session, a row.

An access token says who (``sub``) and by which login (``sid``); the row decides whether that still holds, so a sign-out
or a password change counts on the next request. Settings: ``SIMPLE_JWT``.
"""

import uuid
from dataclasses import dataclass
from typing import Final, TypeVar

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts import auth, keys
from accounts.models import TokenSession, User
from helixflow.lib.errors import AuthenticationFailed

SUBJECT: Final = "sub"
SESSION: Final = "sid"

_Token = TypeVar("_Token", bound=Token)


@dataclass(frozen=True)
class Claims:
    session_id: uuid.UUID
    jti: uuid.UUID


def access_token(session: TokenSession) -> str:
    return str(_bind(AccessToken(), session))


def refresh_token(session: TokenSession) -> str:
    """Determined by the row alone: while it has not rotated, the token comes out the same, to the letter."""
    token = _bind(RefreshToken(), session)
    issued_at = session.rotated_at or session.created_at
    token.set_iat(at_time=issued_at)
    token.set_exp(from_time=issued_at)
    token["jti"] = session.refresh_jti.hex
    return str(token)


def _bind(token: _Token, session: TokenSession) -> _Token:
    token[SUBJECT] = session.user.public_id
    token[SESSION] = session.id.hex
    return token


def read_refresh_token(text: str) -> Claims:
    """Signature, issuer, expiry and type are checked, the session is not. Raises AuthenticationFailed."""
    return _read(RefreshToken, text, "refresh")


def read_access_token(text: str) -> Claims:
    """As ``read_refresh_token``."""
    return _read(AccessToken, text, "access")


def read_any_token(text: str) -> Claims:
    """Of either type, as a sign-out takes it."""
    try:
        return read_access_token(text)
    except AuthenticationFailed:
        return read_refresh_token(text)


def _read(kind: type[Token], text: str, name: str) -> Claims:
    if text.startswith(keys.PREFIX):
        raise AuthenticationFailed(
            "This is an API key. Here a login's access token is needed: POST /v1/auth/login returns one."
        )
    try:
        token = kind(text)  # type: ignore[arg-type]  # simplejwt annotates its own class where it takes text
        return Claims(session_id=uuid.UUID(token[SESSION]), jti=uuid.UUID(token["jti"]))
    except ExpiredTokenError:
        raise AuthenticationFailed(f"The {name} token has expired.") from None
    except (TokenError, KeyError, ValueError, AttributeError, OverflowError):
        raise AuthenticationFailed(f"This is not a valid {name} token.") from None


def token_of(request: Request) -> str | None:
    """The bearer token of the request's header; None without one. Raises AuthenticationFailed."""
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is None:
        return None
    return auth.bearer_token([header.encode("latin-1", "replace")], credential="ACCESS_TOKEN")


class JWTAuthentication(BaseAuthentication):
    """DRF's ``request.user`` and, as ``request.auth``, the TokenSession."""

    def authenticate(self, request: Request) -> tuple[User, TokenSession] | None:
        text = token_of(request)
        if text is None:
            return None
        claims = read_access_token(text)
        session = (
            TokenSession.objects.select_related("user")
            .filter(id=claims.session_id, ended_at=None, expires_at__gt=timezone.now(), user__is_active=True)
            .first()
        )
        if session is None:
            raise AuthenticationFailed("This session has ended. Log in again.")
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
