"""The log of requests and a receipt with its contents, in a real browser."""

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from accounts import api_keys, organizations
from accounts.models import Organization, User
from billing import events
from billing.metering import ledger
from billing.models import Price
from billing.prices import PriceBook
from billing.seeds import seed_plans
from helixflow.lib import ids
from inference import calls
from inference.keeping import contents
from inference.keeping.kept import Recording
from tests import factories
from tests.billing import usage_events
from tests.e2e import axe
from tests.e2e.test_look import sign_in

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = "You are a careful assistant. Answer in one sentence."
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "It rains in Oslo.\n\nTake a coat."}}]}


@pytest.fixture
def user(transactional_db: None) -> User:
    seed_plans()
    user = factories.user("ada")
    organization = organizations.update(organization=factories.organization(owner=user), user=user, contents_days=30)
    Organization.objects.update(contents_since=timezone.now() - timedelta(days=1))
    Price.objects.create(
        model="gpt-4", starts_at=timezone.now() - timedelta(days=9), input=Decimal("2.5"), output=Decimal(10)
    )
    factories.endpoint(organization, "https://hooks.example.com/in", description="Warehouse")
    api_keys.create(organization=organization, user=user, name="Website")
    return user


def spent(organization: Organization, seconds_ago: float, **fields: Any) -> str:
    """One request as the meter writes it; its id."""
    key = organization.api_keys.get()
    moment = timezone.now() - timedelta(seconds=seconds_ago)
    known: dict[str, Any] = {
        "id": usage_events.id_at(moment),
        "month": moment.year * 100 + moment.month,
        "organization_id": organization.id,
        "api_key_id": key.id,
        "user_id": key.created_by_id,
    }
    event = usage_events.usage(**known | fields)
    ledger.write([ledger.Entry(event)], book=PriceBook())
    return ids.public_id(ids.REQUEST, event.id)


def many(organization: Organization) -> str:
    """Of every kind, and one that failed over and was streamed, with contents; its id."""
    for number in range(60):
        spent(
            organization, 3600 * number + 300, model=f"openai/gpt-{number % 3}-turbo-preview", duration_ms=90.0 * number
        )
    spent(organization, 200, model="", status=400, error_code="invalid_request", units=0, attempts=[], deployment="")
    spent(organization, 100, status=499, error_code="client_disconnected", operation="embeddings")
    spent(organization, 90, status=503, error_code="timeout", units=0, tokens=events.Tokens(), first_token_ms=None)
    found = spent(
        organization,
        60,
        streamed=True,
        duration_ms=2310.0,
        first_token_ms=890.0,
        deployment="azure-west",
        attempts=[events.Attempt("openai-1", "connect", 310.5), events.Attempt("azure-west", "ok", 560.1)],
        tokens=events.Tokens(input=1200, cached_input=800, output=412, reasoning=96),
        end_user="customer-4711",
    )
    said = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": [{"type": "text", "text": "How is the weather?"}]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain, 9 °C"},
    ]
    request = calls.ChatCall.parse(msgspec.json.encode({"model": "gpt-4", "messages": said, "temperature": 0.2}))
    answer = Recording(head=True)
    answer.add(msgspec.json.encode(ANSWER))
    contents.write([contents.Taken(ids.parse_public_id(ids.REQUEST, found), organization.id, request, answer, 0)])
    return found


def shot(page: Page, name: str) -> None:
    """Kept where somebody wants to look: HELIXFLOW_SCREENSHOTS names a directory."""
    if folder := os.environ.get("HELIXFLOW_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=not name.startswith("log"))


def test_a_request_is_searched_for_and_read(page: Page, context: BrowserContext, live_server: Any, user: User) -> None:
    organization = user.memberships.get().organization
    sign_in(context, user, live_server.url)
    page.goto(f"{live_server.url}/dashboard/requests")
    expect(page.get_by_role("heading", name="No requests yet")).to_be_visible()
    shot(page, "empty")
    request_id = many(organization)
    expect(page.locator("#request-rows tr")).to_have_count(50)  # by itself
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"{live_server.url}/dashboard/requests")
            shot(page, f"log-{scheme}-{width}")
            page.goto(f"{live_server.url}/dashboard/requests/{request_id}")
            shot(page, f"receipt-{scheme}-{width}")
            assert page.evaluate("document.documentElement.scrollWidth") == width
    assert axe.violations(page) == []
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{live_server.url}/dashboard/requests")
    page.get_by_label("Status").select_option("failed")
    expect(page.locator("#request-rows tr")).to_have_count(3)  # without a new page
    expect(page.get_by_label("Status")).to_have_value("failed")
    assert "status=failed" in page.url
    spent(organization, 0, status=500, error_code="server_error")
    expect(page.locator("#request-rows tr")).to_have_count(4)
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#request-rows tr")).to_have_count(50)
    page.get_by_label("Id").fill(request_id.replace("req_", "chatcmpl-"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Take a coat.")).to_be_visible()
    assert page.url.endswith(request_id)
    page.get_by_role("link", name="Delete").click()
    shot(page, "delete")
    page.get_by_role("button", name="Delete contents").click()
    expect(page.get_by_text("Nothing is stored of this request.")).to_be_visible()
    page.goto(f"{live_server.url}/dashboard/settings")
    shot(page, "settings")


def test_a_request_that_is_still_on_its_way_shows_by_itself(
    page: Page, context: BrowserContext, live_server: Any, user: User, console_errors: list[str]
) -> None:
    organization = user.memberships.get().organization
    sign_in(context, user, live_server.url)
    young = ids.uuid7()
    page.goto(f"{live_server.url}/dashboard/requests/{ids.public_id(ids.REQUEST, young)}")
    expect(page.get_by_text("Waiting for it")).to_be_visible()
    shot(page, "waiting")
    spent(organization, 0, id=young)
    expect(page.get_by_role("heading", name="What was asked")).to_be_visible()
    assert "404" in console_errors.pop()  # the page that waited
