"""/login and /logout. Throttles and timing are tested with the API's login, which shares them."""

import pytest
from django.test import Client

from accounts.models import User
from tests.factories import PASSWORD

FORM = {"username": "owner@example.com", "password": PASSWORD}
pytestmark = pytest.mark.django_db


def logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_it_logs_in_and_leads_to_the_dashboard(client: Client, owner: User) -> None:
    assert client.get("/login").status_code == 200
    response = client.post("/login", FORM)
    assert response["Location"] == "/dashboard"
    assert logged_in(client)


@pytest.mark.parametrize("place", ["query", "form"])
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/dashboard/api-keys?status=all", "/dashboard/api-keys?status=all"),
        ("//evil.example", "/dashboard"),
        ("https://evil.example/", "/dashboard"),
        ("/\\evil.example", "/dashboard"),
        ("javascript:alert(1)", "/dashboard"),
        ("http:///evil.example", "/dashboard"),
        ("\t//evil.example", "/dashboard"),
        ("nowhere", "/dashboard"),
        ("password-reset", "/dashboard"),
        ("", "/dashboard"),
    ],
)
def test_next_leads_only_to_this_site(client: Client, owner: User, place: str, target: str, expected: str) -> None:
    if place == "query":
        response = client.post("/login", FORM, query_params={"next": target})
    else:
        response = client.post("/login", FORM | {"next": target})
    assert response["Location"] == expected


@pytest.mark.parametrize("cookie", [r'"\000aaaaaaaaaaa"', r'"aaaaaaaa\377"', "a" * 5000, "x", "-" * 32])
def test_a_session_cookie_of_anything_is_nobodys(client: Client, db: None, cookie: str) -> None:
    response = client.get("/dashboard", headers={"cookie": f"helixflow_session={cookie}"})
    assert response["Location"].startswith("/login")


def test_who_is_logged_in_is_led_on(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.get("/login")["Location"] == "/dashboard"
    assert client.get("/login?next=/docs")["Location"] == "/docs"
    assert client.get("/login?next=//evil.example")["Location"] == "/dashboard"


@pytest.mark.parametrize(
    ("username", "password"),
    [("owner@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("inactive@example.com", PASSWORD)],
)
def test_every_wrong_login_reads_the_same(client: Client, owner: User, username: str, password: str) -> None:
    User.objects.create_user("inactive@example.com", "inactive@example.com", PASSWORD, is_active=False)
    page = client.post("/login", {"username": username, "password": password}).content.decode()
    assert "Wrong e-mail address, username or password." in page
    assert not logged_in(client)


@pytest.mark.parametrize(
    "change", [{"username": ""}, {"username": "a\0b"}, {"username": "x" * 10_000}, {"password": "x" * 1_000_000}]
)
def test_bad_fields_are_explained(client: Client, owner: User, change: dict[str, str]) -> None:
    response = client.post("/login", FORM | change)
    assert response.status_code == 200
    assert "field__error" in response.content.decode()
    assert not logged_in(client)


def test_text_from_the_address_is_escaped(client: Client) -> None:
    page = client.get("/login", {"next": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in page


def test_without_csrf_token_it_is_403(owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/login", FORM).status_code == 403
    assert not logged_in(client)


def test_logging_out_takes_a_post(client: Client, owner: User) -> None:
    client.force_login(owner)
    page = client.get("/logout")
    assert "Log out?" in page.content.decode()
    assert logged_in(client)
    assert client.post("/logout")["Location"] == "/"
    assert not logged_in(client)
    assert client.get("/logout")["Location"] == "/login"
    assert client.post("/logout").status_code == 302


def test_a_deactivated_user_is_out_at_once(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.get("/dashboard/profile").status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/dashboard/profile").status_code == 302
