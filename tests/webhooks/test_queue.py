"""Who may send what when, and what is written down of it."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from webhooks import queue
from webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, Event, EventType

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def endpoint(organization: Organization) -> Endpoint:
    return Endpoint.objects.create(
        organization=organization, url="https://hooks.example.com/in", events=[EventType.QUOTA_LOW]
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[uuid.UUID, int]]:
    """What the workers were told to look at."""
    found: list[tuple[uuid.UUID, int]] = []
    monkeypatch.setattr(queue, "nudge", lambda endpoint_id, deliveries=1: found.append((endpoint_id, deliveries)))
    return found


def deliveries(endpoint: Endpoint, count: int = 1, **fields: Any) -> list[Delivery]:
    made = []
    for number in range(count):
        event = Event.objects.create(
            organization=endpoint.organization, type=EventType.QUOTA_LOW, data={"number": number}
        )
        made.append(
            Delivery.objects.create(organization=endpoint.organization, endpoint=endpoint, event=event, **fields)
        )
    return made


def outcome(status: int | None = 200, error_code: str = "") -> queue.Outcome:
    failed = status is None or not 200 <= status < 300
    return queue.Outcome(
        started_at=timezone.now(),
        duration_ms=12.5,
        url="https://hooks.example.com/in",
        request_headers={"webhook-id": "evt_1"},
        address="203.0.113.7",
        status=status,
        response_headers={"Content-Type": "text/plain"},
        response_body="said",
        error_code=error_code or ("status" if failed else ""),
        error="It answered something else." if failed else "",
    )


def record(
    endpoint: Endpoint, lease: uuid.UUID, claimed: queue.Claimed, status: int | None = 200, again: bool = True
) -> bool:
    next_attempt_at = timezone.now() + HOUR if again and status != 200 else None
    return queue.record(
        lease=lease, endpoint=endpoint, delivery=claimed, outcome=outcome(status), next_attempt_at=next_attempt_at
    )


# Claiming


def test_what_is_due_is_claimed_with_its_event(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint)
    lease, (claimed,) = queue.claim(endpoint)
    assert (claimed.id, claimed.step, claimed.test) == (delivery.id, 0, False)
    assert (claimed.event_id, claimed.event_type, claimed.data) == (delivery.event_id, "quota.low", {"number": 0})
    assert claimed.created_at == delivery.event.created_at
    delivery.refresh_from_db()
    assert delivery.lease == lease
    assert delivery.leased_until is not None
    left = delivery.leased_until - timezone.now()
    assert timedelta(seconds=settings.WEBHOOK_LEASE_S - 5) < left <= timedelta(seconds=settings.WEBHOOK_LEASE_S)


def test_what_is_not_due_is_over_or_is_another_s_is_left_alone(endpoint: Endpoint, organization: Organization) -> None:
    deliveries(endpoint, next_attempt_at=timezone.now() + HOUR)
    for state in (DeliveryState.SUCCEEDED, DeliveryState.FAILED, DeliveryState.CANCELLED):
        deliveries(endpoint, state=state, next_attempt_at=None)
    deliveries(Endpoint.objects.create(organization=organization, url="https://b.example.com", events=["quota.low"]))
    assert queue.claim(endpoint)[1] == []


def test_a_lane_takes_a_batch_and_four_lanes_are_all_there_are(endpoint: Endpoint) -> None:
    deliveries(endpoint, queue.BATCH * 6)
    lanes = [queue.claim(endpoint)[1] for _ in range(6)]
    assert [len(lane) for lane in lanes] == [queue.BATCH] * queue.LANES + [0, 0]
    assert len({claimed.id for lane in lanes for claimed in lane}) == queue.BATCH * queue.LANES


def test_a_lane_that_is_done_makes_room(endpoint: Endpoint) -> None:
    deliveries(endpoint, queue.BATCH * (queue.LANES + 1))
    leases = [queue.claim(endpoint)[0] for _ in range(queue.LANES)]
    queue.release(leases[0])
    assert len(queue.claim(endpoint)[1]) == queue.BATCH


def test_a_test_goes_before_all_that_waited(endpoint: Endpoint) -> None:
    deliveries(endpoint, queue.BATCH + 1, next_attempt_at=timezone.now() - HOUR)
    (test,) = deliveries(endpoint, test=True)
    first, *others = queue.claim(endpoint)[1]
    assert first.id == test.id
    assert len(others) == queue.BATCH - 1
    assert not any(other.test for other in others)


def test_the_longest_overdue_go_first(endpoint: Endpoint) -> None:
    now = timezone.now()
    for minutes in range(queue.BATCH + 1):
        deliveries(endpoint, next_attempt_at=now - timedelta(minutes=minutes))
    claimed = queue.claim(endpoint)[1]
    left = Delivery.objects.exclude(id__in=[each.id for each in claimed]).get()
    assert left.next_attempt_at == now


def test_a_disabled_endpoint_waits_except_for_its_tests(endpoint: Endpoint) -> None:
    deliveries(endpoint)
    (test,) = deliveries(endpoint, test=True)
    endpoint.disabled_at = timezone.now()
    endpoint.save()
    assert [claimed.id for claimed in queue.claim(endpoint)[1]] == [test.id]


def test_a_lease_that_ended_is_another_s_to_take(endpoint: Endpoint) -> None:
    deliveries(endpoint)
    first, (claimed,) = queue.claim(endpoint)
    assert queue.claim(endpoint)[1] == []
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.WEBHOOK_LEASE_S + 1)):
        second, (again,) = queue.claim(endpoint)
    assert again.id == claimed.id
    assert first != second


@pytest.mark.django_db(transaction=True)
def test_many_who_claim_at_once_share_nothing_and_keep_to_four(endpoint: Endpoint) -> None:
    deliveries(endpoint, queue.BATCH * 8)
    found: list[list[queue.Claimed]] = []
    start = threading.Barrier(12)

    def lane() -> None:
        start.wait(10)
        found.append(queue.claim(endpoint)[1])
        connection.close()

    in_threads(lane, 12)
    assert sorted(map(len, found)) == [0] * 8 + [queue.BATCH] * queue.LANES
    assert len({claimed.id for lane in found for claimed in lane}) == queue.BATCH * queue.LANES


# Recording


def test_a_success_ends_it(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint)
    lease, (claimed,) = queue.claim(endpoint)
    assert record(endpoint, lease, claimed)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.step, delivery.attempt_count) == (DeliveryState.SUCCEEDED, 1, 1)
    assert (delivery.next_attempt_at, delivery.lease, delivery.leased_until) == (None, None, None)
    assert (delivery.last_status, delivery.last_error) == (200, "")
    assert delivery.ended_at is not None
    attempt = Attempt.objects.get()
    assert (attempt.delivery, attempt.endpoint, attempt.succeeded, attempt.status) == (delivery, endpoint, True, 200)
    assert (attempt.duration_ms, attempt.address) == (12.5, "203.0.113.7")
    assert attempt.request_headers == {"webhook-id": "evt_1"}
    assert attempt.response_headers == {"Content-Type": "text/plain"}
    assert (attempt.response_body, attempt.next_attempt_at) == ("said", None)


def test_a_failure_is_planned_again(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint)
    lease, (claimed,) = queue.claim(endpoint)
    assert record(endpoint, lease, claimed, 500)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.step, delivery.attempt_count) == (DeliveryState.PENDING, 1, 1)
    assert (delivery.lease, delivery.last_status, delivery.last_error) == (None, 500, "status")
    assert delivery.next_attempt_at == Attempt.objects.get().next_attempt_at
    assert delivery.next_attempt_at is not None
    assert delivery.next_attempt_at > timezone.now()
    assert delivery.ended_at is None


def test_the_last_failure_ends_it(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint, step=9, attempt_count=12)
    lease, (claimed,) = queue.claim(endpoint)
    assert claimed.step == 9
    record(endpoint, lease, claimed, None, again=False)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempt_count, delivery.next_attempt_at) == (DeliveryState.FAILED, 13, None)
    assert delivery.ended_at is not None


def test_who_lost_the_lease_changes_nothing_by_failing(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint)
    slow, (claimed,) = queue.claim(endpoint)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.WEBHOOK_LEASE_S + 1)):
        quick, (again,) = queue.claim(endpoint)
        record(endpoint, slow, claimed, 500)
        delivery.refresh_from_db()
        assert (delivery.lease, delivery.step, delivery.state) == (quick, 0, DeliveryState.PENDING)
        record(endpoint, quick, again, 200)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempt_count) == (DeliveryState.SUCCEEDED, 2)
    assert Attempt.objects.count() == 2


def test_who_lost_the_lease_ends_it_by_succeeding(endpoint: Endpoint) -> None:
    (delivery,) = deliveries(endpoint)
    slow, (claimed,) = queue.claim(endpoint)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.WEBHOOK_LEASE_S + 1)):
        quick, (again,) = queue.claim(endpoint)
        record(endpoint, slow, claimed, 200)
        record(endpoint, quick, again, 500)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.next_attempt_at, delivery.lease) == (DeliveryState.SUCCEEDED, None, None)


def test_what_was_cancelled_meanwhile_stays_so_unless_it_arrived(endpoint: Endpoint) -> None:
    failing, arriving = deliveries(endpoint, 2)
    lease, claimed = queue.claim(endpoint)
    Delivery.objects.update(state=DeliveryState.CANCELLED, next_attempt_at=None, lease=None, leased_until=None)
    for each in claimed:
        record(endpoint, lease, each, 200 if each.id == arriving.id else 500)
    assert Delivery.objects.get(id=failing.id).state == DeliveryState.CANCELLED
    assert Delivery.objects.get(id=arriving.id).state == DeliveryState.SUCCEEDED


def test_an_attempt_at_what_is_gone_is_no_error(endpoint: Endpoint) -> None:
    deliveries(endpoint)
    lease, (claimed,) = queue.claim(endpoint)
    Delivery.objects.all().delete()
    assert record(endpoint, lease, claimed) is False
    assert not Attempt.objects.exists()


# The endpoint's health


def fail(endpoint: Endpoint, status: int | None = 500, **fields: Any) -> bool:
    deliveries(endpoint, **fields)
    lease, (claimed,) = queue.claim(endpoint)
    wanted = record(endpoint, lease, claimed, status)
    Delivery.objects.all().delete()
    endpoint.refresh_from_db()
    return wanted


def test_failing_is_noted_from_the_first_failure_to_the_next_success(endpoint: Endpoint) -> None:
    fail(endpoint)
    since = endpoint.failing_since
    assert since is not None
    with time_machine.travel(timezone.now() + HOUR):
        fail(endpoint)
        assert endpoint.failing_since == since
        fail(endpoint, 200)
    assert endpoint.failing_since is None


def test_five_days_of_only_failures_disable_it_and_its_owner_is_to_be_told(endpoint: Endpoint) -> None:
    Endpoint.objects.update(owner_told_at=timezone.now())  # of an earlier time
    assert fail(endpoint)
    with time_machine.travel(timezone.now() + timedelta(days=5) - HOUR):
        assert fail(endpoint)
        assert endpoint.is_enabled
    with time_machine.travel(timezone.now() + timedelta(days=5) + HOUR):
        assert fail(endpoint) is False
    assert endpoint.disabled_at is not None
    assert (endpoint.disabled_reason, endpoint.owner_told_at) == ("failing", None)


def test_a_success_in_between_begins_the_five_days_anew(endpoint: Endpoint) -> None:
    fail(endpoint)
    with time_machine.travel(timezone.now() + timedelta(days=4)):
        fail(endpoint, 200)
        fail(endpoint)
    with time_machine.travel(timezone.now() + timedelta(days=6)):
        fail(endpoint)
    assert endpoint.is_enabled


def test_410_disables_it_at_once(endpoint: Endpoint) -> None:
    assert fail(endpoint, 410) is False
    assert endpoint.disabled_at is not None
    assert endpoint.disabled_reason == "gone"


def test_a_test_decides_nothing_but_that_it_works_again(endpoint: Endpoint) -> None:
    fail(endpoint, 410, test=True)
    assert (endpoint.disabled_at, endpoint.failing_since) == (None, None)
    fail(endpoint, 500)
    fail(endpoint, 200, test=True)
    assert endpoint.failing_since is None


@pytest.mark.parametrize("status", [200, 410, 500])
def test_what_the_url_before_answered_says_nothing_of_the_new_one(endpoint: Endpoint, status: int) -> None:
    deliveries(endpoint)
    since = timezone.now() - timedelta(days=6) if status == 200 else None
    lease, (claimed,) = queue.claim(endpoint)
    Endpoint.objects.update(url="https://hooks.example.com/moved", failing_since=since)
    assert record(endpoint, lease, claimed, status) is False  # the lane knows the one before
    endpoint.refresh_from_db()
    assert (endpoint.disabled_at, endpoint.failing_since) == (None, since)


def test_what_was_disabled_by_hand_keeps_its_reason(endpoint: Endpoint) -> None:
    deliveries(endpoint)
    lease, (claimed,) = queue.claim(endpoint)
    Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="manual")
    assert record(endpoint, lease, claimed, 410) is False
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "manual"


# The sweeper


def test_the_sweeper_tells_of_what_is_due_and_nobody_is_at(endpoint: Endpoint, told: list[Any]) -> None:
    assert queue.sweep() == 0
    deliveries(endpoint, 3)
    deliveries(endpoint, next_attempt_at=timezone.now() + HOUR)
    assert queue.sweep() == 1
    assert told.pop() == (endpoint.id, 3)
    queue.claim(endpoint)
    assert queue.sweep() == 0
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.WEBHOOK_LEASE_S + 1)):
        queue.sweep()
    assert told == [(endpoint.id, 3)]


def test_the_sweeper_leaves_the_disabled_alone_but_for_fresh_tests(endpoint: Endpoint, told: list[Any]) -> None:
    deliveries(endpoint, 3)
    Endpoint.objects.update(disabled_at=timezone.now())
    assert queue.sweep() == 0
    deliveries(endpoint, test=True)
    queue.sweep()
    assert told == [(endpoint.id, 1)]


def test_the_sweeper_asks_for_no_more_than_the_lanes_can_take(endpoint: Endpoint, told: list[Any]) -> None:
    deliveries(endpoint, queue.BATCH * queue.LANES + 5)
    queue.sweep()
    assert told == [(endpoint.id, queue.BATCH * queue.LANES)]


def test_the_sweeper_cancels_what_came_while_its_endpoint_was_deleted(endpoint: Endpoint, told: list[Any]) -> None:
    (delivery,) = deliveries(endpoint)
    Endpoint.objects.update(deleted_at=timezone.now())
    queue.sweep()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.next_attempt_at) == (DeliveryState.CANCELLED, None)
    assert told == []


def test_the_sweeper_cancels_also_after_it_was_away_for_days(endpoint: Endpoint, told: list[Any]) -> None:
    deliveries(endpoint, 3)
    Endpoint.objects.update(deleted_at=timezone.now() - timedelta(days=3))
    queue.sweep()
    assert not Delivery.objects.filter(state=DeliveryState.PENDING).exists()
    assert told == []


def test_the_sweeper_forgets_secrets_whose_rotation_is_over(endpoint: Endpoint, told: list[Any]) -> None:
    Endpoint.objects.update(sealed_previous_secret="sealed", rotation_ends_at=timezone.now() + HOUR)
    queue.sweep()
    assert Endpoint.objects.get().sealed_previous_secret == "sealed"
    with time_machine.travel(timezone.now() + 2 * HOUR):
        queue.sweep()
    endpoint = Endpoint.objects.get()
    assert (endpoint.sealed_previous_secret, endpoint.rotation_ends_at) == ("", None)


def in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
