"""Forgetting: what is old goes, all of it, in small steps that disturb nobody."""

import threading
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.factories import endpoint
from tests.webhooks.rows import attempt, days_ago, delivery, event, lease
from webhooks import retention, tasks
from webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, Event

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _ninety_days(settings):
    settings.WEBHOOK_RETENTION_DAYS = 90


@pytest.fixture
def hook(organization) -> Endpoint:
    return endpoint(organization)


def test_what_is_older_goes_and_the_rest_stays(hook):
    for days in (365, 91, 90.01):
        attempt(delivery(hook, at=days_ago(days)))
    kept = [delivery(hook, at=days_ago(days)) for days in (89.99, 1)]
    attempt(kept[0])
    dropped = retention.drop_old()
    assert (dropped.events, dropped.deliveries, dropped.attempts, dropped.endpoints) == (3, 3, 3, 0)
    assert dropped.complete
    assert set(Delivery.objects.all()) == set(kept)
    assert set(Event.objects.all()) == {each.event for each in kept}
    assert Attempt.objects.get().delivery == kept[0]


def test_how_long_is_a_setting(hook, settings):
    settings.WEBHOOK_RETENTION_DAYS = 7
    delivery(hook, at=days_ago(8))
    kept = delivery(hook, at=days_ago(6))
    retention.drop_old()
    assert Delivery.objects.get() == kept


def test_an_event_that_nobody_was_told_of_goes_too(organization):
    event(organization, at=days_ago(91))
    assert retention.drop_old().events == 1
    assert not Event.objects.exists()


def test_a_key_is_remembered_for_the_month_that_it_is_about(organization, settings):
    settings.WEBHOOK_RETENTION_DAYS = 1
    event(organization, at=days_ago(33), dedupe_key="the month before")
    event(organization, at=days_ago(31), dedupe_key="this month")
    event(organization, at=days_ago(31))
    assert retention.drop_old().events == 2
    assert Event.objects.get().dedupe_key == "this month"


@pytest.mark.parametrize("state", DeliveryState)
def test_what_still_waits_goes_as_well_as_what_has_ended(hook, state):
    delivery(hook, at=days_ago(91), state=state)
    assert retention.drop_old().deliveries == 1


def test_sending_again_makes_nothing_younger(hook):
    old = delivery(hook, at=days_ago(91))
    attempt(old, at=days_ago(1))
    dropped = retention.drop_old()
    assert (dropped.events, dropped.attempts) == (1, 1)


def test_what_is_being_sent_is_left_until_its_lease_ends(hook, organization):
    sending = delivery(hook, at=days_ago(92))
    attempt(sending)
    lease(sending, seconds=60)
    other = delivery(endpoint(organization), of=sending.event)
    dead = delivery(hook, at=days_ago(91))
    lease(dead, seconds=-1)
    dropped = retention.drop_old()
    assert dropped.complete
    assert set(Delivery.objects.all()) == {sending}  # neither the other endpoint's nor the dead worker's
    assert other.event == Event.objects.get()
    assert Attempt.objects.get().delivery == sending
    lease(sending, seconds=-1)
    retention.drop_old()
    assert not Event.objects.exists()


def test_small_batches_come_to_the_same(hook, organization):
    second = endpoint(organization)
    for days in (95, 94, 93, 92, 91):
        told = event(organization, at=days_ago(days))
        for to in (hook, second):
            row = delivery(to, of=told)
            for _ in range(3):
                attempt(row)
    held = Delivery.objects.order_by("id").first()
    assert held is not None
    lease(held, seconds=60)  # among the first: what comes behind it goes all the same
    dropped = retention.drop_old(batch=2)
    assert (dropped.events, dropped.deliveries, dropped.attempts, dropped.complete) == (4, 9, 27, True)
    assert Delivery.objects.get() == held


def test_a_run_out_of_time_ends_and_the_next_one_goes_on(hook, monkeypatch):
    for days in (93, 92, 91):
        delivery(hook, at=days_ago(days))
    assert not retention.drop_old(budget_s=0).complete
    assert Delivery.objects.count() == 3
    clock = iter(range(100))
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    dropped = retention.drop_old(batch=1, budget_s=3)  # a look at the clock before each batch
    assert (dropped.deliveries, dropped.complete) == (1, False)
    assert Delivery.objects.order_by("id")[0].created_at > days_ago(92.5)  # the oldest went first
    assert retention.drop_old().complete
    assert not Delivery.objects.exists()


def test_what_is_too_much_for_one_run_is_done_by_the_next_ones_within_the_hour(monkeypatch, settings):
    queued: list[int] = []
    monkeypatch.setattr(tasks.drop_old, "delay", queued.append)
    monkeypatch.setattr(retention, "drop_old", lambda: retention.Dropped(complete=False))
    tasks.drop_old()
    tasks.drop_old(retention.RUNS)
    assert queued == [2]
    monkeypatch.setattr(retention, "drop_old", lambda: retention.Dropped(complete=True))
    tasks.drop_old()
    assert queued == [2]
    hourly = settings.CELERY_BEAT_SCHEDULE["drop-old-events"]["schedule"]
    assert hourly > retention.RUNS * retention.BUDGET_S
    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] - 30 > retention.BUDGET_S


def test_a_deleted_endpoint_goes_once_the_log_names_it_no_more(organization):
    named = endpoint(organization, deleted_at=days_ago(100))
    recent = delivery(named, at=days_ago(1))
    delivery(named, at=days_ago(91))
    endpoint(organization, deleted_at=days_ago(100))
    just_deleted = endpoint(organization, deleted_at=days_ago(0.01))
    disabled = endpoint(organization, disabled_at=days_ago(100))
    assert retention.drop_old().endpoints == 1
    assert set(Endpoint.objects.all()) == {named, just_deleted, disabled}
    assert Delivery.objects.get() == recent


def test_no_step_reads_a_table_as_a_whole(hook):
    """But the endpoints', which are few."""
    for days in (92, 91):
        attempt(delivery(hook, at=days_ago(days)))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        retention.drop_old()
    asked = [query["sql"] for query in captured if query["sql"].startswith(("SELECT", "DELETE"))]
    assert len(asked) > 8
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # so that it is used where nothing else would do
        for sql in asked:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            read = [line for line in plan.splitlines() if "Seq Scan on" in line and "webhooks_endpoint" not in line]
            assert not read, f"{sql}\n{plan}"


@pytest.mark.django_db(transaction=True)
def test_runs_at_the_same_time_pass_over_what_another_has_in_hand(hook):
    """As do those who record an attempt: neither waits for the other."""
    held = delivery(hook, at=days_ago(92))
    free = delivery(hook, at=days_ago(91))
    results = []

    def run():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout TO '2s'")
            results.append(retention.drop_old())
        finally:
            connection.close()

    with transaction.atomic():
        Delivery.objects.select_for_update().get(id=held.id)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
    assert [(dropped.deliveries, dropped.complete) for dropped in results] == [(1, True)]
    assert Delivery.objects.get() == held
    assert not Event.objects.filter(id=free.event_id).exists()
    assert retention.drop_old().deliveries == 1
