"""Two-factor authentication as people meet it: on, a login with a code, one with a recovery code, and off."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from accounts.models import User
from accounts.two_factor_models import TwoFactor
from tests import factories
from tests.accounts.codes import code_of
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/dashboard/security"


@pytest.fixture
def user(live_server: Any) -> User:
    user = factories.user("ada")
    factories.organization(owner=user)
    return user


@pytest.fixture
def site(live_server: Any, user: User) -> str:
    return str(live_server.url)


def log_in(page: Page, site: str, user: User, code: str | None = None) -> None:
    page.goto(f"{site}/login?next={URL}")
    page.get_by_label("E-mail address or username").fill(user.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    if code is not None:
        page.wait_for_url("**/login/code**")
        enter(page, code)
    page.wait_for_url(f"**{URL}")


def enter(page: Page, code: str) -> None:
    page.get_by_role("textbox", name="Code").fill(code)
    page.get_by_role("button", name="Log in").click()


def log_out(page: Page) -> None:
    page.locator(".dash__side").get_by_role("button", name="Log out").click()
    page.wait_for_url(lambda url: "/dashboard" not in url)


def forget_the_last_code(user: User) -> None:
    """The next half minute, without waiting for it."""
    TwoFactor.objects.filter(user=user).update(last_step=-1)


def set_up(page: Page) -> tuple[str, list[str]]:
    """The secret and the recovery codes, as the pages show them."""
    page.get_by_role("link", name="Set up").click()
    page.get_by_role("button", name="Begin").click()
    secret = page.locator("#secret").inner_text()
    page.get_by_label("Code from the app").fill(code_of(secret))
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    return secret, page.locator("#codes code").all_inner_texts()


def test_on_a_code_a_recovery_code_and_off(page: Page, site: str, user: User) -> None:
    log_in(page, site, user)
    secret, codes = set_up(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert codes[9] in download.value.path().read_text()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("10 left of 10")).to_be_visible()
    log_out(page)

    forget_the_last_code(user)
    log_in(page, site, user, code_of(secret))
    log_out(page)
    log_in(page, site, user, codes[0])
    expect(page.get_by_text("You used a recovery code, and have 9 left.")).to_be_visible()
    expect(page.get_by_text("You logged in with a recovery code")).to_be_visible()

    page.get_by_role("link", name="Turn off").click()
    page.get_by_role("textbox", name="Current password").fill(PASSWORD)
    page.get_by_role("textbox", name="Code").fill(codes[1])
    page.get_by_role("button", name="Turn off").click()
    expect(page.get_by_text("Two-factor authentication is off.")).to_be_visible()
    log_out(page)
    log_in(page, site, user)


def test_other_browsers_are_signed_out_after_a_question(page: Page, browser: Browser, site: str, user: User) -> None:
    other = browser.new_context()
    log_in(other.new_page(), site, user)
    log_in(page, site, user)
    page.get_by_role("button", name="Sign out elsewhere").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Sign out elsewhere").click()
    page.locator("#confirm").get_by_role("button", name="Sign out elsewhere").click()
    expect(page.get_by_text("1 session is ended.")).to_be_visible()
    left = other.pages[0]
    left.goto(f"{site}{URL}")
    assert "/login" in left.url
    other.close()


def test_it_works_without_javascript(browser: Browser, site: str, user: User) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, site, user)
    _, codes = set_up(page)
    page.goto(f"{site}{URL}")
    log_out(page)
    log_in(page, site, user, codes[0])
    context.close()
