"""The usage page in a browser: charts read by pointer and keys, results swapped in, and no need of JavaScript."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accounts.models import User
from billing import events
from tests import factories
from tests.billing import usage_events
from tests.billing.readers import meter, new_key
from tests.e2e.test_look import sign_in

pytestmark = pytest.mark.django_db(transaction=True)

MODELS = ("gpt-4o", "claude-sonnet-4-5", "smollm2:135m")


@pytest.fixture
def user(live_server: Any) -> Iterator[User]:
    """Of an organization that has used three models with two keys over forty days."""
    user = factories.user("ada")
    organization = factories.organization(owner=user)
    keys = [new_key(organization, user, name)[0] for name in ("Website", "Nightly evaluation")]
    dice = random.Random(4)
    now = datetime.now(UTC)
    for _ in range(150):
        fails = dice.random() < 0.1
        meter(
            dice.choice(keys),
            at=now - timedelta(hours=dice.random() * dice.randrange(1, 960)),
            model=dice.choice(MODELS),
            status=503 if fails else 200,
            error_code=dice.choice(["timeout", "server_error"]) if fails else "",
            duration_ms=400 * dice.lognormvariate(0, 0.8),
            first_token_ms=120 * dice.lognormvariate(0, 0.5),
            tokens=events.Tokens(input=dice.randrange(2_000), output=dice.randrange(400)),
        )
    yield user
    usage_events.drop_partitions()


@pytest.fixture
def usage(live_server: Any, context: BrowserContext, user: User) -> str:
    sign_in(context, user, str(live_server.url))
    return f"{live_server.url}/dashboard/usage"


def test_a_chart_is_read_with_the_pointer_and_the_arrow_keys(page: Page, usage: str) -> None:
    page.goto(usage)
    plot = page.get_by_role("slider", name="Requests by model, daily: read the values with the arrow keys")
    plot.hover()
    expect(plot.locator(".chart__tip")).to_be_visible()
    page.mouse.move(0, 0)
    expect(plot.locator(".chart__tip")).to_be_hidden()
    plot.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    tip = plot.locator(".chart__tip")
    expect(tip).to_be_visible()
    second = page.locator("#usage-chart tbody tr").nth(1).locator("th").text_content() or "no label"
    expect(tip.locator("strong")).to_have_text(second)
    assert str(plot.get_attribute("aria-valuetext")).startswith(second)
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_what_is_chosen_is_swapped_in_and_in_the_address(page: Page, usage: str) -> None:
    page.goto(usage)
    page.get_by_label("By", exact=True).select_option("status")
    expect(page.get_by_role("heading", name="Requests by status, daily")).to_be_visible()
    page.get_by_label("7 days").check()
    expect(page.get_by_role("heading", name="Requests by status, hourly")).to_be_visible()
    assert page.url == f"{usage}?group=status&range=7d"
    expect(page.locator("#usage-chart [role=slider]")).to_have_count(1)
    page.get_by_label("Show", exact=True).select_option("cost")
    expect(page.get_by_text("By status, only requests are counted")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Requests by status, hourly")).to_be_visible()


def test_it_works_without_javascript(browser: Browser, live_server: Any, user: User) -> None:
    context = browser.new_context(java_script_enabled=False, accept_downloads=True)
    sign_in(context, user, str(live_server.url))
    page = context.new_page()
    page.goto(f"{live_server.url}/dashboard/usage")
    expect(page.get_by_label("From", exact=True)).to_be_hidden()
    page.get_by_label("Show", exact=True).select_option("latency")
    page.get_by_label("Percentile").select_option("p50")
    page.get_by_label("Custom").check()
    today = datetime.now(UTC).date()
    page.get_by_label("From", exact=True).fill(str(today - timedelta(days=40)))
    page.get_by_label("To, that day included").fill(str(today))
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="Latency, p50, by model, daily")).to_be_visible()
    page.get_by_text("Show as table").click()
    expect(page.locator("#usage-chart tbody tr")).to_have_count(41)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.suggested_filename.endswith("-by-model.csv")
    context.close()
