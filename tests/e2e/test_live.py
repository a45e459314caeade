"""The overview in a real browser, on a real web process: it moves with each completion, with a socket or without."""

import re
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from accounts import api_keys
from accounts.models import Organization, User
from billing.models import UsageRecord
from tests.billing.admitting import drain
from tests.e2e.test_look import sign_in
from tests.factories import MODEL, deploy
from tests.fakes.upstream import Upstream
from tests.stack import wait_for
from tests.web import Web, running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token(transactional_db: None, owner: User, organization: Organization) -> str:
    return api_keys.create(organization=organization, user=owner, name="Importer")[1]


@pytest.fixture
def web(token: str, upstream: Upstream) -> Iterator[Web]:
    deploy(upstream)
    with running_web() as running:
        yield running


@pytest.fixture
def overview(page: Page, context: BrowserContext, web: Web, owner: User) -> Page:
    sign_in(context, owner, web.url)
    page.goto(f"{web.url}/dashboard")
    return page


def complete(web: Web, token: str) -> None:
    """A completion, and what the meter does with it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    answer = requests.post(
        f"{web.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=20
    )
    assert answer.status_code == 200
    written = UsageRecord.objects.count()

    def is_written() -> bool:
        drain()
        return UsageRecord.objects.count() > written

    wait_for(is_written)


def test_it_moves_with_a_completion(overview: Page, web: Web, token: str) -> None:
    state = overview.locator("[data-live-state]")
    expect(state).to_have_text("Live")
    expect(overview.get_by_text("No requests yet")).to_be_visible()
    complete(web, token)
    requests_today = overview.locator(".stat", has_text="Requests").locator(".stat__value")
    expect(requests_today).to_have_text("1", timeout=10_000)
    link = overview.locator("#recent-title").locator("xpath=ancestor::section").get_by_role("link", name="just now")
    expect(link).to_have_attribute("href", re.compile("^/dashboard/requests/req_"))
    overview.get_by_text("Show as table: Requests by hour").click()
    link.focus()
    complete(web, token)
    expect(requests_today).to_have_text("2", timeout=10_000)
    expect(link.last).to_be_focused()
    expect(overview.get_by_role("columnheader", name="Hour")).to_be_visible()


def test_without_a_socket_it_asks_now_and_then(
    page: Page, context: BrowserContext, web: Web, owner: User, token: str
) -> None:
    page.clock.install()
    page.route_web_socket("**/dashboard/live", lambda socket: socket.close())
    sign_in(context, owner, web.url)
    page.goto(f"{web.url}/dashboard")
    expect(page.locator("[data-live-state]")).to_have_text("Refreshed every 10 s")
    complete(web, token)
    page.clock.run_for(11_000)
    expect(page.locator(".stat", has_text="Requests").locator(".stat__value")).to_have_text("1")


def test_a_hidden_tab_rests_and_catches_up(overview: Page, web: Web, token: str) -> None:
    expect(overview.locator("[data-live-state]")).to_have_text("Live")
    overview.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    with overview.expect_event("websocket") as reopened:
        overview.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        asked: list[str] = []
        overview.on("request", lambda request: asked.append(request.url))
        complete(web, token)
        overview.wait_for_timeout(1_000)
        assert asked == []
        overview.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    assert reopened.value.url.endswith("/dashboard/live")
    expect(overview.locator(".stat", has_text="Requests").locator(".stat__value")).to_have_text("1")
