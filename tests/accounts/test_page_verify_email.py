"""/verify-email."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import services, verification
from accounts.models import User

pytestmark = pytest.mark.django_db


def link(user: User) -> str:
    return f"/verify-email/{verification.make_token(user)}"


def is_verified(user: User) -> bool:
    user.refresh_from_db()
    return user.is_verified


def test_opening_the_link_only_asks_and_the_button_confirms(client: Client, owner: User) -> None:
    url = link(owner)
    for _ in range(3):  # a mail scanner
        assert "Confirm address" in client.get(url).content.decode()
    assert not is_verified(owner)
    response = client.post(url)
    assert response["Location"] == "/login"
    assert is_verified(owner)
    assert client.post(url).status_code == 302
    assert "There is nothing left to do" in client.get(url).content.decode()


def test_it_leads_who_is_logged_in_to_the_dashboard(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.post(link(owner))["Location"] == "/dashboard"


def test_the_link_in_the_mail_works(client: Client, owner: User, inbox) -> None:
    services.send_verification(user=owner)
    body = inbox[0].body
    url = next(line for line in body.splitlines() if "/verify-email/" in line)
    assert url in str(inbox[0].alternatives[0].content).replace("&amp;", "&")
    assert client.post("/" + url.split("/", 3)[3]).status_code == 302
    assert is_verified(owner)


def test_it_expires_after_three_days(client: Client, owner: User) -> None:
    url = link(owner)
    with time_machine.travel(timezone.now() + timedelta(days=3, seconds=1)):
        response = client.post(url)
    assert response.status_code == 404
    assert "no longer valid" in response.content.decode()
    assert not is_verified(owner)


def test_it_is_bound_to_its_address(client: Client, owner: User) -> None:
    url = link(owner)
    services.change_email(user=owner, email="new@example.com")
    assert client.post(url).status_code == 404
    assert not is_verified(owner)


@pytest.mark.parametrize("token", ["nonsense", "a:b:c", "x" * 5000, "%00", "é", "' OR 1=1"])
def test_forged_tokens_are_404_pages(client: Client, db: None, token: str) -> None:
    assert client.get(f"/verify-email/{token}").status_code == 404
    assert client.post(f"/verify-email/{token}").status_code == 404


def test_an_inactive_users_link_is_dead(client: Client, owner: User) -> None:
    url = link(owner)
    User.objects.update(is_active=False)
    assert client.post(url).status_code == 404


class TestResend:
    URL = "/verify-email/resend"

    def test_it_sends_a_new_link(self, client: Client, owner: User, inbox) -> None:
        client.force_login(owner)
        assert client.post(self.URL)["Location"] == "/dashboard/profile"
        assert [message.to for message in inbox] == [["owner@example.com"]]

    def test_a_get_sends_nothing(self, client: Client, owner: User, inbox) -> None:
        client.force_login(owner)
        client.get(self.URL)
        assert not inbox

    def test_a_verified_address_gets_nothing(self, client: Client, owner: User, inbox) -> None:
        User.objects.update(email_verified_at=timezone.now())
        client.force_login(owner)
        client.post(self.URL)
        assert not inbox

    def test_strangers_log_in_first(self, client: Client, db: None) -> None:
        assert client.post(self.URL)["Location"].startswith("/login?next=")

    def test_five_an_hour(self, client: Client, owner: User, inbox) -> None:
        client.force_login(owner)
        statuses = [client.post(self.URL).status_code for _ in range(6)]
        assert statuses == [302] * 5 + [429]
        assert len(inbox) == 5

    def test_with_the_broker_down_it_says_so(self, client: Client, owner: User, broker_down) -> None:
        client.force_login(owner)
        response = client.post(self.URL)
        assert response.status_code == 503
        assert "send mail" in response.content.decode()
