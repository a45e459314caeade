"""What tests of the delivery pages share."""

import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

from django.test import Client
from django.utils import timezone

from accounts.models import User
from tests.webhooks import rows
from webhooks.models import Delivery, DeliveryState, Endpoint

URL = "/dashboard/webhooks/deliveries"
HTMX = {"HX-Request": "true"}
NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", response.content.decode())).split())


def listed(response: Any) -> list[str]:
    return re.findall(r'<a id="(whd_\w+)"', response.content.decode())


def failed(to: Endpoint, **fields: Any) -> Delivery:
    """One whose schedule is spent."""
    spent = {"state": DeliveryState.FAILED, "step": 10, "attempt_count": 10, "next_attempt_at": None}
    values: dict[str, Any] = spent | {"ended_at": timezone.now()} | fields
    return rows.delivery(to, **values)


def polled(response: Any) -> str:
    """The query that the page's live part asks with."""
    [query] = re.findall(r'data-live hx-get="([^"]+)"', response.content.decode())
    return unescape(query)
