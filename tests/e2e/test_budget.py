"""What an owner does: set a budget, meet it, read why requests are refused, raise it, and go on.

Against the whole of HelixFlow with its real embedded model, at a price of a cent a token.
"""

import time

import requests
from playwright.sync_api import Page, expect

from tests.e2e.test_first_call import create_key, sign_up
from tests.stack import Stack

PLAN = "/dashboard/plan"
PRICE = """
from datetime import timedelta
from django.utils import timezone
from billing.models import Price
from inference.models import Model
now = timezone.now()
for model in Model.objects.all():
    Price.objects.create(model=model.name, input=10_000, output=10_000, starts_at=now - timedelta(seconds=1))
"""
SOON_S = 40.0  # for the meter, on a busy machine


def complete(stack: Stack, key: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"}
    model = requests.get(f"{stack.base_url}/models", headers=headers, timeout=10).json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    return requests.post(f"{stack.base_url}/chat/completions", headers=headers, json=body, timeout=60)


def set_budget(page: Page, stack: Stack, amount: str) -> None:
    page.goto(f"{stack.url}{PLAN}")
    page.get_by_label("Monthly budget").fill(amount)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved. It counts from the next request on.")).to_be_visible()


def test_a_budget_that_is_reached_refuses_until_it_is_raised(page: Page, stack: Stack) -> None:
    stack.manage("shell", "-c", PRICE)
    sign_up(page, stack)
    key = create_key(page, stack, "Budgeted")
    set_budget(page, stack, "0.05")
    deadline = time.monotonic() + SOON_S
    answer = complete(stack, key)
    assert answer.status_code == 200, answer.text
    while answer.status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.5)
        answer = complete(stack, key)
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert "budget is spent" in answer.json()["error"]["message"]

    page.goto(f"{stack.url}{PLAN}")
    expect(page.get_by_text("This month's budget is spent.")).to_be_visible()
    page.get_by_role("link", name="Raise the budget").click()
    expect(page.get_by_label("Monthly budget")).to_be_in_viewport()

    set_budget(page, stack, "1000")
    expect(page.get_by_text("This month's budget is spent.")).to_be_hidden()
    assert complete(stack, key).status_code == 200
