"""What a developer does: create an endpoint, test it, have a real event fail, mend the receiver, send it again.

Against the whole of HelixFlow with its real embedded model and a real receiver on loopback, which verifies every
signature with the secret that was copied from the page.
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect
from standardwebhooks import Webhook

from tests.e2e.test_first_call import copied, create_key, sign_up
from tests.fakes.receiver import Call, Receiver, status
from tests.stack import Stack

WEBHOOKS = "/dashboard/webhooks"
SOON_MS = 30_000  # what has to pass through the queue, on a busy machine


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        receiver.answer = lambda call: status(200, b"thanks <b>a lot</b>")
        yield receiver


def create_endpoint(page: Page, stack: Stack, url: str) -> str:
    """The secret, by way of the clipboard."""
    page.goto(f"{stack.url}{WEBHOOKS}")
    page.get_by_role("link", name="Create endpoint").click()
    page.get_by_label("URL").fill(url)
    page.get_by_label("Description").fill("Usage into the warehouse")
    page.get_by_role("button", name="Create endpoint").click()
    secret = copied(page, ".secret .copy")
    assert secret == page.inner_text("#webhook-secret")
    return secret


def complete(stack: Stack, key: str) -> str:
    """A real chat completion's id."""
    headers = {"Authorization": f"Bearer {key}"}
    model = requests.get(f"{stack.base_url}/models", headers=headers, timeout=10).json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    answer = requests.post(f"{stack.base_url}/chat/completions", headers=headers, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def verified(call: Call, secret: str) -> Any:
    """The event, if both signatures are right: the reference's, and that of Standard Webhooks."""
    expected = hmac.new(secret.encode(), call.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, call.headers["x-helixflow-signature"])
    return Webhook(secret).verify(call.body, call.headers)


def test_an_event_that_failed_is_found_understood_and_sent_again(
    context: BrowserContext, page: Page, stack: Stack, receiver: Receiver
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_up(page, stack)
    key = create_key(page, stack, "Warehouse")
    secret = create_endpoint(page, stack, receiver.url)

    page.get_by_label("Event").select_option("completion.failed")
    page.get_by_role("button", name="Send test event").click()
    expect(page.get_by_role("heading", name="It works")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#test-result")).to_contain_text("200 OK")
    expect(page.locator("#test-result")).to_contain_text("thanks <b>a lot</b>")
    [test] = receiver.wait_for(1)
    event = verified(test, secret)
    assert (event["event"], event["data"]["test"]) == ("completion.failed", True)
    expect(page.locator("#test-result")).to_contain_text(test.event_id)

    receiver.forget()
    receiver.answer = lambda call: status(500, b"no room in the warehouse")
    completion = complete(stack, key)
    receiver.wait_for(2, seconds=SOON_MS / 1000)
    page.goto(f"{stack.url}{WEBHOOKS}/deliveries?event=completion.created")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Failed", timeout=SOON_MS)
    expect(row).to_contain_text("500")
    row.locator("a").first.click()
    main = page.locator("main")
    expect(main).to_contain_text("Failed twice")
    expect(page.locator(".attempt")).to_have_count(2)
    expect(page.locator(".attempt[open]")).to_contain_text("500 Internal Server Error")
    expect(page.locator(".attempt[open]")).to_contain_text("no room in the warehouse")

    receiver.answer = lambda call: status(204)
    page.get_by_role("button", name="Resend").click()
    expect(main).to_contain_text("Delivered", timeout=SOON_MS)
    calls = receiver.wait_for(3)
    assert len({call.event_id for call in calls}) == 1
    for call in calls:
        event = verified(call, secret)
        assert (event["event"], event["data"]["id"]) == ("completion.created", completion)
    expect(main).to_contain_text(calls[0].event_id)
    page.goto(f"{stack.url}{WEBHOOKS}")
    expect(page.locator("tbody tr")).to_contain_text("50.0%")


def test_a_receiver_that_is_not_there_is_told_in_words(page: Page, context: BrowserContext, stack: Stack) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    with Receiver() as receiver:
        url = receiver.url
    sign_up(page, stack)
    create_endpoint(page, stack, url)
    page.get_by_role("button", name="Send test event").click()
    expect(page.get_by_role("heading", name="It failed")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#test-result")).to_contain_text("refused the connection")


def test_a_test_event_needs_no_javascript(browser: Browser, stack: Stack, receiver: Receiver) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_up(page, stack)
    page.goto(f"{stack.url}{WEBHOOKS}/new")
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_role("button", name="Create endpoint").click()
    assert page.inner_text("#webhook-secret").startswith("whsec_")
    page.get_by_role("button", name="Send test event").click()
    receiver.wait_for(1, seconds=SOON_MS / 1000)
    for _ in range(60):  # until what the receiver answered is written down
        if not page.get_by_role("link", name="Look again").is_visible():
            break
        page.wait_for_timeout(250)
        page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", name="It works")).to_be_visible()
    context.close()


def test_an_address_inside_is_refused_at_its_field(page: Page, stack: Stack) -> None:
    sign_up(page, stack)
    page.goto(f"{stack.url}{WEBHOOKS}/new")
    page.get_by_label("URL").fill("http://169.254.169.254/latest/meta-data")
    page.get_by_role("button", name="Create endpoint").click()
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("URL")).to_have_value("http://169.254.169.254/latest/meta-data")
