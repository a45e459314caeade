"""/login/code, the second step of a login, on pages, for the admin site and through the API."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import half_logins, services, two_factor
from accounts.models import AuditEvent, TokenSession, User
from tests import factories
from tests.accounts.codes import code_of, turned_on, wrong_code
from tests.accounts.conftest import Post
from tests.factories import PASSWORD

URL = "/login/code"
FORM = {"username": "owner@example.com", "password": PASSWORD}
pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def secret(owner: User, clock) -> str:
    secret, _ = turned_on(owner)
    clock.shift(timedelta(seconds=30))
    return secret


@pytest.fixture
def half(client: Client, secret: str) -> Client:
    """A browser that has given the password."""
    assert client.post("/login", FORM)["Location"] == f"{URL}?next=/dashboard"
    return client


def logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_a_code_ends_the_second_step_and_leads_on(client: Client, secret: str) -> None:
    step = client.post("/login?next=/dashboard/plan", FORM)
    assert step["Location"] == f"{URL}?next=/dashboard/plan"
    assert not logged_in(client)
    page = client.get(step["Location"])
    assert "authenticator app" in page.content.decode()
    done = client.post(step["Location"], {"code": code_of(secret)})
    assert done["Location"] == "/dashboard/plan"
    assert logged_in(client)
    assert half_logins.KEY not in client.session
    assert AuditEvent.objects.filter(summary="logged in with a code of the authenticator app").exists()


def test_the_password_alone_opens_nothing(half: Client) -> None:
    assert half.get("/dashboard")["Location"].startswith("/login")
    assert half.post("/dashboard/security/two-factor")["Location"].startswith("/login?")


def test_a_wrong_code_says_so_and_logs_nobody_in(half: Client, secret: str) -> None:
    page = half.post(URL, {"code": wrong_code(secret)})
    assert page.status_code == 200
    assert two_factor.WRONG in page.content.decode()
    assert (
        "Each wrong code makes the next one wait: 1 second."
        in half.post(URL, {"code": code_of(secret)}).content.decode()
    )
    assert not logged_in(half)


def test_a_recovery_code_does_and_says_how_many_are_left(client: Client, owner: User, clock) -> None:
    _, codes = turned_on(owner)
    for number, code in enumerate(codes[:7], start=1):
        client.post("/login", FORM)
        page = client.post(URL, {"code": code}, follow=True).content.decode()
        assert f"You used a recovery code, and have {10 - number} left." in page
        assert ("Make new ones" in page) == (number == 7)
        client.post("/logout")


def test_without_a_password_there_is_no_second_step(client: Client, secret: str) -> None:
    assert client.get(URL)["Location"] == "/login?next=/dashboard"
    assert client.post(URL, {"code": code_of(secret)})["Location"].startswith("/login")
    assert not logged_in(client)


@pytest.mark.parametrize("passed", [299, 301])
def test_it_lasts_five_minutes(half: Client, secret: str, clock, passed: int) -> None:
    clock.shift(timedelta(seconds=passed))
    response = half.post(URL, {"code": code_of(secret)})
    assert logged_in(half) == (passed < 300)
    assert response["Location"] == ("/dashboard" if passed < 300 else "/login?next=/dashboard")


@pytest.mark.parametrize("happening", ["new password", "deactivated"])
def test_it_ends_with_the_password_and_the_account(half: Client, owner: User, secret: str, happening: str) -> None:
    if happening == "new password":
        services.reset_password(user=owner, password="another secret 1")
    else:
        User.objects.filter(id=owner.id).update(is_active=False)
    half.post(URL, {"code": code_of(secret)})
    assert not logged_in(half)


def test_a_planted_session_does_not_get_the_second_step(client: Client, secret: str) -> None:
    client.get("/login")
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["helixflow_session"] = planted = str(session.session_key)
    client.post("/login", FORM)
    assert client.cookies["helixflow_session"].value != planted
    thief = Client()
    thief.cookies["helixflow_session"] = planted
    assert thief.get(URL)["Location"].startswith("/login?")


def test_a_code_is_of_its_account_alone(client: Client, secret: str, outsider: User) -> None:
    turned_on(outsider)
    client.post("/login", {"username": "outsider@example.com", "password": PASSWORD})
    client.post(URL, {"code": code_of(secret)})
    assert not logged_in(client)


def test_a_password_reset_leaves_the_second_step(client: Client, owner: User, secret: str) -> None:
    services.reset_password(user=owner, password="another secret 1")
    assert client.post("/login", FORM | {"password": "another secret 1"})["Location"].startswith(URL)


def test_the_admin_site_takes_a_code_too(client: Client, clock) -> None:
    operator = factories.superuser("operator")
    secret, _ = turned_on(operator)
    clock.shift(timedelta(seconds=30))
    asked = client.get("/admin/accounts/user/", follow=True).redirect_chain[-1][0]
    assert asked == "/login?next=/admin/accounts/user/"
    step = client.post(asked, {"username": operator.email, "password": PASSWORD})
    assert step["Location"].startswith(URL)
    assert client.get("/admin/").status_code == 302
    assert client.post(step["Location"], {"code": code_of(secret)})["Location"] == "/admin/accounts/user/"
    assert client.get("/admin/accounts/user/").status_code == 200


def test_without_csrf_token_it_is_403(secret: str) -> None:
    assert Client(enforce_csrf_checks=True).post(URL, {"code": code_of(secret)}).status_code == 403


class TestApi:
    URL = "/v1/auth/login"

    def test_it_takes_a_code(self, post: Post, secret: str) -> None:
        answer = post(self.URL, FORM | {"otp": code_of(secret)})
        assert answer.status_code == 200
        assert answer.json()["access_token"]
        assert AuditEvent.objects.filter(summary__startswith="logged in through the API with a code").exists()

    @pytest.mark.parametrize("otp", [{}, {"otp": ""}, {"otp": None}])
    def test_without_one_it_says_what_is_missing(self, post: Post, secret: str, otp) -> None:
        answer = post(self.URL, FORM | otp)
        assert answer.status_code == 401
        error = answer.json()["error"]
        assert error["code"] == "authentication_failed"
        assert error["param"] == "otp"
        assert "authenticator app" in error["details"]["otp"]
        assert not TokenSession.objects.exists()

    def test_a_wrong_one_has_the_same_shape_and_then_one_waits(self, post: Post, secret: str) -> None:
        error = post(self.URL, FORM | {"otp": wrong_code(secret)}).json()["error"]
        assert (error["code"], error["details"]) == ("authentication_failed", {"otp": two_factor.WRONG})
        second = post(self.URL, FORM | {"otp": code_of(secret)})
        assert (second.status_code, second["Retry-After"]) == (429, "1")
        assert not TokenSession.objects.exists()

    def test_a_wrong_password_tells_nothing_of_the_second_factor(self, post: Post, secret: str) -> None:
        answer = post(self.URL, FORM | {"password": "wrong", "otp": code_of(secret)})
        assert answer.json()["error"]["details"] == {}

    def test_a_code_is_good_once_on_page_and_api_together(self, post: Post, half: Client, secret: str) -> None:
        code = code_of(secret)
        assert post(self.URL, FORM | {"otp": code}).status_code == 200
        half.post(URL, {"code": code})
        assert not logged_in(half)

    def test_accounts_without_it_need_none(self, post: Post, owner: User) -> None:
        assert post(self.URL, FORM | {"otp": "123456"}).status_code == 200

    @pytest.mark.parametrize("otp", [123456, ["123456"], "1" * 41])
    def test_what_is_no_text_is_refused_by_name(self, post: Post, owner: User, otp) -> None:
        answer = post(self.URL, FORM | {"otp": otp})
        assert (answer.status_code, list(answer.json()["error"]["details"])) == (400, ["otp"])
