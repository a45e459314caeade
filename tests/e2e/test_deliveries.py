"""The pages of webhook deliveries in a real browser: they follow what happens, without losing what one looks at."""

from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from accounts.models import User
from tests import factories
from tests.e2e.test_look import sign_in
from webhooks.models import Attempt, Delivery, DeliveryState, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)

LOG = "/dashboard/webhooks/deliveries"
EVIL = "</pre><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
def user(live_server: Any) -> User:
    user = factories.user("ada")
    factories.organization(owner=user)
    return user


@pytest.fixture
def endpoint(user: User) -> Endpoint:
    return factories.endpoint(user.memberships.get().organization)


@pytest.fixture
def site(live_server: Any, user: User, context: BrowserContext) -> str:
    sign_in(context, user, live_server.url)
    return str(live_server.url)


def test_the_log_follows_what_happens_and_rests_in_a_hidden_tab(page: Page, site: str, endpoint: Endpoint) -> None:
    page.clock.install()
    page.goto(site + LOG)
    expect(page.get_by_text("Nothing sent yet")).to_be_visible()
    first = factories.delivery(endpoint)
    page.clock.run_for(5_000)
    row = page.locator("#delivery-rows tr").filter(has=page.locator(f"#{first.public_id}"))
    expect(row).to_contain_text("Queued")
    row.get_by_role("link").focus()
    Delivery.objects.update(state=DeliveryState.SUCCEEDED, attempt_count=1, last_status=204, next_attempt_at=None)
    page.clock.run_for(3_000)
    expect(row).to_contain_text("Delivered")
    expect(row.get_by_role("link")).to_be_focused()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.clock.run_for(60_000)
    assert asked == []
    factories.delivery(endpoint)
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#delivery-rows tr")).to_have_count(2)


def test_a_delivery_follows_its_attempts_and_leaves_open_what_is_open(
    page: Page, site: str, endpoint: Endpoint
) -> None:
    page.clock.install()
    delivery = factories.delivery(endpoint, attempt_count=2, step=2)
    for _ in range(2):
        factories.attempt(
            delivery, succeeded=False, status=503, error="The receiver answered 503.", error_code="status"
        )
    page.goto(f"{site}{LOG}/{delivery.public_id}")
    attempts = page.locator("details.attempt")
    attempts.nth(0).locator("summary").click()
    attempts.nth(1).locator("summary").click()
    assert open_ones(page) == [False, True]
    factories.attempt(delivery)
    Delivery.objects.update(
        state=DeliveryState.SUCCEEDED, attempt_count=3, next_attempt_at=None, ended_at=timezone.now()
    )
    page.clock.run_for(2_000)
    expect(page.get_by_text("Delivered at the 3rd attempt")).to_be_visible()
    assert open_ones(page) == [True, False, True]


def open_ones(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('details.attempt')].map((attempt) => attempt.open)")


def test_one_that_succeeded_is_sent_again_only_after_a_yes(page: Page, site: str, endpoint: Endpoint) -> None:
    delivery = factories.delivery(endpoint, state=DeliveryState.SUCCEEDED, attempt_count=1, next_attempt_at=None)
    factories.attempt(delivery)
    page.goto(f"{site}{LOG}/{delivery.public_id}")
    page.get_by_role("button", name="Resend").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert not Delivery.objects.filter(state=DeliveryState.PENDING).exists()
    page.get_by_role("button", name="Resend").click()
    page.get_by_role("dialog").get_by_role("button", name="Resend").click()
    expect(page.get_by_text("It is being sent again, under the same event id.")).to_be_visible()
    assert Delivery.objects.filter(state=DeliveryState.PENDING).exists()


def test_a_page_whose_session_ended_leads_to_the_login(page: Page, site: str, user: User, endpoint: Endpoint) -> None:
    page.clock.install()
    factories.delivery(endpoint)
    page.goto(site + LOG)
    page.context.clear_cookies()
    page.clock.run_for(3_000)
    page.wait_for_url(f"**/login?next={LOG}")


def test_what_a_receiver_answers_runs_nothing(page: Page, site: str, endpoint: Endpoint) -> None:
    delivery = factories.delivery(endpoint, data={"model": EVIL}, attempt_count=1)
    factories.attempt(delivery, response_body=EVIL, response_headers={"X-Evil": EVIL}, error=EVIL)
    page.goto(f"{site}{LOG}/{delivery.public_id}")
    expect(page).to_have_title("Delivery of completion.created · HelixFlow")
    expect(page.get_by_label("Body of the response of attempt 1")).to_have_text(EVIL)


def test_the_copied_curl_and_body_are_what_was_sent(
    page: Page, context: BrowserContext, site: str, endpoint: Endpoint
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    delivery = factories.delivery(endpoint, data={"model": "it's"}, attempt_count=1)
    factories.attempt(delivery)
    page.goto(f"{site}{LOG}/{delivery.public_id}")
    page.get_by_role("button", name="Copy as sent").click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").endswith('"data":{"model":"it\'s"}}')
    expect(page.get_by_text("Copy as sent")).to_be_visible()  # again
    page.get_by_role("button", name="Copy as curl").click()
    assert Attempt.objects.get().request_headers["webhook-id"] in page.evaluate("navigator.clipboard.readText()")
