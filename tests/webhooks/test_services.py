"""Publishing: an event is written once, in the transaction of what happened, and never harms it."""

import threading

import pytest
from django.db import OperationalError, connection, transaction

from accounts.models import Organization
from helixflow.lib import ids
from webhooks import services
from webhooks.models import Event, EventType

pytestmark = pytest.mark.django_db


def publish(organization, key=None, **data):
    return services.publish(
        organization_id=organization.id, type=EventType.QUOTA_LOW, data=data or {"threshold": 80}, dedupe_key=key
    )


def test_an_event_is_a_row(organization):
    event = publish(organization, threshold=95, text="ü")
    stored = Event.objects.get()
    assert stored == event
    assert (stored.organization, stored.type, stored.data) == (
        organization,
        "quota.low",
        {"threshold": 95, "text": "ü"},
    )
    assert stored.dedupe_key is None
    assert abs(ids.time_of(stored.id) - stored.created_at).total_seconds() < 1
    assert stored.public_id.startswith("evt_")


def test_a_dedupe_key_is_published_once(organization):
    first = publish(organization, "once", threshold=80)
    assert first is not None
    assert publish(organization, "once", threshold=95) is None
    assert Event.objects.get().data == {"threshold": 80}


def test_events_without_a_dedupe_key_are_all_published(organization):
    assert publish(organization) != publish(organization)
    assert Event.objects.count() == 2


def test_a_known_dedupe_key_does_not_abort_the_transaction_around(organization):
    publish(organization, "once")
    with transaction.atomic():
        assert publish(organization, "once") is None
        assert publish(organization, "another") is not None
    assert Event.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_an_organization_that_is_gone_publishes_nothing_and_the_transaction_commits(organization):
    gone = Organization(id=ids.uuid7(), name="Gone")
    with transaction.atomic():
        assert publish(gone, "gone") is None
        assert publish(organization, "here") is not None
    assert [event.organization for event in Event.objects.all()] == [organization]


def test_many_are_one_statement_and_one_for_who_subscribes(organization, outsider, django_assert_num_queries):
    other = outsider.memberships.get().organization
    gone = ids.uuid7()
    happenings = [
        services.Happening(organization_id, EventType.RATE_LIMIT_EXCEEDED, {"minute": number}, f"{key}:{number}")
        for number in range(3)
        for key, organization_id in (("a", organization.id), ("b", other.id), ("c", gone))
    ]
    happenings.append(happenings[0])  # told twice in one go
    with django_assert_num_queries(2):
        published = services.publish_all(happenings)
    assert {(event.dedupe_key, event.organization_id) for event in published} == {
        (f"{key}:{number}", organization_id)
        for number in range(3)
        for key, organization_id in (("a", organization.id), ("b", other.id))
    }
    assert set(Event.objects.all()) == set(published)


def test_nothing_to_tell_asks_nobody(organization, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert services.publish_all([]) == []


@pytest.mark.django_db(transaction=True)
def test_two_transactions_with_the_same_keys_in_other_orders_do_not_deadlock(organization):
    keys = [f"key-{number}" for number in range(200)]
    published = []
    start = threading.Barrier(2)

    def run(order):
        try:
            start.wait(10)
            with transaction.atomic():
                happenings = (services.Happening(organization.id, EventType.QUOTA_LOW, {}, key) for key in order)
                published.extend(services.publish_all(happenings))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(order,)) for order in (keys, keys[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(str(event.dedupe_key) for event in published) == sorted(keys)


@pytest.mark.django_db(transaction=True)
def test_an_organization_cannot_go_before_what_is_published_is_committed(organization):
    refused = []

    def delete():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout TO '100ms'")
                cursor.execute("DELETE FROM accounts_organization WHERE id = %s", [organization.id])
        except OperationalError as error:
            refused.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        publish(organization)
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(30)
    assert len(refused) == 1
    assert Event.objects.get().organization == organization
