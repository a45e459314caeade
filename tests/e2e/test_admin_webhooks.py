"""Webhooks in the admin, in a real browser: a failed delivery is found, looked into and sent again."""

import uuid
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect

from tests import factories
from tests.e2e.test_admin import _problems
from tests.webhooks.rows import attempt, delivery
from webhooks import queue
from webhooks.models import Delivery, DeliveryState

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(live_server: Any, context: BrowserContext) -> str:
    """The address of the admin's pages of webhooks, signed in to as an operator."""
    client = Client()
    client.force_login(factories.superuser("root"))
    name = settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": str(live_server.url)}])
    return f"{live_server.url}/admin/webhooks"


@pytest.fixture
def failed() -> Delivery:
    organization = factories.organization(owner=factories.user("owner"), name="An organization with a long name")
    url = "https://a-receiver-with-a-long-name.eu-central-1.example.com/with/a/path/that/never/seems/to/end"
    row = delivery(factories.endpoint(organization, url=url), state=DeliveryState.FAILED, last_status=503)
    attempt(row, succeeded=False, status=None, error_code="timeout", error="No answer within 15 s.")
    answer = "<html>" + "x" * 600
    attempt(row, succeeded=False, status=503, response_body=answer, duration_ms=15_000, address="203.0.113.7")
    return row


def test_a_failed_delivery_is_found_and_sent_again(
    page: Page, site: str, failed: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudged: list[uuid.UUID] = []
    monkeypatch.setattr(queue, "nudge", nudged.append)
    page.goto(f"{site}/endpoint/?q={failed.endpoint.public_id}")
    page.get_by_role("link", name="https://a-receiver").click()
    page.get_by_role("link", name="Show them").click()
    page.get_by_role("link", name=failed.public_id).click()
    expect(page.get_by_text("503 Service Unavailable")).to_be_visible()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("It is sent again, under the same event id.")).to_be_visible()
    failed.refresh_from_db()
    assert failed.state == DeliveryState.PENDING
    assert nudged == [failed.endpoint_id]


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pages_are_accessible_and_keep_to_their_width(page: Page, site: str, failed: Delivery, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    found = {}
    for path in (*("endpoint/", "delivery/", "event/"), *map(_path, (failed, failed.endpoint, failed.event))):
        page.goto(f"{site}/{path}")
        found[path] = _problems(page)
    assert {path: problems for path, problems in found.items() if problems} == {}


def _path(row: Any) -> str:
    return f"{row._meta.model_name}/{row.pk}/change/"
