"""POST /v1/auth/register."""

import json

import pytest
from django.test import Client, override_settings

from accounts.models import Role, User
from tests.accounts.conftest import Post

URL = "/v1/auth/register"
REFERENCE = {"username": "user@example.com", "email": "user@example.com", "password": "password123"}
pytestmark = pytest.mark.django_db


def test_the_reference_example_answers_as_printed(post: Post) -> None:
    response = post(URL, REFERENCE)
    assert response.status_code == 201
    user = User.objects.get()
    assert response.json() == {
        "message": "User registered successfully",
        "user_id": user.public_id,
        "username": "user@example.com",
    }
    assert user.memberships.get().role == Role.OWNER


def test_a_verification_mail_goes_out(post: Post, inbox) -> None:
    post(URL, REFERENCE)
    assert [message.to for message in inbox] == [["user@example.com"]]
    assert "/verify-email/" in inbox[0].body


def test_a_trailing_slash_and_a_stale_token_do_no_harm(post: Post) -> None:
    assert post(f"{URL}/", REFERENCE, authorization="Bearer stale").status_code == 201


def test_a_broker_that_is_down_does_not_stop_a_signup(post: Post, broker_down) -> None:
    assert post(URL, REFERENCE).status_code == 201
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": 7}, "username"),
        ({"username": None}, "username"),
        ({"username": ["user@example.com"]}, "username"),
        ({"username": ""}, "username"),
        ({"username": "x" * 10_000}, "username"),
        ({"username": "other@example.com"}, "username"),
        ({"username": "a b"}, "username"),
        ({"email": "no address"}, "email"),
        ({"email": True}, "email"),
        ({"password": 12345678}, "password"),
        ({"password": "x" * 1_000_000}, "password"),
        ({"password": "qwerty"}, "password"),
        ({"is_staff": True}, "is_staff"),
        ({"plan": "enterprise"}, "plan"),
        ({"organization_id": "org-1"}, "organization_id"),
        ({"email": "OWNER@example.com", "username": "new"}, "email"),
        ({"email": "Owner@Example.com", "username": "owner@example.com"}, "username"),
    ],
)
def test_bad_fields_are_named(post: Post, owner: User, change: dict[str, object], field: str) -> None:
    response = post(URL, REFERENCE | change)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert field in error["details"]
    assert User.objects.count() == 1


@pytest.mark.parametrize("field", ["username", "email", "password"])
def test_missing_fields_are_named(post: Post, field: str) -> None:
    response = post(URL, {name: value for name, value in REFERENCE.items() if name != field})
    assert response.status_code == 400
    assert set(response.json()["error"]["details"]) == {field}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "\ufeff{}",
        json.dumps(REFERENCE | {"username": "a\0b"}),
        '{"email": "\\ud800"}',
        "[" * 100_000,
    ],
)
def test_malformed_bodies_are_400(post: Post, body: str) -> None:
    response = post(URL, body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


def test_only_json_is_taken(client: Client) -> None:
    for content_type in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "nonsense",
    ):
        response = client.post(URL, "username=a", content_type=content_type)
        assert response.status_code == 415, content_type
        assert response.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
def test_other_methods_are_405_in_json(client: Client, method: str) -> None:
    response = getattr(client, method)(URL)
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "invalid_request"


def test_one_account_can_be_tried_ten_times_an_hour(post: Post) -> None:
    bad = REFERENCE | {"password": "short"}
    for email in ["user@example.com", "USER@example.com"] * 5:
        assert post(URL, bad | {"email": email}).status_code == 400
    response = post(URL, REFERENCE)
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(response["Retry-After"]) <= 3600


def test_one_address_can_register_twenty_times_an_hour(post: Post) -> None:
    for number in range(20):
        assert post(URL, {"email": f"{number}@example.com"}).status_code == 400
    assert post(URL, REFERENCE).status_code == 429


def test_with_the_cache_down_it_answers_503(post: Post, settings) -> None:
    down = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=down):
        response = post(URL, REFERENCE)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "service_unavailable"
    assert response["Retry-After"]
    assert not User.objects.exists()
