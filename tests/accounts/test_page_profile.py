"""/dashboard/profile and the forms on it."""

from typing import ClassVar

import pytest
from django.test import Client
from django.utils import timezone

from accounts import jwt, services, sessions
from accounts.models import User
from tests.factories import PASSWORD

URL = "/dashboard/profile"
EMAIL = f"{URL}/email"
NEW_PASSWORD = f"{URL}/password"
pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(owner: User) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.mark.parametrize("url", [URL, EMAIL, NEW_PASSWORD])
def test_strangers_log_in_first(client: Client, db: None, url: str) -> None:
    for response in (client.get(url), client.post(url)):
        assert response["Location"] == f"/login?next={url}"


@pytest.mark.parametrize("url", [URL, EMAIL, NEW_PASSWORD])
def test_every_address_shows_the_page(browser: Client, url: str) -> None:
    page = browser.get(url).content.decode()
    assert "owner@example.com" in page
    assert "Not confirmed" in page
    assert "Send a new link" in page


def test_a_verified_address_says_so(browser: Client) -> None:
    User.objects.update(email_verified_at=timezone.now())
    page = browser.get(URL).content.decode()
    assert "Confirmed" in page
    assert "Send a new link" not in page


def test_the_name_is_saved_and_escaped(browser: Client, owner: User) -> None:
    assert browser.post(URL, {"name": "<script>alert(1)</script>", "is_staff": "1"}).status_code == 302
    owner.refresh_from_db()
    assert owner.name == "<script>alert(1)</script>"
    assert not owner.is_staff
    assert "<script>alert" not in browser.get(URL).content.decode()


@pytest.mark.parametrize("name", ["x" * 101, "a\0b", "Ann\nYour account is locked"])
def test_bad_names_are_explained(browser: Client, owner: User, name: str) -> None:
    assert "field__error" in browser.post(URL, {"name": name}).content.decode()
    owner.refresh_from_db()
    assert owner.name == ""


class TestEmail:
    FORM: ClassVar = {"email": "new@example.com", "current_password": PASSWORD}

    def test_it_changes_unverified_and_both_addresses_hear_of_it(self, browser: Client, owner: User, inbox) -> None:
        User.objects.update(email_verified_at=timezone.now())
        assert browser.post(EMAIL, self.FORM).status_code == 302
        owner.refresh_from_db()
        assert (owner.email, owner.username, owner.is_verified) == ("new@example.com", "new@example.com", False)
        assert [message.to for message in inbox] == [["new@example.com"], ["owner@example.com"]]
        assert "/verify-email/" not in inbox[1].body

    def test_a_handle_stays(self, inbox) -> None:
        user = services.register(username="ada", email="ada@example.com", password=PASSWORD)
        services.change_email(user=user, email="lovelace@example.com")
        user.refresh_from_db()
        assert (user.username, user.email) == ("ada", "lovelace@example.com")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"email": "OUTSIDER@example.com"}, "already has an account"),
            ({"email": "nonsense"}, "valid e-mail"),
            ({"email": ""}, "required"),
            ({"current_password": "wrong"}, "not your current password"),
            ({"current_password": ""}, "required"),
        ],
    )
    def test_bad_fields_are_explained(self, browser, owner, outsider, change, message) -> None:
        response = browser.post(EMAIL, self.FORM | change)
        assert response.status_code == 200
        assert message in response.content.decode()
        owner.refresh_from_db()
        assert owner.email == "owner@example.com"

    def test_only_the_case_may_change_without_a_clash_with_oneself(self, browser: Client, owner: User) -> None:
        assert browser.post(EMAIL, self.FORM | {"email": "Owner@example.com"}).status_code == 302
        owner.refresh_from_db()
        assert (owner.email, owner.username) == ("Owner@example.com", "Owner@example.com")


class TestPassword:
    FORM: ClassVar = {"current_password": PASSWORD, "password": "another secret 1"}

    def test_it_ends_every_session_but_this_one(self, browser: Client, owner: User) -> None:
        other = Client()
        other.force_login(owner)
        session = sessions.start(user=owner)
        assert browser.post(NEW_PASSWORD, self.FORM).status_code == 302
        assert browser.get(URL).status_code == 200
        assert other.get(URL).status_code == 302
        session.refresh_from_db()
        assert session.ended_at is not None
        answer = Client().post(
            "/v1/auth/refresh", {"refresh_token": jwt.refresh_token(session)}, content_type="application/json"
        )
        assert answer.status_code == 401
        owner.refresh_from_db()
        assert owner.check_password("another secret 1")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"current_password": "wrong"}, "not your current password"),
            ({"password": "short"}, "too short"),
            ({"password": "owner@example.com"}, "too similar"),
            ({"password": "x" * 1_000_000}, "at most 1024"),
        ],
    )
    def test_bad_fields_are_explained(self, browser: Client, owner: User, change, message: str) -> None:
        response = browser.post(NEW_PASSWORD, self.FORM | change)
        assert response.status_code == 200
        assert message in response.content.decode()
        owner.refresh_from_db()
        assert owner.check_password(PASSWORD)

    def test_the_current_password_can_be_guessed_ten_times(self, browser: Client) -> None:
        for _ in range(10):
            assert browser.post(NEW_PASSWORD, {"current_password": "wrong"}).status_code == 200
        assert browser.post(EMAIL, {"current_password": "wrong"}).status_code == 429
