"""Endpoints and organizations that change while a meter writes: nobody waits for long, and nothing is lost."""

import random
import threading
from contextlib import suppress

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from billing import events
from billing.metering import ledger, meter
from billing.metering.meter import Meter
from billing.models import UsageRecord, UsageReject
from tests import factories
from tests.billing.metering.announced import CREATED, delivered, listen, request_id, told_of
from tests.billing.sent_events import left, running, send
from tests.billing.usage_events import FlatPrice, random_usage, usage
from tests.stack import wait_for
from webhooks import endpoints, queue
from webhooks.models import Delivery, DeliveryState, Endpoint, Event

pytestmark = pytest.mark.django_db(transaction=True)

BROKEN = {"status": 503, "error_code": "timeout"}


@pytest.fixture
def in_thread():
    """Runs in threads of their own; what they raised fails the test."""
    threads, failures = [], []

    def start(work):
        def run():
            try:
                work()
            except BaseException as error:
                failures.append(error)
                raise
            finally:
                connection.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def held_open(events_, in_thread):
    """A batch that is written and not yet committed: the event that lets it commit."""
    is_written, may_commit = threading.Event(), threading.Event()

    def write():
        with transaction.atomic():
            ledger.write([ledger.Entry(event) for event in events_], book=FlatPrice())
            is_written.set()
            assert may_commit.wait(30)

    in_thread(write)
    assert is_written.wait(30)
    return may_commit


def test_an_endpoint_changes_while_a_batch_is_written(organization, owner, in_thread):
    """Neither waits for the other, and what was written for it when it is deleted is not left to wait for ever."""
    doomed, other = listen(organization), listen(organization)
    event, later = (usage(organization_id=organization.id) for _ in range(2))
    may_commit = held_open([event], in_thread)
    endpoints.disable(endpoint=other, user=owner)
    endpoints.delete(endpoint=doomed, user=owner)
    made = listen(organization)
    may_commit.set()
    wait_for(UsageRecord.objects.exists)
    assert told_of(event) == [CREATED]
    ledger.write([ledger.Entry(later)], book=FlatPrice())
    assert told_of(later) == [CREATED]
    assert [data["request_id"] for data in delivered(made)] == [request_id(later)]
    assert [data["request_id"] for data in delivered(other)] == [request_id(event)]  # waits until it is enabled
    queue.sweep()
    assert set(Delivery.objects.filter(endpoint=doomed).values_list("state", flat=True)) == {DeliveryState.CANCELLED}


def test_endpoints_that_come_and_go_all_the_time_cost_no_record(organization, owner, in_thread):
    steady = listen(organization)
    given = [usage(organization_id=organization.id, **(BROKEN if number % 3 else {})) for number in range(600)]
    done = threading.Event()

    def change():
        dice = random.Random(threading.get_ident())
        while not done.is_set():
            endpoint = listen(organization, disabled_at=dice.choice([None, timezone.now()]))
            for act in dice.sample([endpoints.enable, endpoints.disable, endpoints.finish_rotation], 2):
                act(endpoint=endpoint, user=owner)
            endpoints.delete(endpoint=endpoint, user=owner)

    changing = [in_thread(change) for _ in range(2)]
    try:
        with running(Meter(claim_idle_s=0), Meter(claim_idle_s=0)):
            for start in range(0, len(given), 30):
                send(*given[start : start + 30], *given[max(0, start - 5) : start])
            wait_for(lambda: left() == 0)
    finally:
        done.set()
    for thread in changing:
        thread.join(30)
    assert UsageRecord.objects.count() == Event.objects.count() == len(given)
    assert sorted(data["request_id"] for data in delivered(steady)) == sorted(map(request_id, given))
    assert not UsageReject.objects.exists()
    assert Endpoint.objects.filter(deleted_at=None).count() == 1


def test_an_organization_that_is_deleted_amid_its_batches_keeps_no_meter(
    organization, outsider, monkeypatch, in_thread
):
    """Where the two wait for each other PostgreSQL ends one of them, and that one tries again."""
    monkeypatch.setattr(meter, "FIRST_PAUSE_S", 0.01)
    staying = outsider.memberships.get().organization
    dice = random.Random(4)
    doomed = [factories.organization(owner=factories.user(f"owner-{number}")) for number in range(6)]
    for each in (staying, *doomed):
        listen(each)
    given = [random_usage(dice) for _ in range(700)]
    for number, event in enumerate(given):
        event.organization_id = ([staying, *doomed][number % 7]).id

    def delete():
        for each in doomed:
            while type(each).objects.filter(id=each.id).exists():
                with suppress(OperationalError, IntegrityError):  # a deadlock; a batch that was quicker
                    each.delete()

    with running(Meter(claim_idle_s=0), Meter(claim_idle_s=0)):
        for start in range(0, len(given), 70):
            send(*given[start : start + 70])
            if start == 210:
                in_thread(delete)
        wait_for(lambda: left() == 0)
    assert (UsageRecord.objects.count(), UsageReject.objects.count()) == (len(given), 0)
    assert Event.objects.filter(organization=staying).exclude(type="quota.low").count() == 100


def test_meters_that_tell_of_the_same_requests_tell_once(organization, outsider, in_thread):
    organizations = [organization, outsider.memberships.get().organization]
    for each in organizations:
        listen(each)
    dice = random.Random(3)
    given = [random_usage(dice) for _ in range(150)]
    for event in given:
        event.organization_id = dice.choice(organizations).id

    def write(seed):
        mine = random.Random(seed)
        for _ in range(6):
            ledger.write([ledger.Entry(event) for event in mine.sample(given, 100)], book=FlatPrice())

    threads = [in_thread(lambda seed=seed: write(seed)) for seed in range(3)]
    for thread in threads:
        thread.join(60)
    ledger.write([ledger.Entry(event) for event in given], book=FlatPrice())
    assert [len(told_of(event)) for event in given] == [1] * len(given)
    assert Delivery.objects.count() == len(given)
    assert {event.operation for event in given} == {events.CHAT}
