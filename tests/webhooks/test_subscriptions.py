"""Which endpoints an event becomes deliveries for: in its transaction, and never more than that."""

import uuid
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, User
from helixflow.lib import ids
from webhooks import queue, services
from webhooks.models import Delivery, DeliveryState, Endpoint, Event, EventType

pytestmark = pytest.mark.django_db
KEY, OTHER_KEY = ids.uuid7(), ids.uuid7()


def subscribe(organization: Organization, *events: EventType, **fields: Any) -> Endpoint:
    return Endpoint.objects.create(
        organization=organization, url="https://hooks.example.com", events=list(events or EventType), **fields
    )


def happening(organization: Organization, type_: EventType = EventType.COMPLETION_CREATED, **fields: Any) -> Any:
    return services.Happening(organization.id, type_, {"id": "chatcmpl-1"}, **fields)


def told(happening: services.Happening) -> set[uuid.UUID]:
    """The endpoints that are told of it, each once."""
    events = services.publish_all([happening])
    found = list(Delivery.objects.filter(event__in=events).values_list("endpoint_id", flat=True))
    assert len(found) == len(set(found))
    return set(found)


def test_each_subscribed_endpoint_gets_a_delivery(organization: Organization) -> None:
    first = subscribe(organization)
    second = subscribe(organization, EventType.COMPLETION_CREATED)
    subscribe(organization, EventType.QUOTA_LOW)
    assert told(happening(organization)) == {first.id, second.id}
    delivery = Delivery.objects.first()
    assert delivery is not None
    assert (delivery.state, delivery.step, delivery.attempt_count) == (DeliveryState.PENDING, 0, 0)
    assert (delivery.organization, delivery.event, delivery.test) == (organization, Event.objects.get(), False)
    assert delivery.next_attempt_at is not None
    assert delivery.next_attempt_at <= timezone.now()


def test_completions_nobody_wants_are_not_even_events(organization: Organization) -> None:
    subscribe(organization, EventType.QUOTA_LOW)
    assert services.publish_all([happening(organization)]) == []
    assert not Event.objects.exists()


def test_what_is_rare_is_an_event_though_nobody_wants_it(organization: Organization) -> None:
    assert told(happening(organization, EventType.QUOTA_LOW)) == set()
    assert Event.objects.count() == 1


@pytest.mark.parametrize("state", ["disabled_at", "deleted_at"])
def test_the_disabled_and_the_deleted_are_told_nothing(organization: Organization, state: str) -> None:
    subscribe(organization, **{state: timezone.now()})
    assert told(happening(organization)) == set()


def test_another_organization_is_told_nothing(organization: Organization, outsider: User) -> None:
    subscribe(outsider.memberships.get().organization)
    assert told(happening(organization)) == set()


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"api_key_ids": [KEY]}, True),
        ({"api_key_ids": [OTHER_KEY]}, False),
        ({"api_key_ids": [OTHER_KEY, KEY]}, True),
        ({"api_key_ids": []}, True),
        ({"model_names": ["gpt-4"]}, True),
        ({"model_names": ["gpt-3.5-turbo"]}, False),
        ({"api_key_ids": [KEY], "model_names": ["gpt-3.5-turbo"]}, False),
        ({"api_key_ids": [KEY], "model_names": ["gpt-4"]}, True),
    ],
)
def test_filters_narrow_what_names_a_key_or_a_model(organization: Organization, filters: Any, passes: bool) -> None:
    subscribe(organization, **filters)
    assert bool(told(happening(organization, api_key_id=KEY, model="gpt-4"))) is passes


def test_filters_let_pass_what_names_neither(organization: Organization) -> None:
    subscribe(organization, api_key_ids=[OTHER_KEY], model_names=["gpt-4"])
    assert told(happening(organization, EventType.QUOTA_LOW))


def test_what_was_told_before_is_not_delivered_again(organization: Organization) -> None:
    subscribe(organization)
    assert told(happening(organization, EventType.QUOTA_LOW, dedupe_key="once"))
    assert not told(happening(organization, EventType.QUOTA_LOW, dedupe_key="once"))
    assert Delivery.objects.count() == 1


def test_who_knows_the_subscribers_is_spared_the_query(organization: Organization, django_assert_num_queries) -> None:
    subscribe(organization)
    subscriptions = services.subscribers([organization.id])
    assert subscriptions.wants(organization.id, EventType.QUOTA_LOW)
    assert not subscriptions.wants(uuid.uuid4(), EventType.QUOTA_LOW)
    with django_assert_num_queries(2):
        services.publish_all([happening(organization)] * 3, subscriptions=subscriptions)
    assert Delivery.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_workers_are_told_after_the_commit_and_never_of_what_was_rolled_back(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudged: list[Any] = []
    monkeypatch.setattr(queue, "_tell", lambda *arguments: nudged.append(arguments))
    endpoint = subscribe(organization)
    with transaction.atomic():
        services.publish_all([happening(organization)] * 25)
        assert nudged == []
    assert nudged == [(endpoint.id, 3, 0)]  # three lanes' worth
    with transaction.atomic():
        services.publish_all([happening(organization)])
        transaction.set_rollback(True)
    assert len(nudged) == 1
    assert Delivery.objects.count() == 25


def test_an_endpoint_that_is_gone_meanwhile_harms_nobody(organization: Organization) -> None:
    kept, gone = subscribe(organization), subscribe(organization)
    subscriptions = services.subscribers([organization.id])
    gone.delete()
    assert services.publish_all([happening(organization)], subscriptions=subscriptions)
    assert Delivery.objects.get().endpoint == kept
