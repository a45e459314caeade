"""What REST tells of a delivery is what the receiver saw."""

import pytest
from standardwebhooks import Webhook

from tests.fakes.receiver import Receiver, status
from tests.webhooks.rest import URL, api, send
from webhooks import sending
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _loopback(settings) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = True


def test_a_test_event_from_creation_to_its_log(owner, organization, nudged, receiver):
    caller = api(owner)
    created = send(caller, "POST", URL, {"url": receiver.url, "events": ["quota.low"]}).json()["data"]
    url = f"{URL}/{created['id']}"
    delivery = send(caller, "POST", f"{url}/test", {"event": "completion.created"}).json()["data"]
    assert sending.work(nudged[-1][0]) == 1

    call = receiver.wait_for(1)[0]
    shown = caller.get(f"{url}/deliveries/{delivery['id']}").json()["data"]
    assert shown["state"] == "succeeded"
    assert shown["body"].encode() == call.body
    assert shown["event_id"] == call.event_id
    assert Webhook(created["secret"]).verify(call.body, call.headers)["data"]["test"] is True
    (attempt,) = shown["attempts"]
    sent = {name.lower(): value for name, value in attempt["request_headers"].items()}
    assert sent.items() <= call.headers.items()
    assert {"webhook-id", "webhook-signature", "x-helixflow-signature", "user-agent"} <= set(sent)
    assert (attempt["response"]["status"], attempt["response"]["body"]) == (200, "ok")
    assert attempt["address"] == "127.0.0.1"


def test_a_failure_is_shown_and_then_sent_again_under_the_same_id(owner, endpoint, delivery, nudged, receiver):
    Endpoint.objects.update(url=receiver.url)
    receiver.script(status(500, b"<b>out of order</b>\0"))
    caller, url = api(owner), f"{URL}/{endpoint.public_id}"
    sending.work(endpoint.id)
    (row,) = caller.get(f"{url}/deliveries").json()["data"]
    assert (row["state"], row["last_status"], row["attempt_count"]) == ("pending", 500, 1)
    assert row["next_attempt_at"] is not None

    again = send(caller, "POST", f"{url}/deliveries/{row['id']}/resend")
    assert again.status_code == 202
    assert sending.work(endpoint.id) == 1
    shown = caller.get(f"{url}/deliveries/{row['id']}").json()["data"]
    assert (shown["state"], shown["attempt_count"], shown["next_attempt_at"]) == ("succeeded", 2, None)
    newest, oldest = shown["attempts"]
    assert (newest["succeeded"], newest["error"]) == (True, None)
    assert oldest["response"]["body"] == "<b>out of order</b>\ufffd"
    assert {call.event_id for call in receiver.wait_for(2)} == {shown["event_id"]}
    figures = caller.get(url).json()["data"]["statistics"]
    assert (figures["attempts"], figures["success_rate"], figures["pending"]) == (2, 0.5, 0)


def test_what_waited_while_disabled_is_sent_once_enabled(owner, endpoint, delivery, nudged, receiver):
    Endpoint.objects.update(url=receiver.url)
    caller, url = api(owner), f"{URL}/{endpoint.public_id}"
    send(caller, "PATCH", url, {"enabled": False})
    assert sending.work(endpoint.id) == 0
    send(caller, "PATCH", url, {"enabled": True})
    assert nudged[-1][0] == endpoint.id
    assert sending.work(endpoint.id) == 1
    assert len(receiver.wait_for(1)) == 1


def test_during_a_rotation_old_and_new_secret_verify(owner, endpoint, delivery, nudged, receiver):
    Endpoint.objects.update(url=receiver.url)
    old = endpoint.secret
    caller, url = api(owner), f"{URL}/{endpoint.public_id}"
    new = send(caller, "POST", f"{url}/rotate-secret").json()["data"]["secret"]
    sending.work(endpoint.id)
    first = receiver.wait_for(1)[0]
    for secret in (old, new):
        assert Webhook(secret).verify(first.body, first.headers)
    send(caller, "POST", f"{url}/finish-rotation")
    send(caller, "POST", f"{url}/test")
    sending.work(endpoint.id)
    second = receiver.wait_for(2)[1]
    assert Webhook(new).verify(second.body, second.headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(old).verify(second.body, second.headers)
