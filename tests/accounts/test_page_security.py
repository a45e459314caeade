"""/dashboard/security: open sessions, the second factor on and off, recent activity."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import open_sessions, services, sessions, two_factor, web_sessions
from accounts.models import AuditEvent, TokenSession, User, WebSession
from accounts.user_agents import describe
from tests import factories
from tests.accounts.codes import code_of, turned_on
from tests.factories import PASSWORD

URL = "/dashboard/security"
OTHERS = f"{URL}/sessions/end-others"
SET_UP = f"{URL}/two-factor"
CONFIRM = f"{SET_UP}/confirm"
CODES = f"{SET_UP}/codes"
OFF = f"{SET_UP}/off"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
pytestmark = pytest.mark.django_db


def browser_of(user: User, **headers: str) -> Client:
    client = Client(headers=headers or {"user-agent": FIREFOX})
    response = client.post("/login", {"username": user.username, "password": PASSWORD})
    assert response.status_code == 302
    return client


@pytest.fixture
def browser(owner: User) -> Client:
    factories.organization(owner=owner)
    return browser_of(owner)


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def handles(response: Any) -> list[str]:
    return re.findall(r"/sessions/([^/]+)/end\"", response.content.decode())


@pytest.mark.parametrize("url", [URL, OTHERS, f"{URL}/sessions/x/end", SET_UP, CONFIRM, CODES, OFF])
def test_strangers_log_in_first(client: Client, db: None, url: str) -> None:
    for response in (client.get(url), client.post(url)):
        assert response.status_code in {302, 405}
        assert response.status_code == 405 or response["Location"] == f"/login?next={url}"


class TestSessions:
    def test_it_lists_browsers_and_api_logins(self, browser: Client, owner: User) -> None:
        sessions.start(user=owner, address="203.0.113.9", user_agent="python-requests/2.34")
        sessions.start(user=factories.user("somebody"), user_agent="curl/8")
        text = text_of(browser.get(URL))
        assert "Firefox on Linux This one" in text
        assert "Python (requests) API 203.0.113.9" in text
        assert "curl" not in text

    def test_no_key_of_a_session_is_on_the_page(self, browser: Client, owner: User) -> None:
        browser_of(owner)
        page = browser.get(URL).content.decode()
        assert WebSession.objects.count() == 2
        assert not [key for key in WebSession.objects.values_list("session_key", flat=True) if key in page]

    def test_one_is_ended_and_refused_on_its_next_request(self, browser: Client, owner: User) -> None:
        other = browser_of(owner)
        [handle] = handles(browser.get(URL))
        assert "Firefox on Linux is signed out" in text_of(browser.post(f"{URL}/sessions/{handle}/end", follow=True))
        assert other.get(URL)["Location"].startswith("/login")
        assert browser.get(URL).status_code == 200
        assert AuditEvent.objects.filter(action="session.ended", user_id=owner.id).exists()

    def test_so_is_one_of_the_api(self, browser: Client, owner: User) -> None:
        session = sessions.start(user=owner)
        [handle] = handles(browser.get(URL))
        browser.post(f"{URL}/sessions/{handle}/end")
        session.refresh_from_db()
        assert session.ended_at is not None
        assert handles(browser.get(URL)) == []

    def test_nobody_ends_those_of_others(self, browser: Client, outsider: User) -> None:
        theirs = browser_of(outsider)
        api = sessions.start(user=outsider)
        for row in open_sessions.listed(outsider, None):
            assert "has ended already" in text_of(browser.post(f"{URL}/sessions/{row.handle}/end", follow=True))
        browser.post(OTHERS)
        api.refresh_from_db()
        assert api.ended_at is None
        assert theirs.get(URL).status_code == 200

    @pytest.mark.parametrize("handle", ["nothing", "ses_nothing", "%00", "a" * 500])
    def test_what_is_no_session_is_told_to_have_ended(self, browser: Client, handle: str) -> None:
        assert "has ended already" in text_of(browser.post(f"{URL}/sessions/{handle}/end", follow=True))

    def test_a_look_ends_nothing(self, browser: Client, owner: User) -> None:
        browser_of(owner)
        [handle] = handles(browser.get(URL))
        assert browser.get(f"{URL}/sessions/{handle}/end")["Location"] == URL
        assert WebSession.objects.count() == 2

    def test_all_others_are_ended_at_once(self, browser: Client, owner: User) -> None:
        other, api = browser_of(owner), sessions.start(user=owner)
        assert "2 sessions are ended" in text_of(browser.post(OTHERS, follow=True))
        api.refresh_from_db()
        assert api.ended_at is not None
        assert other.get(URL).status_code == 302
        assert browser.get(URL).status_code == 200

    def test_a_browser_left_open_gives_the_password_first(self, browser: Client, owner: User, clock) -> None:
        other = browser_of(owner)
        assert "Current password" not in text_of(browser.get(URL))
        clock.shift(web_sessions.RECENT + timedelta(seconds=1))
        assert "Current password" in text_of(browser.get(URL))
        assert "not your current password" in text_of(browser.post(OTHERS, {"current_password": "wrong"}))
        assert other.get(URL).status_code == 200
        assert browser.post(OTHERS, {"current_password": PASSWORD}).status_code == 302
        assert other.get(URL).status_code == 302

    def test_a_new_password_leaves_no_row_but_this_ones(self, browser: Client, owner: User) -> None:
        browser_of(owner)
        form = {"current_password": PASSWORD, "password": "another secret 1"}
        assert browser.post("/dashboard/profile/password", form).status_code == 302
        assert browser.get(URL).status_code == 200
        assert WebSession.objects.filter(user=owner).count() == 1

    def test_it_knows_since_when_and_when_last_without_writing_each_time(self, browser: Client, clock) -> None:
        began = WebSession.objects.get().created_at
        clock.shift(timedelta(hours=3))
        browser.get(URL)
        row = WebSession.objects.get()
        assert (row.created_at, row.last_used_at) == (began, timezone.now())
        used = row.last_used_at
        clock.shift(timedelta(seconds=59))
        browser.get(URL)
        assert WebSession.objects.get().last_used_at == used
        session = browser.session
        session["anything"] = 1
        session.save()
        assert WebSession.objects.get().created_at == began

    def test_many_are_cut_and_counted(self, browser: Client, owner: User) -> None:
        now = timezone.now()
        for number in range(60):
            fields = {"user_agent": f"tool{number}/1", "expires_at": now + timedelta(days=1)}
            TokenSession.objects.create(user=owner, refresh_jti="0" * 32, **fields)
        response = browser.get(URL)
        assert len(handles(response)) == 50
        assert "And 10 more" in text_of(response)

    def test_a_page_of_many_takes_few_queries(self, browser: Client, owner, django_assert_max_num_queries) -> None:
        for _ in range(20):
            sessions.start(user=owner)
        with django_assert_max_num_queries(12):
            browser.get(URL)


class TestTwoFactor:
    def test_it_is_set_up_with_what_the_page_shows(self, browser: Client, owner: User, inbox) -> None:
        assert browser.post(SET_UP)["Location"] == CONFIRM
        page = browser.get(CONFIRM)
        assert "<svg" in page.content.decode()
        assert "style=" not in page.content.decode().split("<main")[1]
        [secret] = re.findall(r"<code id=\"secret\">([A-Z2-7 ]+)</code>", page.content.decode())
        response = browser.post(CONFIRM, {"code": code_of(secret)})
        codes = re.findall(r"<li><code>([a-z0-9-]+)</code></li>", response.content.decode())
        assert len(codes) == 10
        assert two_factor.is_on(owner)
        assert browser.post(CONFIRM, {"code": code_of(secret, steps=1)})["Location"] == URL
        text = text_of(browser.get(URL))
        assert "Two-factor authentication On" in text
        assert "10 left of 10" in text
        assert not [code for code in codes if code in text]

    def test_a_wrong_code_leaves_it_off(self, browser: Client, owner: User) -> None:
        browser.post(SET_UP)
        assert "not the code" in text_of(browser.post(CONFIRM, {"code": "abc"}))
        assert not two_factor.is_on(owner)

    def test_a_secret_left_for_long_is_not_shown_again(self, browser: Client, clock) -> None:
        browser.post(SET_UP)
        clock.shift(two_factor.SET_UP_WITHIN + timedelta(seconds=1))
        assert browser.get(CONFIRM)["Location"] == URL

    def test_a_browser_left_open_gives_the_password_first(self, browser: Client, clock) -> None:
        clock.shift(web_sessions.RECENT + timedelta(seconds=1))
        assert "Current password" in text_of(browser.post(SET_UP))
        assert browser.post(SET_UP, {"current_password": PASSWORD})["Location"] == CONFIRM

    @pytest.mark.parametrize("url", [CODES, OFF])
    @pytest.mark.parametrize("missing", ["current_password", "code"])
    def test_changes_take_password_and_code(self, owner: User, browser: Client, clock, url: str, missing: str) -> None:
        _, codes = turned_on(owner)
        form = {"current_password": PASSWORD, "code": codes[0]} | {missing: "wrong"}
        assert browser.post(url, form).status_code == 200
        assert two_factor.is_on(owner)
        assert two_factor.codes_left(owner) == 10

    def test_it_is_turned_off(self, owner: User, browser: Client, clock) -> None:
        _, codes = turned_on(owner)
        assert browser.post(OFF, {"current_password": PASSWORD, "code": codes[0]})["Location"] == URL
        assert not two_factor.is_on(owner)
        assert browser.get(OFF)["Location"] == URL

    def test_new_codes_are_shown_once(self, owner: User, browser: Client, clock) -> None:
        _, codes = turned_on(owner)
        page = browser.post(CODES, {"current_password": PASSWORD, "code": codes[0]}).content.decode()
        shown = re.findall(r"<li><code>([a-z0-9-]+)</code></li>", page)
        assert len(shown) == 10
        assert not set(shown) & set(codes)


class TestActivity:
    def test_it_shows_what_happened_to_this_account(self, browser: Client, owner: User, outsider: User) -> None:
        services.change_email(user=owner, email="new@example.com")
        services.change_email(user=outsider, email="elsewhere@example.com")
        text = text_of(browser.get(URL))
        assert "You changed the account's e-mail address" in text
        assert "You logged in" in text
        assert "elsewhere" not in text

    def test_it_shows_what_support_did_to_it(self, browser: Client, owner: User) -> None:
        turned_on(owner)
        two_factor.remove(user=owner, by=factories.superuser("operator"))
        assert "operator@example.com removed two-factor authentication" in text_of(browser.get(URL))


@pytest.mark.parametrize(
    ("user_agent", "told"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/142.0.0.0 Safari/537.36 Edg/142.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/142.0.0.0 Safari/537.36", "Chrome on macOS"),
        ("curl/8.9.1", "curl"),
        ("acme-billing/2.1 (internal)", "acme-billing/2.1"),
        ("", "An unknown program"),
        ("\x1b[31mred", "An unknown program"),
    ],
)
def test_user_agents_are_told_in_words(user_agent: str, told: str) -> None:
    assert describe(user_agent) == told
