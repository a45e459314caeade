"""What the site's API reference says of webhooks' REST."""

import json
import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from tests import factories
from webhooks import delivery_words
from webhooks.api import representation


@pytest.fixture
def page(client: Client) -> str:
    return client.get("/docs/api").content.decode()


def sample(page: str, kind: str) -> dict[str, Any]:
    blocks = [unescape(re.sub(r"<[^>]+>", "", raw)) for raw in re.findall(r"<pre.*?</pre>", page, re.DOTALL)]
    [found] = [raw for raw in blocks if raw.lstrip().startswith("{") and f'\n  "object": "{kind}"' in raw]
    return dict(json.loads(found))


@pytest.mark.django_db
def test_samples_of_deliveries_have_the_fields_that_answers_have(page, organization):
    endpoint = factories.endpoint(organization)
    delivery = factories.delivery(endpoint)
    attempt = representation.attempt(
        factories.attempt(delivery, succeeded=False, status=500, error_code="status", error="It failed.")
    )
    shown = sample(page, "webhook_attempt")
    assert list(shown) == list(attempt)
    assert (list(shown["error"]), list(shown["response"])) == (list(attempt["error"]), list(attempt["response"]))
    assert list(sample(page, "webhook_delivery")) == list(representation.delivery(delivery))


def test_each_code_of_a_failed_attempt_is_named(page):
    for code in {"status", *delivery_words.ERRORS}:
        assert f"<code>{code}</code>" in page
