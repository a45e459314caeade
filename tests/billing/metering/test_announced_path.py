"""From a call of a real gateway process to the event of it, under the id that the caller saw."""

import json
import time

import pytest
import requests

from accounts.models import Organization
from billing.metering.meter import Meter
from billing.models import UsageRecord
from tests import factories
from tests.billing.metering.announced import CREATED, FAILED, delivered, listen
from tests.billing.readers import new_key
from tests.web import running_web
from webhooks.models import Event

CHAT = {"model": factories.MODEL, "messages": [{"role": "user", "content": "Hello"}], "user": "jane"}


@pytest.mark.django_db(transaction=True)
def test_completions_are_told_under_the_ids_that_callers_saw(organization, owner, upstream):
    factories.deploy(upstream)
    Organization.objects.update(cache_ttl_s=60)
    endpoint = listen(organization)
    key, secret = new_key(organization, owner)
    with running_web() as web:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {secret}"

        def ask(path, body, **headers):
            return session.post(f"{web.url}/v1/{path}", json=body, headers=headers, timeout=20)

        chat = ask("chat/completions", CHAT)
        streamed = ask("chat/completions", CHAT | {"stream": True})
        text = ask("completions", {"model": factories.MODEL, "prompt": "Hello"})
        first, again = (ask("chat/completions", CHAT, **{"Idempotency-Key": "once"}) for _ in range(2))
        cached = [ask("chat/completions", CHAT | {"temperature": 0})]
        while cached[-1].headers["X-HelixFlow-Cache"] != "hit":  # it is kept a moment after it was sent
            assert len(cached) < 100
            cached.append(ask("chat/completions", CHAT | {"temperature": 0}))
        ask("embeddings", {"model": factories.MODEL, "input": "Hello"})
        invalid = ask("chat/completions", {"model": factories.MODEL})
        upstream.script(*["status-500"] * 4)
        broken = ask("chat/completions", CHAT)
        meter(records=7 + len(cached))

    assert again.headers["Idempotent-Replayed"] == "true"
    ids = {
        **{answer.headers["X-Request-ID"]: answer.json()["id"] for answer in (chat, text, first, *cached)},
        streamed.headers["X-Request-ID"]: json.loads(streamed.text.split("\n")[0].removeprefix("data: "))["id"],
    }
    assert again.json()["id"] == first.json()["id"]
    good, bad = (Event.objects.filter(type=type_) for type_ in (CREATED, FAILED))
    assert {event.data["request_id"]: event.data["id"] for event in good} == ids
    assert len(ids) == len(set(ids.values())) == good.count()
    assert {event.data["request_id"]: event.data["error"]["code"] for event in bad} == {
        invalid.headers["X-Request-ID"]: "invalid_request",
        broken.headers["X-Request-ID"]: broken.json()["error"]["code"],
    }
    assert {event.data["api_key_id"] for event in Event.objects.all()} == {key.public_id}
    told = {event.data["id"]: event.data for event in good}[chat.json()["id"]]
    assert (told["user_id"], told["end_user"], told["model"]) == (owner.public_id, "jane", factories.MODEL)
    assert told["usage"] == chat.json()["usage"]
    assert len(delivered(endpoint)) == len(ids) + 2


def meter(*, records):
    """Settlement leaves the gateway a few milliseconds after the answer."""
    deadline = time.monotonic() + 20
    while UsageRecord.objects.count() < records:
        assert time.monotonic() < deadline, f"{UsageRecord.objects.count()} of {records} records"
        Meter().drain()
        time.sleep(0.05)
