"""Proof that the checker of the randomised run sees its quarry."""

import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from django.utils import timezone

from tests import factories
from tests.soak.moody import Arrival
from tests.soak.webhook_books import Books
from webhooks.models import Delivery, DeliveryState

pytestmark = pytest.mark.django_db
DELAYS_S = (0.0, 1.0)


@dataclass
class Seen:
    """In place of the receiver."""

    arrivals: list[Arrival] = field(default_factory=list)

    def is_doomed(self, number: int) -> bool:
        return False


@pytest.fixture
def delivery(endpoint) -> Delivery:
    """It failed, and succeeded a second later."""
    endpoint.description = "0"
    began = timezone.now() - timedelta(seconds=10)
    made = factories.delivery(endpoint, data={"number": 1}, created_at=began, state=DeliveryState.SUCCEEDED)
    Delivery.objects.filter(id=made.id).update(step=2, attempt_count=2, next_attempt_at=None, ended_at=timezone.now())
    second = began + timedelta(seconds=1, milliseconds=50)
    first = {"started_at": began, "duration_ms": 50, "succeeded": False, "status": 500, "error_code": "status"}
    factories.attempt(made, **first, next_attempt_at=second)
    factories.attempt(made, started_at=second, duration_ms=50)
    made.refresh_from_db()
    return made


@pytest.fixture
def seen(delivery) -> Seen:
    event = delivery.event
    body = json.dumps({"event": event.type, "timestamp": "2026-01-01T00:00:00Z", "data": event.data}).encode()
    starts = [attempt.started_at.timestamp() for attempt in delivery.attempts.order_by("started_at")]
    return Seen([Arrival("/0", event.public_id, body, "taken", at, at + 0.05) for at in starts])


def problems(delivery: Delivery, seen: Seen, *, published: tuple[str, ...] = (), kills: int = 0) -> str:
    endpoint = delivery.endpoint
    endpoint.description = "0"
    known = {delivery.event.public_id: 1} | dict.fromkeys(published, 2)
    return " ".join(Books(known, seen, [endpoint], DELAYS_S, kills).problems())  # type: ignore[arg-type]  # stands in


def change(delivery: Delivery, **fields: object) -> None:
    Delivery.objects.filter(id=delivery.id).update(**fields)


def test_it_is_content_with_what_went_well(delivery, seen):
    assert problems(delivery, seen) == ""


def test_an_event_that_never_arrived(delivery, seen):
    assert "an event never arrived" in problems(delivery, seen, published=("evt_lost",))


def test_an_event_that_nobody_published(delivery, seen):
    seen.arrivals.append(replace(seen.arrivals[0], event_id="evt_rolled_back"))
    assert "that nobody published" in problems(delivery, seen, kills=1)


def test_bodies_that_differ(delivery, seen):
    seen.arrivals[1] = replace(seen.arrivals[1], body=seen.arrivals[1].body + b" ")
    assert "bodies differ" in problems(delivery, seen)


def test_a_wrong_signature(delivery, seen):
    seen.arrivals[1].forged = "No matching signature found"
    assert "a signature is wrong" in problems(delivery, seen)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"state": DeliveryState.PENDING, "next_attempt_at": timezone.now()}, "that was taken is pending"),
        ({"lease": uuid.uuid4()}, "is waiting for something"),
        ({"attempt_count": 1}, "1 attempts are counted"),
    ],
)
def test_a_delivery_that_is_stuck_or_miscounted(delivery, seen, fields, problem):
    change(delivery, **fields)
    assert problem in problems(delivery, seen)


@pytest.mark.parametrize("delay_s", [0.5, 3.5])
def test_a_delay_that_is_not_the_schedules(delivery, seen, delay_s):
    first = delivery.attempts.get(succeeded=False)
    later = first.started_at + timedelta(milliseconds=50, seconds=delay_s)
    delivery.attempts.filter(succeeded=False).update(next_attempt_at=later)
    assert "not the schedule's" in problems(delivery, seen)


def test_a_call_before_its_time(delivery, seen):
    first = delivery.attempts.get(succeeded=False)
    delivery.attempts.filter(succeeded=False).update(next_attempt_at=first.started_at + timedelta(seconds=5))
    seen.arrivals.append(replace(seen.arrivals[0], began_at=seen.arrivals[0].began_at + 3))
    assert "before its time" in problems(delivery, seen, kills=1)


def test_an_attempt_that_is_late(delivery, seen):
    late = timezone.now() + timedelta(minutes=2)
    delivery.attempts.filter(succeeded=True).update(started_at=late)
    assert "s late" in problems(delivery, seen)


def test_more_calls_at_once_than_lanes(delivery, seen):
    seen.arrivals += [seen.arrivals[0]] * 4
    assert "more than 4 calls at once" in problems(delivery, seen, kills=9)


def test_calls_that_no_kill_explains(delivery, seen):
    seen.arrivals.append(replace(seen.arrivals[1], began_at=seen.arrivals[1].began_at + 1))
    assert "more than the kills explain" in problems(delivery, seen)
