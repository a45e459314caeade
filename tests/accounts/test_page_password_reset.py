"""/password/forgot and /password/reset."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.tokens import default_token_generator
from django.test import Client, override_settings
from django.utils import timezone

from accounts import sessions, tasks
from accounts.models import User
from helixflow.lib import ids

FORGOT = "/password/forgot"
pytestmark = pytest.mark.django_db


def link(user: User) -> str:
    return f"/password/reset/{user.public_id}/{default_token_generator.make_token(user)}"


def test_the_mailed_link_sets_a_password(client: Client, owner: User, inbox) -> None:
    assert client.get(FORGOT).status_code == 200
    assert client.post(FORGOT, {"email": "OWNER@example.com"})["Location"] == "/password/forgot/sent"
    assert inbox[0].to == ["owner@example.com"]  # the stored address, not the typed one
    url = next(line for line in inbox[0].body.splitlines() if "/password/reset/" in line)
    path = "/" + url.split("/", 3)[3]
    assert client.get(path).status_code == 200
    assert client.post(path, {"password": "another secret 1"})["Location"] == "/login"
    owner.refresh_from_db()
    assert owner.check_password("another secret 1")
    assert owner.is_verified  # the link came by that address
    again = client.post(path, {"password": "a third secret 1"})
    assert again.status_code == 404
    assert "no longer valid" in again.content.decode()


def test_it_ends_web_and_api_sessions(client: Client, owner: User) -> None:
    browser = Client()
    browser.force_login(owner)
    session = sessions.start(user=owner)
    client.post(link(User.objects.get(id=owner.id)), {"password": "another secret 1"})
    assert browser.get("/dashboard/profile").status_code == 302
    session.refresh_from_db()
    assert session.ended_at is not None


@pytest.mark.parametrize("email", ["owner@example.com", "nobody@example.com", "inactive@example.com"])
def test_the_answer_and_the_work_are_the_same_for_every_address(client, owner, email, monkeypatch) -> None:
    User.objects.create_user("inactive@example.com", "inactive@example.com", "a long secret 1", is_active=False)
    queued = []

    def enqueue(task, *args) -> bool:
        queued.append((task, args))
        return True

    monkeypatch.setattr(tasks, "enqueue", enqueue)
    response = client.post(FORGOT, {"email": email})
    assert (response.status_code, response["Location"]) == (302, "/password/forgot/sent")
    assert queued == [(tasks.send_password_reset_mail, (email,))]
    page = client.get(response["Location"]).content.decode()
    assert "If the address has an account" in page
    assert email not in page


def test_nobody_and_the_inactive_get_no_mail(owner: User, mailoutbox) -> None:
    User.objects.update(is_active=False)
    tasks.send_password_reset_mail("owner@example.com")
    tasks.send_password_reset_mail("nobody@example.com")
    assert not mailoutbox


def test_the_link_dies_after_an_hour_and_with_a_login(client: Client, owner: User) -> None:
    path = link(owner)
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
        assert client.get(path).status_code == 404
    assert client.get(path).status_code == 200
    User.objects.update(last_login=timezone.now())
    assert client.get(path).status_code == 404


def test_forged_links_are_404_pages(client: Client, owner: User, outsider: User) -> None:
    token = default_token_generator.make_token(owner)
    for path in (
        f"/password/reset/{outsider.public_id}/{token}",
        f"/password/reset/{ids.new_id(ids.USER)}/{token}",
        f"/password/reset/{owner.pk}/{token}",
        f"/password/reset/nonsense/{token}",
        f"/password/reset/%00/{token}",
        f"/password/reset/{owner.public_id}/nonsense",
        f"/password/reset/{owner.public_id}/{'x' * 5000}",
    ):
        assert client.get(path).status_code == 404, path
        assert client.post(path, {"password": "another secret 1"}).status_code == 404, path


@pytest.mark.parametrize("password", ["", "short", "password", "owner@example.com", "x" * 1_000_000])
def test_bad_passwords_are_explained(client: Client, owner: User, password: str) -> None:
    response = client.post(link(owner), {"password": password})
    assert response.status_code == 200
    assert "field__error" in response.content.decode()


@pytest.mark.parametrize("email", ["", "nonsense", "a\0b@example.com", "x" * 10_000 + "@example.com"])
def test_bad_addresses_are_explained(client: Client, db: None, email: str) -> None:
    response = client.post(FORGOT, {"email": email})
    assert response.status_code == 200
    assert "field__error" in response.content.decode()


def test_an_account_can_be_asked_for_five_times_an_hour(client: Client, owner: User, inbox) -> None:
    for email in ["owner@example.com", "OWNER@example.com"] * 3:
        response = client.post(FORGOT, {"email": email})
    assert response.status_code == 429
    assert len(inbox) == 5


def test_an_address_can_ask_twenty_times_an_hour(client: Client, inbox) -> None:
    statuses = [client.post(FORGOT, {"email": f"{number}@example.com"}).status_code for number in range(21)]
    assert statuses == [302] * 20 + [429]


def test_with_the_cache_down_it_is_503(client: Client, owner: User, settings, inbox) -> None:
    down = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=down):
        assert client.post(FORGOT, {"email": "owner@example.com"}).status_code == 503
    assert not inbox


@pytest.mark.parametrize("email", ["owner@example.com", "nobody@example.com"])
def test_with_the_broker_down_it_says_so_to_everyone(client: Client, owner: User, broker_down, email: str) -> None:
    response = client.post(FORGOT, {"email": email})
    assert response.status_code == 503
    assert "send mail" in response.content.decode()
