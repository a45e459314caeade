"""POST /v1/auth/login."""

from datetime import timedelta

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client, override_settings

from accounts import jwt, services, sessions
from accounts.models import TokenSession, User
from helixflow.lib.errors import AuthenticationFailed
from tests.accounts.conftest import Post
from tests.factories import PASSWORD

URL = "/v1/auth/login"
pytestmark = pytest.mark.django_db


def credentials(username: str = "owner@example.com", password: str = PASSWORD) -> dict[str, str]:
    return {"username": username, "password": password}


def test_it_answers_as_the_reference_prints_plus_a_refresh_token(post: Post, owner: User) -> None:
    response = post(URL, credentials(), user_agent="tests/1.0")
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    session = TokenSession.objects.get()
    assert jwt.read_access_token(answer.pop("access_token")).session_id == session.id
    assert jwt.read_refresh_token(answer.pop("refresh_token")).jti == session.refresh_jti
    assert answer == {
        "token_type": "bearer",
        "expires_in": 3600,
        "user": {"id": owner.public_id, "username": "owner@example.com", "email": "owner@example.com"},
    }
    assert (session.user_agent, session.address) == ("tests/1.0", "127.0.0.1")
    assert session.expires_at - session.created_at == timedelta(days=7)
    owner.refresh_from_db()
    assert owner.last_login is not None


def test_the_reference_examples_work_one_after_the_other(post: Post) -> None:
    example = {"username": "user@example.com", "password": "password123"}
    assert post("/v1/auth/register", example | {"email": "user@example.com"}).status_code == 201
    assert post(URL, example).status_code == 200


def test_a_handle_or_the_address_in_any_case_will_do(post: Post, db: None) -> None:
    services.register(username="Ada", email="ada@example.com", password=PASSWORD)
    for username in ("ada", "ADA", "Ada@Example.COM"):
        assert post(URL, credentials(username)).status_code == 200, username


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("owner@example.com", "wrong"),
        ("owner@example.com", f" {PASSWORD} "),
        ("owner@example.com", "x" * 1_000_000),
        ("nobody@example.com", PASSWORD),
        ("inactive@example.com", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
    ],
)
def test_every_wrong_login_reads_the_same(post: Post, owner: User, inactive: User, username, password) -> None:
    response = post(URL, credentials(username, password))
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["code"], error["message"], error["details"]) == (
        "authentication_failed",
        "Wrong username, e-mail address or password.",
        {},
    )
    assert not TokenSession.objects.exists()


@pytest.fixture
def inactive(db: None) -> User:
    return User.objects.create_user("inactive@example.com", "inactive@example.com", PASSWORD, is_active=False)


@pytest.mark.parametrize("username", ["owner@example.com", "inactive@example.com", "nobody@example.com", "nobody"])
def test_a_wrong_login_costs_one_hash_whoever_it_names(
    post: Post, owner: User, inactive: User, username: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    for name in ("encode", "verify"):
        original = getattr(Argon2PasswordHasher, name)

        def counted(self, *args, original=original, **kwargs):
            hashed.append(1)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Argon2PasswordHasher, name, counted)
    assert post(URL, credentials(username, "wrong password")).status_code == 401
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": 7}, "username"),
        ({"username": None}, "username"),
        ({"username": "x" * 10_000}, "username"),
        ({"password": True}, "password"),
        ({"password": ["correct horse 42"]}, "password"),
        ({"otp_override": "1"}, "otp_override"),
        ({"is_staff": True}, "is_staff"),
    ],
)
def test_bad_fields_are_named(post: Post, owner: User, change: dict[str, object], field: str) -> None:
    response = post(URL, credentials() | change)
    assert response.status_code == 400
    assert field in response.json()["error"]["details"]


@pytest.mark.parametrize("body", ["", "{", "[]", '{"username": "a\\u0000b", "password": "x"}'])
def test_malformed_bodies_are_400(post: Post, body: str) -> None:
    assert post(URL, body).status_code == 400


def test_forms_are_415_and_other_methods_405(client: Client) -> None:
    assert client.post(URL, credentials()).status_code == 415
    response = client.get(URL)
    assert response.status_code == 405
    assert "POST" in response["Allow"]
    assert response.json()["error"]["code"] == "invalid_request"


def test_an_account_can_be_tried_ten_times_in_five_minutes_on_api_and_page_together(
    post: Post, client: Client, owner: User
) -> None:
    for number in range(10):
        username = "OWNER@example.com" if number % 2 else "owner@example.com "
        wrong = credentials(username, "wrong")
        status = client.post("/login", wrong).status_code if number % 3 else post(URL, wrong).status_code
        assert status in {200, 401}
    response = post(URL, credentials())
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(response["Retry-After"]) <= 300
    page = client.post("/login", credentials())
    assert page.status_code == 429
    assert page["Retry-After"]
    assert "Too many attempts" in page.content.decode()
    assert post(URL, credentials("someone else")).status_code == 401


def test_every_spelling_of_a_name_draws_on_one_account(post: Post, client: Client, db: None) -> None:
    services.register(username="misses", email="misses@example.com", password=PASSWORD)
    assert post(URL, credentials("m\u0131\u017fses")).status_code == 200  # PostgreSQL's UPPER() takes it for "misses"
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "misses")  # and a form of Django's this (NFKC)
    for number in range(9):
        username = ("misses", "m\u0131sses", "mi\u017f\u017fes", wide)[number % 4]
        assert client.post("/login", {"username": username, "password": "wrong"}).status_code == 200
    for username in ("misses", "m\u0131\u017fses", wide, wide[:3] + "ses"):
        assert post(URL, credentials(username)).status_code == 429


def test_an_address_can_try_fifty_accounts_in_five_minutes(post: Post, db: None, monkeypatch) -> None:
    for number in range(50):
        assert post(URL, {"username": f"user{number}"}).status_code == 400
    assert post(URL, credentials("user51")).status_code == 429


def test_a_forged_forwarded_address_changes_nothing(post: Post, db: None) -> None:
    for number in range(50):
        post(URL, {"username": f"user{number}"}, x_forwarded_for=f"10.0.0.{number}")
    assert post(URL, credentials("user51"), x_forwarded_for="10.9.9.9").status_code == 429


def test_with_the_cache_down_it_answers_503_on_api_and_page(post: Post, client: Client, owner: User, settings) -> None:
    down = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=down):
        api, page = post(URL, credentials()), client.post("/login", credentials())
    assert (api.status_code, page.status_code) == (503, 503)
    assert api["Retry-After"]
    assert page["Retry-After"]
    assert api.json()["error"]["code"] == "service_unavailable"
    assert not TokenSession.objects.exists()
    assert "_auth_user_id" not in client.session


def test_a_password_changed_meanwhile_starts_no_session(owner: User) -> None:
    seen_before = User.objects.get(id=owner.id)
    services.change_password(user=owner, password="another secret 1")
    with pytest.raises(AuthenticationFailed):
        sessions.start(user=seen_before)
