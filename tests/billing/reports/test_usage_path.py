"""From a completion to its receipt, through real processes."""

import time
from io import StringIO

import pytest
import requests
from django.core.management import call_command

from billing.metering.meter import Meter
from tests import factories
from tests.billing.readers import new_key
from tests.web import running_web


@pytest.mark.django_db(transaction=True)
def test_completions_show_up_in_usage_and_have_receipts(organization, owner, upstream):
    factories.deploy(upstream)
    _, secret = new_key(organization, owner)
    with running_web() as web:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {secret}"
        body = {"model": factories.MODEL, "messages": [{"role": "user", "content": "Hello"}], "user": "jane"}
        answers = [session.post(f"{web.url}/v1/chat/completions", json=body, timeout=20) for _ in range(3)]
        bad = session.post(f"{web.url}/v1/chat/completions", json={"model": factories.MODEL}, timeout=20)
        assert [answer.status_code for answer in (*answers, bad)] == [200, 200, 200, 400]

        listed = _wait_for_records(session, web.url, 4)
        assert [each["id"] for each in listed] == [each.headers["X-Request-ID"] for each in (bad, *reversed(answers))]
        assert {each["end_user"] for each in listed[1:]} == {"jane"}

        usage = session.get(f"{web.url}/v1/usage", timeout=20).json()["data"]
        assert (usage["source"], usage["requests"], usage["month"]["used"]) == ("live", 4, 3)
        assert usage["keys"][0]["used"] == 3
        (series,) = session.get(f"{web.url}/v1/usage/timeseries", timeout=20).json()["data"]["series"]
        assert series["totals"]["requests"] == 4
        assert series["totals"]["failures"]["by_code"] == {"invalid_request": 1}
        assert series["totals"]["duration_ms"]["p50"] > 0

        receipt = session.get(f"{web.url}/v1/requests/{answers[0].json()['id']}", timeout=20).json()["data"]
        assert receipt["id"] == answers[0].headers["X-Request-ID"]
        assert receipt["tokens"]["total"] == answers[0].json()["usage"]["total_tokens"]
        assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["ok"]
        shown = StringIO()
        call_command("show_usage", organization.public_id, stdout=shown)
        assert "Redis and the ledger agree" in shown.getvalue()


def _wait_for_records(session: requests.Session, url: str, count: int) -> list[dict[str, object]]:
    """Settlement leaves the gateway a few milliseconds after the answer."""
    deadline = time.monotonic() + 20
    while True:
        Meter().drain()
        listed: list[dict[str, object]] = session.get(f"{url}/v1/requests", timeout=20).json()["data"]
        if len(listed) == count:
            return listed
        assert time.monotonic() < deadline, f"{len(listed)} of {count} records"
        time.sleep(0.05)
