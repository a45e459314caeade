"""/signup."""

import pytest
from django.test import Client, override_settings

from accounts.models import Role, User

URL = "/signup"
FORM = {"email": "ada@example.com", "password": "a long secret 1"}
pytestmark = pytest.mark.django_db


def test_it_signs_up_logs_in_and_sends_the_link(client: Client, inbox) -> None:
    assert client.get(URL).status_code == 200
    response = client.post(URL, FORM)
    assert response.status_code == 302
    assert response["Location"] == "/dashboard"
    user = User.objects.get()
    assert (user.username, user.email) == ("ada@example.com", "ada@example.com")
    assert user.memberships.get().role == Role.OWNER
    assert client.session["_auth_user_id"] == str(user.pk)
    assert [message.to for message in inbox] == [["ada@example.com"]]


def test_who_is_logged_in_goes_to_the_dashboard(client: Client, owner: User) -> None:
    client.force_login(owner)
    for response in (client.get(URL), client.post(URL, FORM)):
        assert response["Location"] == "/dashboard"
    assert User.objects.count() == 1


def test_sent_twice_it_says_that_the_account_exists(client: Client) -> None:
    assert client.post(URL, FORM).status_code == 302
    second = Client().post(URL, FORM)  # a second window, still logged out
    assert second.status_code == 200
    assert "already has an account" in second.content.decode()
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"email": "OWNER@Example.com"}, "already has an account"),
        ({"email": "nonsense"}, "valid e-mail"),
        ({"email": ""}, "required"),
        ({"email": "a" * 150 + "@example.com"}, "at most 150 characters"),
        ({"email": "a\0b@example.com"}, "Null characters"),
        ({"password": ""}, "required"),
        ({"password": "short"}, "too short"),
        ({"password": "password"}, "too common"),
        ({"password": "x" * 1_000_000}, "at most 1024 characters"),
        ({"password": "a long\0secret"}, "Null characters"),
    ],
)
def test_bad_fields_are_explained(client: Client, owner: User, change: dict[str, str], message: str) -> None:
    response = client.post(URL, FORM | change)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert User.objects.count() == 1
    assert FORM["password"] not in response.content.decode()


def test_other_fields_are_not_read(client: Client) -> None:
    client.post(URL, FORM | {"is_staff": "1", "is_superuser": "1", "plan": "enterprise", "organization_id": "org-1"})
    user = User.objects.get()
    assert not user.is_staff
    assert not user.is_superuser


def test_a_body_over_a_megabyte_is_413(client: Client) -> None:
    response = client.post(URL, FORM | {"password": "x" * 2_000_000})
    assert response.status_code == 413
    assert "too large" in response.content.decode()


def test_without_csrf_token_nothing_happens(db: None) -> None:
    response = Client(enforce_csrf_checks=True).post(URL, FORM)
    assert response.status_code == 403
    assert "reload the page" in response.content.decode()
    assert not User.objects.exists()


def test_an_address_can_sign_up_twenty_times_an_hour(client: Client) -> None:
    for number in range(20):
        client.post(URL, {"email": f"{number}@example.com"})
    response = client.post(URL, FORM)
    assert response.status_code == 429
    assert "Too many attempts" in response.content.decode()


def test_with_the_cache_down_it_is_a_503_page(client: Client, settings) -> None:
    down = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=down):
        response = client.post(URL, FORM)
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/html")
    assert not User.objects.exists()
