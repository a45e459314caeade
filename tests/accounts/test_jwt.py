"""JWTAuthentication, tried on an endpoint that needs it."""

import uuid
from datetime import timedelta

import jwt as pyjwt
import pytest
import time_machine
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts import jwt, services, sessions
from accounts.models import Organization, TokenSession, User

URL = "/v1/api-keys"
pytestmark = pytest.mark.django_db


@pytest.fixture
def session(owner: User, organization: Organization) -> TokenSession:
    return sessions.start(user=owner)


def get(header: str | None):
    return Client().get(URL, headers={} if header is None else {"Authorization": header})


def assert_refused(response) -> str:
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    error = response.json()["error"]
    assert error["code"] == "authentication_failed"
    return str(error["message"])


def claims(session: TokenSession, **changes: object) -> dict[str, object]:
    now = int(timezone.now().timestamp())
    made = {
        "token_type": "access",
        "exp": now + 600,
        "iat": now,
        "jti": uuid.uuid4().hex,
        "iss": "helixflow",
        "sub": session.user.public_id,
        "sid": session.id.hex,
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def signed(session: TokenSession, *, key: str = settings.JWT_KEY, algorithm: str = "HS256", **changes: object) -> str:
    return pyjwt.encode(claims(session, **changes), key, algorithm)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_without_regard_to_case(session: TokenSession, scheme: str) -> None:
    assert get(f"{scheme} {jwt.access_token(session)}").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic b3duZXI6eA==",
        "Token abc",
        "Bearer a b",
        "Bearer \xe9",
        "Bearer ' OR 1=1 --",
    ],
)
def test_missing_and_malformed_headers_are_401(db: None, header: str | None) -> None:
    assert_refused(get(header))


def test_two_authorization_headers_are_refused(session: TokenSession) -> None:
    header = f"Bearer {jwt.access_token(session)}"
    assert_refused(get(f"{header},{header}"))  # as ASGI joins them


def test_a_64_kb_token_is_refused(session: TokenSession) -> None:
    assert_refused(get("Bearer " + "a" * 65_536))


def test_an_api_key_is_answered_with_what_is_needed(db: None) -> None:
    assert "API key" in assert_refused(get("Bearer hflow_" + "a" * 49))


def test_a_token_in_the_query_string_counts_for_nothing(session: TokenSession) -> None:
    assert_refused(Client().get(f"{URL}?access_token={jwt.access_token(session)}"))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "another key, as long as HS256 wants one to be"},
        {"key": settings.SECRET_KEY},
        {"algorithm": "HS512"},
        {"iss": "elsewhere"},
        {"iss": None},
        {"token_type": "refresh"},
        {"token_type": None},
        {"sid": None},
        {"sid": 7},
        {"sid": "not a uuid"},
        {"sid": uuid.uuid4().hex},
        {"jti": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 10**30},
        {"exp": 1},
    ],
)
def test_tokens_that_are_not_ours_are_refused(session: TokenSession, changes) -> None:
    assert get(f"Bearer {signed(session)}").status_code == 200
    assert_refused(get(f"Bearer {signed(session, **changes)}"))


def test_an_unsigned_token_is_refused(session: TokenSession) -> None:
    assert_refused(get(f"Bearer {pyjwt.encode(claims(session), '', 'none')}"))


def test_a_refresh_token_is_refused(session: TokenSession) -> None:
    assert_refused(get(f"Bearer {jwt.refresh_token(session)}"))


@pytest.mark.parametrize(("seconds", "status"), [(3600 + 29, 200), (3600 + 31, 401)])
def test_it_expires_after_an_hour_with_thirty_seconds_of_leeway(
    session: TokenSession, seconds: int, status: int
) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        token = jwt.access_token(session)
        clock.shift(timedelta(seconds=seconds))
        assert get(f"Bearer {token}").status_code == status


def test_an_ended_session_an_inactive_user_and_a_new_password_count_at_once(owner: User, session: TokenSession) -> None:
    def works(session: TokenSession) -> bool:
        return bool(get(f"Bearer {jwt.access_token(session)}").status_code == 200)

    assert works(session)
    sessions.end(session_id=session.id)
    assert not works(session)

    second = sessions.start(user=owner)
    assert works(second)
    services.change_password(user=owner, password="another secret 1")
    assert not works(second)

    third = sessions.start(user=owner)
    assert works(third)
    User.objects.filter(id=owner.id).update(is_active=False)
    assert not works(third)
