"""What becomes of events while the processes that deliver them end, and their servers go away."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from helixflow.lib import tasks
from tests import factories
from tests.fakes.receiver import Receiver, after, hang, status
from tests.stack import wait_for
from tests.webhooks import workers
from webhooks import services
from webhooks.models import Attempt, Delivery, Endpoint, EventType
from webhooks.tasks import deliver

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_S = 60
QUICK = {
    "HELIXFLOW_WEBHOOK_DELAYS_S": "0,1,1,1,1,1,1,1",
    "HELIXFLOW_WEBHOOK_TIMEOUT_S": "3",
    "HELIXFLOW_WEBHOOK_LEASE_S": "6",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def _broker(valkey) -> Iterator[None]:
    with workers.broker(valkey.url):
        yield


@pytest.fixture
def endpoint(organization, receiver, _broker) -> Endpoint:
    return factories.endpoint(organization, receiver.url)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Workers entered here end with the test."""
    with ExitStack() as stack:
        yield stack


def publish(endpoint: Endpoint, count: int = 1) -> set[str]:
    """The events' public ids."""
    happening = services.Happening(endpoint.organization_id, EventType.QUOTA_LOW, {"threshold": 80})
    return {event.public_id for event in services.publish_all([happening] * count)}


def wait_until_over() -> None:
    wait_for(lambda: not workers.unfinished(), seconds=PATIENCE_S, what="deliveries are pending or leased")


def came(receiver: Receiver) -> list[str]:
    return [call.event_id for call in receiver.calls]


def overdue(endpoint: Endpoint) -> str:
    """One that no message tells of."""
    delivery = factories.delivery(endpoint, next_attempt_at=timezone.now() - timedelta(minutes=1))
    return str(delivery.event.public_id)


def outcomes() -> list[tuple[str, int]]:
    return list(Delivery.objects.order_by("id").values_list("state", "attempt_count"))


def test_told_to_end_a_worker_finishes_its_call_and_gives_the_rest_back(endpoint, receiver, data_dir, running):
    receiver.script(after(1.5, status(200)))
    worker = running.enter_context(workers.deliverer(data_dir, **QUICK))
    published = publish(endpoint, 10)
    receiver.wait_for(1, seconds=PATIENCE_S)
    assert worker.stop() == 0
    assert len(receiver.calls) == 1
    assert Attempt.objects.get().succeeded
    assert not Delivery.objects.filter(lease__isnull=False).exists()
    worker.start()
    publish(endpoint)  # its message lets the next worker look, lease or not
    receiver.wait_for(11, seconds=PATIENCE_S)
    wait_until_over()
    assert published < set(came(receiver))
    assert len(receiver.calls) == 11


def test_what_a_killed_worker_was_sending_comes_again_under_its_id_once_the_lease_is_over(
    endpoint, receiver, data_dir, running
):
    receiver.script(hang())
    worker = running.enter_context(workers.deliverer(data_dir, **QUICK))
    published = publish(endpoint)
    receiver.wait_for(1, seconds=PATIENCE_S)
    leased_until = Delivery.objects.get().leased_until
    assert leased_until is not None
    worker.kill()
    for start in (workers.sweeper, workers.beat):
        running.enter_context(start(data_dir, **QUICK))
    worker.start()
    receiver.wait_for(2, seconds=PATIENCE_S)
    wait_until_over()
    assert came(receiver) == [*published] * 2
    assert outcomes() == [("succeeded", 1)]  # of a call that nobody could write down there is no attempt
    assert Attempt.objects.get().started_at >= leased_until


def test_with_the_broker_away_events_wait_in_their_table(endpoint, receiver, data_dir, running, valkey):
    for start in (workers.deliverer, workers.sweeper, workers.beat):
        running.enter_context(start(data_dir, **QUICK))
    published = publish(endpoint)
    receiver.wait_for(1, seconds=PATIENCE_S)
    valkey.kill()
    published |= publish(endpoint, 25)
    away_until = timezone.now() + timedelta(seconds=10)
    wait_for(lambda: timezone.now() > away_until, seconds=PATIENCE_S)
    assert len(receiver.calls) == 1
    valkey.start()
    receiver.wait_for(26, seconds=PATIENCE_S)
    wait_until_over()
    assert sorted(came(receiver)) == sorted(published)


def test_without_beat_new_events_go_out_and_the_overdue_once_it_is_back(
    endpoint, organization, receiver, data_dir, running
):
    other = factories.endpoint(organization, f"{receiver.url}/other", events=[EventType.COMPLETION_FAILED])
    running.enter_context(workers.deliverer(data_dir, **QUICK))
    running.enter_context(workers.sweeper(data_dir, **QUICK))
    late = overdue(other)
    (new,) = publish(endpoint)
    receiver.wait_for(1, seconds=PATIENCE_S)
    wait_for(lambda: workers.unfinished() == 1, seconds=PATIENCE_S)
    assert came(receiver) == [new]
    running.enter_context(workers.beat(data_dir, **QUICK))
    receiver.wait_for(2, seconds=PATIENCE_S)
    wait_until_over()
    assert came(receiver) == [new, late]


def test_postgresql_goes_and_comes_back(postgresql, receiver, data_dir, running, valkey):
    with workers.broker(valkey.url):
        for start in (workers.deliverer, workers.sweeper, workers.beat):
            running.enter_context(start(data_dir, **QUICK))
        endpoint = factories.endpoint(factories.organization(owner=factories.user("restarted")), receiver.url)
        receiver.answer = lambda call: after(0.2, status(200))
        published = publish(endpoint, 40)
        receiver.wait_for(5, seconds=PATIENCE_S)
        postgresql.kill()
        connection.close()
        postgresql.start()
        published |= publish(endpoint, 5)
        wait_until_over()
    assert set(came(receiver)) == published
    assert set(Delivery.objects.values_list("state", flat=True)) == {"succeeded"}
    in_flight = len(receiver.calls) - Attempt.objects.count()
    assert 0 <= in_flight <= 4  # calls whose end could not be written down


def test_a_worker_outlives_whatever_a_message_says(endpoint, receiver, data_dir, running):
    """Of an endpoint that is gone, or none at all."""
    running.enter_context(workers.deliverer(data_dir, **QUICK))
    bad: list[Any] = ["not-a-uuid", "00000000-0000-0000-0000-000000000000"]
    for argument in bad:
        assert tasks.send(deliver, argument)
    published = publish(endpoint)
    receiver.wait_for(1, seconds=PATIENCE_S)
    wait_until_over()
    assert came(receiver) == [*published]
