"""``/v1/auth``: register and log in as the reference prints it, refresh in login's shape, log out.

No Authorization header is read here (but for logout): a stale token must not stand between its owner and a new one.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.urls import re_path
from rest_framework import permissions, status
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit, jwt, services, sessions, two_factor
from accounts.models import TokenSession, User
from accounts.throttles import LOGIN, REGISTRATION, throttled
from helixflow.lib import drf
from helixflow.lib.errors import AuthenticationFailed, InvalidRequest
from helixflow.lib.serializers import StrictCharField, StrictSerializer


class Registration(StrictSerializer):
    """Types only; the rules are the service's."""

    username = StrictCharField(max_length=254)
    email = StrictCharField(max_length=254)
    password = StrictCharField(trim_whitespace=False)


class Credentials(StrictSerializer):
    """``otp``: a code of the authenticator app, or a recovery code, where two-factor authentication is on."""

    username = StrictCharField(max_length=254)
    password = StrictCharField(trim_whitespace=False)
    otp = StrictCharField(max_length=40, required=False, allow_blank=True, allow_null=True)


class Refresh(StrictSerializer):
    refresh_token = StrictCharField(max_length=4096)


class Logout(StrictSerializer):
    refresh_token = StrictCharField(max_length=4096, required=False)


def _open(view: Callable[[Request], Response]) -> Callable[..., Any]:
    """A POST endpoint that needs no credentials."""
    return api_view(["POST"])(authentication_classes([])(permission_classes([permissions.AllowAny])(view)))


@_open
@throttled(REGISTRATION)
def register(request: Request) -> Response:
    user = services.register(**_validated(Registration(data=request.data)))
    return Response(
        {"message": "User registered successfully", "user_id": user.public_id, "username": user.username},
        status=status.HTTP_201_CREATED,
    )


@_open
@throttled(LOGIN)
def login(request: Request) -> Response:
    """One message for every wrong login: unknown, inactive or the wrong password. Only then does ``otp`` count."""
    credentials = _validated(Credentials(data=request.data))
    code = credentials.pop("otp", None)
    user = authenticate(**credentials)
    if not isinstance(user, User):
        raise AuthenticationFailed("Wrong username, e-mail address or password.")
    proof = _second_factor(user, code)
    session = sessions.start(
        user=user,
        address=request.META.get("REMOTE_ADDR", ""),
        user_agent=request.headers.get("User-Agent", ""),
    )
    update_last_login(User, user)
    audit.record("login.succeeded", user=user, summary=f"logged in through the API{f' with {proof}' if proof else ''}")
    return _tokens(session)


def _second_factor(user: User, code: str | None) -> two_factor.Proof | None:
    if not two_factor.is_on(user):
        return None
    if not code:
        raise AuthenticationFailed(
            "This account has two-factor authentication: send a code of its authenticator app, or a recovery code, "
            "as otp.",
            param="otp",
        )
    return two_factor.prove(user=user, code=code)


@_open
def refresh(request: Request) -> Response:
    claims = jwt.read_refresh_token(_validated(Refresh(data=request.data))["refresh_token"])
    return _tokens(sessions.refresh(session_id=claims.session_id, jti=claims.jti))


@_open
def logout(request: Request) -> Response:
    """Ends the session of the access token in the header, or of the refresh token in the body. Idempotent."""
    text = _validated(Logout(data=request.data)).get("refresh_token") or jwt.token_of(request)
    if text is None:
        raise InvalidRequest("Send the access token in the Authorization header, or the refresh_token in the body.")
    sessions.end(session_id=jwt.read_any_token(text).session_id)
    return drf.respond(request, {"message": "Logged out"})


def _tokens(session: TokenSession) -> Response:
    user = session.user
    answer = {
        "access_token": jwt.access_token(session),
        "token_type": "bearer",
        "expires_in": int(settings.JWT_ACCESS_LIFETIME.total_seconds()),
        "user": {"id": user.public_id, "username": user.username, "email": user.email},
        "refresh_token": jwt.refresh_token(session),
    }
    return Response(answer, headers={"Cache-Control": "no-store"})


def _validated(serializer: StrictSerializer) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


urlpatterns = [
    re_path(r"^auth/register/?$", register),
    re_path(r"^auth/login/?$", login),
    re_path(r"^auth/refresh/?$", refresh),
    re_path(r"^auth/logout/?$", logout),
]
