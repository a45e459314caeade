"""REST for deliveries: /v1/webhooks/{id}/deliveries, and sending again."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from helixflow.lib import ids
from tests import factories
from tests.webhooks.rest import URL, api, send
from webhooks import endpoints
from webhooks.models import Delivery

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANGE = {"since": "2026-03-01T12:00:00Z", "until": "2026-03-01T14:00:00Z"}
SUMMARY = {
    "id",
    "object",
    "endpoint_id",
    "event_id",
    "event",
    "test",
    "state",
    "attempt_count",
    "last_status",
    "last_error",
    "next_attempt_at",
    "created_at",
    "ended_at",
}
ADDRESSES = [
    ("GET", "/{id}/deliveries"),
    ("GET", "/{id}/deliveries/{delivery}"),
    ("POST", "/{id}/deliveries/{delivery}/resend"),
    ("POST", "/{id}/resend-failed"),
]


@pytest.fixture(autouse=True)
def _nobody_sends(nudged) -> None:
    pass


@pytest.fixture
def failed(endpoint) -> Delivery:
    return factories.delivery(endpoint, state="failed", step=10, next_attempt_at=None, ended_at=timezone.now())


def address(path: str, delivery: Delivery, endpoint=None) -> str:
    return URL + path.format(id=(endpoint or delivery.endpoint).public_id, delivery=delivery.public_id)


def log(caller: Client, endpoint, **query: str):
    return caller.get(f"{URL}/{endpoint.public_id}/deliveries", query)


def test_the_log_is_newest_first_and_paged_by_key(owner, endpoint):
    made = [factories.delivery(endpoint).public_id for _ in range(5)]
    factories.delivery(factories.endpoint(endpoint.organization))
    caller, seen, cursor = api(owner), [], None
    while True:
        answer = log(caller, endpoint, limit="2", **({"cursor": cursor} if cursor else {})).json()
        assert all(set(row) == SUMMARY for row in answer["data"])
        seen.append([row["id"] for row in answer["data"]])
        cursor = answer["meta"]["next_cursor"]
        if cursor is None:
            break
    newest = sorted(made, reverse=True)
    assert seen == [newest[:2], newest[2:4], newest[4:]]


def test_the_log_can_be_filtered(owner, endpoint):
    with time_machine.travel(NOON, tick=False) as clock:
        early = factories.delivery(endpoint, event_type="quota.low", state="failed")
        clock.shift(timedelta(hours=2))
        late = factories.delivery(endpoint)
    caller = api(owner)

    def found(**query: str) -> list[str]:
        return [row["id"] for row in log(caller, endpoint, **query).json()["data"]]

    assert found() == [late.public_id, early.public_id]
    assert found(event="quota.low") == found(state="failed") == [early.public_id]
    assert found(**RANGE) == [early.public_id]
    assert found(since="2026-03-01T14:00:00+00:00") == [late.public_id]
    assert found(since="2026-03-02") == []
    assert found(until="2026-03-01T13:00:00") == [early.public_id]  # without a zone it is UTC
    assert found(event="completion.failed") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=1000000000", "limit"),
        ("limit=0", "limit"),
        ("limit=abc", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=whe_" + "0" * 22, "cursor"),
        ("cursor=%00", "cursor"),
        ("event=moon.rises", "event"),
        ("event=", "event"),
        ("state=lost", "state"),
        ("state=", "state"),
        ("since=yesterday", "since"),
        ("since=", "since"),
        ("since=0001-01-01T00:00:00Z", "since"),
        ("until=9999-12-31T23:59:59-23:00", "until"),
        ("until=2026-13-01", "until"),
        ("since=2026-03-02&until=2026-03-01", "since"),
        ("since=2026-03-01&until=2026-03-01", "since"),
        ("state=failed&state=pending", "state"),
        ("page=2", "page"),
    ],
)
def test_bad_filters_are_a_clear_400(owner, endpoint, query, param):
    response = api(owner).get(f"{URL}/{endpoint.public_id}/deliveries?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_the_log_costs_the_same_for_many(owner, endpoint, django_assert_max_num_queries):
    for _ in range(20):
        factories.delivery(endpoint)
    caller = api(owner)
    with django_assert_max_num_queries(4):  # the session of the token, the membership, the endpoint, the deliveries
        assert len(log(caller, endpoint).json()["data"]) == 20


def test_a_delivery_is_shown_with_its_body_and_attempts(owner, endpoint):
    later = timezone.now() + timedelta(hours=1)
    delivery = factories.delivery(
        endpoint,
        event_type="quota.low",
        data={"threshold": 80, "text": "ü"},
        attempt_count=2,
        last_status=500,
        last_error="status",
        next_attempt_at=later,
    )
    with time_machine.travel(NOON, tick=False) as clock:
        factories.attempt(
            delivery,
            succeeded=False,
            status=None,
            error_code="timeout",
            error="No answer within 15 seconds.",
            address="93.184.216.34",
        )
        clock.shift(5)
        factories.attempt(
            delivery,
            succeeded=False,
            status=500,
            error_code="status",
            error="It answered 500.",
            response_headers={"content-type": "text/html"},
            response_body="<script>alert(1)</script>\u202e</pre>",
            response_truncated=True,
            duration_ms=1.23456,
            next_attempt_at=later,
        )
    data = api(owner).get(address("/{id}/deliveries/{delivery}", delivery)).json()["data"]
    assert set(data) == SUMMARY | {"body", "attempts"}
    assert (data["last_status"], data["last_error"], data["attempt_count"]) == (500, "status", 2)
    body = json.loads(data["body"])
    assert (list(body), body["event"]) == (["event", "timestamp", "data"], "quota.low")
    assert body["data"] == {"threshold": 80, "text": "ü"}
    newest, oldest = data["attempts"]
    assert newest["response"] == {
        "status": 500,
        "headers": {"content-type": "text/html"},
        "body": "<script>alert(1)</script>\u202e</pre>",
        "truncated": True,
    }
    assert newest["error"] == {"code": "status", "message": "It answered 500."}
    assert (newest["duration_ms"], newest["url"]) == (1.235, endpoint.url)
    assert newest["next_attempt_at"] == later.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert newest["request_headers"] == {"webhook-id": data["event_id"]}
    assert (oldest["response"], oldest["error"]["code"], oldest["address"]) == (None, "timeout", "93.184.216.34")


def test_the_newest_fifty_attempts_are_shown(owner, delivery):
    with time_machine.travel(NOON, tick=False) as clock:
        for n in range(52):
            clock.shift(1)
            factories.attempt(delivery, duration_ms=n)
    shown = api(owner).get(address("/{id}/deliveries/{delivery}", delivery)).json()["data"]["attempts"]
    assert [row["duration_ms"] for row in shown] == list(range(51, 1, -1))


def test_a_failed_delivery_is_sent_again(owner, failed, nudged):
    response = send(api(owner), "POST", address("/{id}/deliveries/{delivery}/resend", failed))
    assert response.status_code == 202
    data = response.json()["data"]
    assert (data["id"], data["state"], data["ended_at"]) == (failed.public_id, "pending", None)
    assert data["event_id"] == ids.public_id(ids.EVENT, failed.event_id)
    assert nudged == [(failed.endpoint_id, 1)]


def test_what_can_not_be_sent_again_says_why(owner, endpoint, nudged):
    sending = factories.delivery(endpoint, lease=uuid.uuid4(), leased_until=timezone.now() + timedelta(hours=1))
    test = factories.delivery(endpoint, test=True, state="failed", next_attempt_at=None)
    for delivery, why in ((sending, "being sent right now"), (test, "Send another one")):
        response = send(api(owner), "POST", address("/{id}/deliveries/{delivery}/resend", delivery))
        assert response.status_code == 400
        assert why in response.json()["error"]["message"]
    endpoints.disable(endpoint=endpoint, user=owner)
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/resend-failed", RANGE)
    assert response.status_code == 400
    assert "Enable it first" in response.json()["error"]["message"]
    assert nudged == []


def test_resending_takes_no_fields(owner, failed):
    response = send(api(owner), "POST", address("/{id}/deliveries/{delivery}/resend", failed), {"url": "https://x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "url")


def test_a_range_of_failed_ones_is_sent_again(owner, endpoint):
    with time_machine.travel(NOON, tick=False) as clock:
        for _ in range(3):
            factories.delivery(endpoint, state="failed", next_attempt_at=None)
            clock.shift(timedelta(hours=1))
    url = f"{URL}/{endpoint.public_id}/resend-failed"
    response = send(api(owner), "POST", url, RANGE)
    assert (response.status_code, response.json()["data"]) == (202, {"resent": 2})
    assert send(api(owner), "POST", url, RANGE).json()["data"] == {"resent": 0}
    # Without an end it is up to now.
    assert send(api(owner), "POST", url, {"since": RANGE["since"]}).json()["data"] == {"resent": 1}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "since"),
        ({"since": None}, "since"),
        ({"since": 1}, "since"),
        ({"since": True}, "since"),
        ({"since": []}, "since"),
        ({"since": "soon"}, "since"),
        ({"since": "1999-12-31T00:00:00Z"}, "since"),
        ({"since": "2099-12-31T00:00:00Z"}, "since"),  # after now
        ({"since": "2026-03-02", "until": "2026-03-01"}, "since"),
        ({"since": "2026-03-02", "until": None}, "until"),
        ({"since": "2026-03-02", "until": "9999-12-31T23:59:59-23:00"}, "until"),
        ({"since": "2026-03-02", "state": "succeeded"}, "state"),
    ],
)
def test_a_bad_range_is_refused_by_name(owner, failed, body, param):
    response = send(api(owner), "POST", f"{URL}/{failed.endpoint.public_id}/resend-failed", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    failed.refresh_from_db()
    assert failed.state == "failed"


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_every_address_requires_a_login(client, owner, organization, failed, method, path):
    client.force_login(owner)
    assert send(client, method, address(path, failed), RANGE).status_code == 401
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    keyed = Client(headers={"Authorization": f"Bearer {secret}"})
    assert send(keyed, method, address(path, failed), RANGE).status_code == 401


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_another_organizations_endpoint_is_404(outsider, failed, method, path):
    assert send(api(outsider), method, address(path, failed), RANGE).status_code == 404
    failed.refresh_from_db()
    assert failed.state == "failed"


@pytest.mark.parametrize(("method", "path"), [pair for pair in ADDRESSES if "{delivery}" in pair[1]])
def test_a_delivery_is_found_at_its_own_endpoint_only(owner, outsider, failed, method, path):
    neighbour = factories.endpoint(failed.organization)
    assert send(api(owner), method, address(path, failed, neighbour)).status_code == 404
    theirs = factories.endpoint(outsider.memberships.get().organization)
    assert send(api(outsider), method, address(path, failed, theirs)).status_code == 404
    failed.refresh_from_db()
    assert failed.state == "failed"


@pytest.mark.parametrize("bad", ["1", "whd_", "evt_" + "0" * 22, "whd_" + "0" * 22, "%00", "k" * 5000])
def test_odd_ids_are_404(owner, endpoint, bad):
    assert api(owner).get(f"{URL}/{endpoint.public_id}/deliveries/{bad}").status_code == 404
    assert send(api(owner), "POST", f"{URL}/{endpoint.public_id}/deliveries/{bad}/resend").status_code == 404


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_a_member_reads_and_sends_nothing_again(member, failed, method, path):
    response = send(api(member), method, address(path, failed), RANGE if method == "POST" else None)
    assert response.status_code == (200 if method == "GET" else 403)
    failed.refresh_from_db()
    assert failed.state == "failed"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/{id}/deliveries"), ("DELETE", "/{id}/deliveries/{delivery}"), ("GET", "/{id}/resend-failed")],
)
def test_unknown_methods_are_405(owner, failed, method, path):
    response = send(api(owner), method, address(path, failed))
    assert (response.status_code, response.json()["error"]["code"]) == (405, "invalid_request")
