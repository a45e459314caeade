"""One attempt: what is sent, what is made of the answer, and when a lane ends."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone
from standardwebhooks import Webhook

from accounts.models import Organization
from helixflow.lib import crypto, http, ids
from tests.fakes import receiver as fake
from tests.fakes.receiver import Receiver
from webhooks import queue, sending, signing
from webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, Event, EventType

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shrunk(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    settings.WEBHOOK_TIMEOUT_S = 1
    settings.WEBHOOK_LEASE_S = 4


@pytest.fixture
def endpoint(organization: Organization, receiver: Receiver) -> Endpoint:
    return Endpoint.objects.create(
        organization=organization,
        url=receiver.url,
        events=[EventType.QUOTA_LOW],
        sealed_secret=crypto.encrypt(signing.new_secret()),
    )


@pytest.fixture
def receiver() -> Any:
    with Receiver() as server:
        yield server


def deliver(endpoint: Endpoint, count: int = 1, **fields: Any) -> list[Delivery]:
    for _ in range(count):
        event = Event.objects.create(organization=endpoint.organization, type="quota.low", data={"threshold": 80})
        Delivery.objects.create(organization=endpoint.organization, endpoint=endpoint, event=event, **fields)
    return list(Delivery.objects.order_by("id"))


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float]]:
    found: list[tuple[Any, float]] = []
    monkeypatch.setattr(queue, "nudge", lambda id_, count=1, after_s=0.0: found.append((id_, after_s)))
    return found


def test_what_is_sent_is_signed_and_written_down(endpoint: Endpoint, receiver: Receiver) -> None:
    (delivery,) = deliver(endpoint)
    assert sending.work(endpoint.id) == 1
    (call,) = receiver.wait_for(1)
    assert (call.method, call.path) == ("POST", "/hook")
    assert call.json["event"] == "quota.low"
    assert call.json["data"] == {"threshold": 80}
    assert call.headers["webhook-id"] == delivery.event.public_id
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"].startswith("HelixFlow-Webhooks/")
    assert Webhook(endpoint.secret).verify(call.body, call.headers)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SUCCEEDED
    attempt = Attempt.objects.get()
    assert (attempt.url, attempt.address, attempt.status) == (receiver.url, "127.0.0.1", 200)
    assert attempt.request_headers["webhook-signature"] == call.headers["webhook-signature"]
    assert attempt.response_body == "ok"
    assert attempt.duration_ms > 0


def test_each_attempt_has_the_same_id_and_body(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint)
    receiver.script(fake.status(500))
    sending.work(endpoint.id)
    Delivery.objects.update(next_attempt_at=timezone.now())
    sending.work(endpoint.id)
    first, second = receiver.wait_for(2)
    assert first.event_id == second.event_id
    assert first.body == second.body


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "words"),
    [
        (fake.status(500, b"no"), 500, "status", "answered 500"),
        (fake.status(404), 404, "status", "answered 404"),
        (fake.redirect("http://127.0.0.1:1/"), 302, "redirect", "Redirects are not followed"),
        (fake.hang(), None, "timeout", ""),
        (fake.drip_body(), None, "timeout", ""),
        (fake.drip_head(), None, "timeout", ""),
        (fake.flood(), 200, "answer_too_long", "64 KiB"),
        (fake.flood(500), 500, "status", "answered 500"),
    ],
)
def test_what_is_no_success_is_a_failed_attempt_with_its_reason(
    endpoint: Endpoint, receiver: Receiver, behaviour: fake.Behaviour, status: int | None, code: str, words: str
) -> None:
    (delivery,) = deliver(endpoint)
    receiver.script(behaviour)
    sending.work(endpoint.id)
    attempt = Attempt.objects.get()
    assert (attempt.succeeded, attempt.status, attempt.error_code) == (False, status, code)
    assert words in attempt.error
    assert attempt.error
    delivery.refresh_from_db()
    assert (delivery.state, delivery.last_status, delivery.last_error) == (DeliveryState.PENDING, status, code)
    assert delivery.next_attempt_at == attempt.next_attempt_at
    assert delivery.next_attempt_at is not None
    assert 3 < (delivery.next_attempt_at - timezone.now()).total_seconds() <= 6


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_a_success(endpoint: Endpoint, receiver: Receiver, status: int) -> None:
    (delivery,) = deliver(endpoint)
    receiver.script(fake.status(status))
    sending.work(endpoint.id)
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SUCCEEDED


def test_of_an_answer_the_first_20_kb_are_kept_as_text(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint)
    receiver.script(fake.status(200, b"a\0\xff" + b"b" * 30_000))
    sending.work(endpoint.id)
    attempt = Attempt.objects.get()
    assert attempt.response_body.startswith("a\ufffd\ufffdb")
    assert len(attempt.response_body) == sending.KEPT_BYTES
    assert attempt.response_truncated
    assert attempt.succeeded


def test_retry_after_is_granted_up_to_twice_the_plan(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint, step=1)
    receiver.script(fake.status(429, headers={"Retry-After": "450"}))
    sending.work(endpoint.id)
    delivery = Delivery.objects.get()
    assert delivery.next_attempt_at is not None
    assert 445 < (delivery.next_attempt_at - timezone.now()).total_seconds() <= 450


def test_after_the_last_attempt_it_has_failed(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint, step=9)
    receiver.script(fake.status(500))
    sending.work(endpoint.id)
    assert Delivery.objects.get().state == DeliveryState.FAILED


def test_a_test_is_tried_once(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint, test=True)
    receiver.script(fake.status(500))
    sending.work(endpoint.id)
    assert Delivery.objects.get().state == DeliveryState.FAILED


def test_410_disables_and_the_rest_waits(endpoint: Endpoint, receiver: Receiver, nudged: list[Any]) -> None:
    deliver(endpoint, 3)
    receiver.script(fake.status(410))
    assert sending.work(endpoint.id) == 1
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "gone"
    assert not Delivery.objects.exclude(lease=None).exists()
    assert Delivery.objects.filter(state=DeliveryState.PENDING).count() == 3
    assert (endpoint.id, 0.0) not in nudged


def test_what_it_has_not_tried_in_time_a_lane_gives_back(
    endpoint: Endpoint, receiver: Receiver, nudged: list[Any]
) -> None:
    deliver(endpoint, 4)
    receiver.script(fake.hang())
    assert sending.work(endpoint.id) == 1
    assert not Delivery.objects.exclude(lease=None).exists()
    assert (endpoint.id, 0) in nudged


def test_an_endpoint_that_was_slow_counts_as_one_whose_calls_may_hang(
    endpoint: Endpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.script(fake.after(0.5, fake.status()))
    assert sending.work(deliver(endpoint)[0].endpoint_id) == 1
    monkeypatch.setattr(sending, "_wary", threading.BoundedSemaphore(1))
    deliver(endpoint)
    with sending._wary:
        assert sending.work(endpoint.id) == 0
        sending._slow[endpoint.id] = time.monotonic()
        assert sending.work(endpoint.id) == 1


def test_a_worker_that_is_to_end_gives_back_the_rest(
    endpoint: Endpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(endpoint, 4)
    monkeypatch.setattr(sending.stopping, "is_set", lambda: True)
    assert sending.work(endpoint.id) == 1
    assert not Delivery.objects.exclude(lease=None).exists()


def test_of_a_backlog_each_success_is_written_down(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint, queue.BATCH)
    receiver.script(*[fake.status()] * 4, fake.status(500), fake.status(204))
    assert sending.work(endpoint.id) == queue.BATCH
    assert Delivery.objects.filter(state=DeliveryState.SUCCEEDED, attempt_count=1, lease=None).count() == 9
    assert list(Attempt.objects.order_by("status").values_list("status", flat=True)) == [*[200] * 8, 204, 500]
    calls = {call.event_id: call.headers["webhook-signature"] for call in receiver.calls}
    for attempt in Attempt.objects.select_related("delivery__event"):
        assert attempt.request_headers["webhook-signature"] == calls[attempt.delivery.event.public_id]
        assert attempt.delivery.last_status == attempt.status
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None  # there were successes after it


def test_what_was_not_written_down_is_sent_again(
    endpoint: Endpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(endpoint, queue.BATCH)

    def die(**_: Any) -> bool:
        raise OperationalError

    with monkeypatch.context() as dying:
        dying.setattr(queue, "record_successes", die)
        with pytest.raises(OperationalError):
            sending.work(endpoint.id)
    with time_machine.travel(timezone.now() + timedelta(seconds=10)):
        assert sending.work(endpoint.id) == queue.BATCH
    assert len(receiver.calls) == 2 * queue.BATCH
    assert not Delivery.objects.exclude(state=DeliveryState.SUCCEEDED).exists()


def test_a_turn_takes_lane_after_lane(endpoint: Endpoint, receiver: Receiver, nudged: list[Any]) -> None:
    deliver(endpoint, queue.BATCH * 2 + 1)
    assert sending.work(endpoint.id) == queue.BATCH * 2 + 1
    assert nudged == []


def test_at_the_end_of_a_turn_another_is_asked_for_where_there_may_be_more(
    endpoint: Endpoint, receiver: Receiver, nudged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(endpoint, queue.BATCH + 1)
    monkeypatch.setattr(sending, "TURN_S", 0)
    assert sending.work(endpoint.id) == queue.BATCH
    assert nudged == [(endpoint.id, 0)]
    assert sending.work(endpoint.id) == 1
    assert nudged == [(endpoint.id, 0)]
    assert len({call.event_id for call in receiver.calls}) == queue.BATCH + 1


def test_a_short_delay_is_a_message_a_long_one_the_sweeper_s(
    endpoint: Endpoint, receiver: Receiver, nudged: list[Any]
) -> None:
    receiver.script(fake.status(500), fake.status(500))
    deliver(endpoint)
    sending.work(endpoint.id)
    assert [after_s in {4, 5, 6} for _, after_s in nudged] == [True]
    Delivery.objects.update(next_attempt_at=timezone.now())
    sending.work(endpoint.id)
    assert len(nudged) == 1


def test_nobody_is_called_at_an_endpoint_that_is_gone(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint)
    Endpoint.objects.update(deleted_at=timezone.now())
    assert sending.work(endpoint.id) == 0
    assert sending.work(ids.uuid7()) == 0
    assert receiver.calls == []


def test_an_edited_url_is_where_the_next_attempt_goes(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint)
    receiver.script(fake.status(500))
    sending.work(endpoint.id)
    with Receiver(path="/new") as moved:
        Endpoint.objects.update(url=moved.url)
        Delivery.objects.update(next_attempt_at=timezone.now())
        sending.work(endpoint.id)
        assert moved.wait_for(1)[0].event_id == receiver.calls[0].event_id
    assert list(Attempt.objects.order_by("id").values_list("url", flat=True)) == [receiver.url, moved.url]


def test_a_secret_no_key_opens_is_a_failure_that_says_so(endpoint: Endpoint, receiver: Receiver) -> None:
    deliver(endpoint)
    Endpoint.objects.update(sealed_secret="lost")
    sending.work(endpoint.id)
    attempt = Attempt.objects.get()
    assert (attempt.error_code, attempt.status) == ("secret_lost", None)
    assert receiver.calls == []


def test_a_long_answer_of_a_failure_is_first_of_all_a_failure() -> None:
    answer = http.Answer(status=503, headers={}, body=b"", truncated=True, address=None)
    assert sending.judge(answer)[0] == "status"
