"""From an invitation to leaving, as two people in two browsers see it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from playwright.sync_api import Browser, Page, expect

from billing.seeds import seed_plans
from helixflow.celery import app

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "correct horse 42"
TEAM = "/dashboard/team"


def sign_up(page: Page, email: str) -> None:
    page.fill("[name=email]", email)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")


def mailed(email: str, path: str) -> str:
    """The path of the link in the last mail to ``email``."""
    bodies = [str(message.body) for message in mail.outbox if message.to == [email]]
    return str(re.findall(rf"https?://[^/\s]+({path}\S+)", bodies[-1])[0])


@pytest.fixture
def site(live_server: Any) -> Iterator[str]:
    """Tasks run where they are asked for."""
    app.loader.import_default_modules()
    app.conf.task_always_eager = True
    seed_plans()
    yield str(live_server.url)
    app.conf.task_always_eager = False


def test_invited_they_join_are_refused_promoted_and_leave(page: Page, browser: Browser, site: str) -> None:
    owner, friend = "owner@example.com", "friend@example.com"
    page.goto(f"{site}/signup")
    sign_up(page, owner)
    page.wait_for_url("**/dashboard")
    page.goto(site + mailed(owner, "/verify-email/"))
    page.click("main button[type=submit]")
    page.goto(f"{site}{TEAM}")
    page.click("text=Invite")
    page.fill("[name=email]", friend)
    page.click("main button[type=submit]")
    expect(page.locator("main")).to_contain_text(friend)

    elsewhere = browser.new_context(viewport={"width": 1440, "height": 900})
    elsewhere.set_default_timeout(10_000)
    theirs = elsewhere.new_page()
    theirs.goto(site + mailed(friend, "/invitations/"))
    theirs.click("text=Create an account")
    assert theirs.input_value("[name=email]") == friend
    sign_up(theirs, friend)
    theirs.click("text=Accept invitation")
    theirs.wait_for_url(f"**{TEAM}")
    expect(theirs.locator("main")).to_contain_text(owner)
    assert theirs.locator("main >> text=Invite").count() == 0
    refused = theirs.goto(f"{site}{TEAM}/invite")
    assert refused is not None
    assert refused.status == 403

    page.reload()
    page.click(f"tr:has-text('{friend}') >> text=Change role")
    page.check("[value=admin]")
    page.click("text=Save role")
    page.wait_for_url(f"**{TEAM}")
    theirs.goto(f"{site}{TEAM}")
    expect(theirs.get_by_role("link", name="Invite", exact=True)).to_be_visible()

    theirs.click(".switcher:visible summary")
    theirs.click(".switcher:visible button:not([aria-current])")
    theirs.wait_for_url(f"**{TEAM}")
    expect(theirs.locator("main tbody tr")).to_have_count(1)
    theirs.click(".switcher:visible summary")
    theirs.click(".switcher:visible button:not([aria-current])")
    theirs.click("main >> text=Leave")
    theirs.click("main button[type=submit]")
    theirs.wait_for_url("**/dashboard/organizations")
    page.goto(f"{site}{TEAM}")
    expect(page.locator("main")).not_to_contain_text(friend)
    elsewhere.close()
