"""POST /v1/auth/logout."""

import pytest

from accounts import jwt, sessions
from accounts.models import TokenSession, User
from tests.accounts.conftest import Post

URL = "/v1/auth/logout"
pytestmark = pytest.mark.django_db


@pytest.fixture
def session(owner: User) -> TokenSession:
    return sessions.start(user=owner)


@pytest.fixture
def other(owner: User) -> TokenSession:
    return sessions.start(user=owner)


def assert_ended(session: TokenSession, other: TokenSession) -> None:
    session.refresh_from_db()
    other.refresh_from_db()
    assert session.ended_at is not None
    assert other.ended_at is None


@pytest.mark.parametrize("kind", [jwt.access_token, jwt.refresh_token])
def test_either_token_in_the_header_ends_its_session_alone(post: Post, session, other, kind) -> None:
    for _ in range(2):  # idempotent
        response = post(URL, "", authorization=f"Bearer {kind(session)}")
        assert response.status_code == 200
        assert response.json()["data"] == {"message": "Logged out"}
        assert set(response.json()["meta"]) == {"timestamp", "request_id"}
    assert_ended(session, other)


def test_a_refresh_token_in_the_body_will_do(post: Post, session, other) -> None:
    assert post(URL, {"refresh_token": jwt.refresh_token(session)}).status_code == 200
    assert_ended(session, other)
    assert post("/v1/auth/refresh", {"refresh_token": jwt.refresh_token(session)}).status_code == 401


def test_without_a_token_it_says_what_is_needed(post: Post, db: None) -> None:
    response = post(URL, {})
    assert response.status_code == 400
    assert "access token" in response.json()["error"]["message"]


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic eDp5", "Bearer nonsense", "Bearer hflow_abc"])
def test_bad_tokens_are_401(post: Post, db: None, header: str) -> None:
    response = post(URL, {}, authorization=header)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "authentication_failed"


def test_unknown_fields_are_400(post: Post, db: None) -> None:
    assert post(URL, {"everywhere": True}).status_code == 400
