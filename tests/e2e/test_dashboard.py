"""Somebody's first minutes in the dashboard, from signing up to a receipt, against the whole of HelixFlow."""

import json
import re

from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.test_first_call import create_key, sign_up
from tests.stack import Stack

ANSWER_MS = 60_000  # on a busy machine
LEDGER_MS = 20_000


def test_from_signing_up_to_a_receipt(page: Page, context: BrowserContext, stack: Stack) -> None:
    sign_up(page, stack)
    assert create_key(page, stack, "First").startswith("hflow_")
    overview = context.new_page()
    overview.goto(f"{stack.url}/dashboard")
    expect(overview.locator("[data-live-state]")).to_have_text("Live")

    page.goto(f"{stack.url}/dashboard/playground?model=smollm2-135m-instruct")
    page.get_by_label("Max. tokens").fill("12")
    page.get_by_role("textbox", name="Your message").fill("Say hello.")
    page.get_by_role("textbox", name="Your message").press("Control+Enter")
    answer = page.locator('.said--model[aria-busy="false"]')
    expect(answer).to_have_count(1, timeout=ANSWER_MS)

    overview.bring_to_front()  # pages that nobody sees do nothing
    requests_today = overview.locator(".stat", has_text="Requests").locator(".stat__value")
    expect(requests_today).to_have_text("1", timeout=LEDGER_MS)

    page.bring_to_front()
    page.goto(f"{stack.url}/dashboard/usage?range=24h")
    page.get_by_text("Show as table").first.click()
    expect(page.locator("#usage-chart thead")).to_contain_text("smollm2-135m-instruct")
    expect(page.locator("#usage-chart tbody")).to_contain_text("1")

    page.goto(f"{stack.url}/dashboard/requests")
    row = page.locator("#request-rows tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Playground")
    row.get_by_role("link").first.click()
    page.wait_for_url(re.compile("/dashboard/requests/req_"))
    receipt = page.locator("main")
    expect(receipt).to_contain_text("embedded")
    expect(receipt).to_contain_text("Tokens")

    hand_over_a_batch(page, stack)


def hand_over_a_batch(page: Page, stack: Stack) -> None:
    """One request of two fails; it is tried again, and fails again."""
    page.goto(f"{stack.url}/dashboard/batches")
    expect(page.get_by_text("No batches yet")).to_be_visible()
    page.get_by_role("link", name="New batch").click()
    page.get_by_label("Or its lines").fill("\n".join([line("good", "smollm2-135m-instruct"), "{"]))
    page.get_by_role("button", name="Start the batch").click()
    expect(page.locator(".batch-problems")).to_contain_text("Line 2")
    lines = "\n".join([line("good", "smollm2-135m-instruct"), line("bad", "gpt-99")])
    page.get_by_label("Or its lines").fill(lines)
    page.get_by_role("button", name="Start the batch").click()
    page.wait_for_url(re.compile("/dashboard/batches/batch_"))
    expect(page.get_by_text("1 of 2 requests were answered, 1 failed.")).to_be_visible(timeout=ANSWER_MS)
    page.get_by_role("link", name="bad", exact=True).click()
    expect(page.locator("main")).to_contain_text("model_not_found")
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="Results").click()
    assert json.loads(download.value.path().read_text())["custom_id"] == "good"
    page.get_by_role("button", name="Retry the failed ones").click()
    expect(page.get_by_text("0 of 1 requests were answered, 1 failed.")).to_be_visible(timeout=ANSWER_MS)
    expect(page.locator("dt", has_text="Retries")).to_be_visible()


def line(custom_id: str, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})
