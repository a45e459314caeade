"""The log of deliveries, sending again, test events and the figures of a day."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from helixflow.lib import errors, ids, paging
from tests import factories
from webhooks import deliveries, endpoints
from webhooks.models import Delivery, DeliveryState, Event, EventType

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(moment, endpoint, **fields: Any) -> Delivery:
    with time_machine.travel(moment, tick=False):
        return factories.delivery(endpoint, **fields)


def failed(endpoint, **fields: Any) -> Delivery:
    ended: dict[str, Any] = {
        "state": "failed",
        "step": 10,
        "attempt_count": 10,
        "next_attempt_at": None,
        "ended_at": timezone.now(),
    }
    return factories.delivery(endpoint, **(ended | fields))


class TestLog:
    def test_it_is_of_one_organization(self, organization, outsider, delivery):
        theirs = factories.endpoint(outsider.memberships.get().organization)
        factories.delivery(theirs)
        assert list(deliveries.log(organization)) == [delivery]
        assert not deliveries.log(organization, endpoint=theirs).exists()

    def test_it_is_filtered_by_endpoint_event_and_state(self, organization, endpoint, delivery):
        other = factories.endpoint(organization)
        low = factories.delivery(other, event_type=EventType.QUOTA_LOW, state="failed")
        assert list(deliveries.log(organization, endpoint=other)) == [low]
        assert list(deliveries.log(organization, event_type="quota.low")) == [low]
        assert list(deliveries.log(organization, state="pending")) == [delivery]
        assert not deliveries.log(organization, endpoint=endpoint, state="failed").exists()

    def test_it_is_filtered_by_time_of_creation(self, organization, endpoint):
        rows = [at(NOON + n * HOUR, endpoint) for n in range(4)]
        found = deliveries.log(organization, since=NOON + HOUR, until=NOON + 3 * HOUR)
        assert set(found) == {rows[1], rows[2]}
        assert set(deliveries.log(organization, since=NOON + HOUR)) == set(rows[1:])
        assert set(deliveries.log(organization, until=NOON + HOUR)) == {rows[0]}

    def test_any_time_that_can_be_named_is_a_bound(self, organization, delivery):
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        assert list(deliveries.log(organization, since=first, until=last)) == [delivery]
        assert not deliveries.log(organization, until=first).exists()
        assert not deliveries.log(organization, since=last).exists()

    def test_deliveries_of_deleted_endpoints_stay(self, organization, owner, endpoint, delivery):
        endpoints.delete(endpoint=endpoint, user=owner)
        assert list(deliveries.log(organization)) == [delivery]

    @pytest.mark.parametrize(
        ("filters", "param"),
        [
            ({"event_type": "moon.rises"}, "event"),
            ({"event_type": ""}, "event"),
            ({"state": "lost"}, "state"),
            ({"since": NOON, "until": NOON - HOUR}, "since"),
            ({"since": NOON, "until": NOON}, "since"),
        ],
    )
    def test_bad_filters_are_refused_by_name(self, organization, filters, param):
        with pytest.raises(errors.InvalidRequest) as caught:
            deliveries.log(organization, **filters)
        assert caught.value.param == param

    def test_a_page_costs_one_query(self, organization, endpoint, django_assert_num_queries):
        for _ in range(5):
            factories.delivery(endpoint)
        with django_assert_num_queries(1):
            shown, cursor = paging.page(deliveries.log(organization), prefix=ids.DELIVERY, cursor=None, limit=3)
            assert [row.event.type for row in shown] == ["completion.created"] * 3
            assert {row.endpoint.url for row in shown} == {endpoint.url}
        assert cursor == shown[-1].public_id


class TestResend:
    @pytest.mark.parametrize("state", ["failed", "succeeded", "cancelled"])
    def test_the_same_row_begins_anew(self, endpoint, owner, nudged, state):
        row = failed(endpoint, state=state, last_status=500)
        before = timezone.now()
        deliveries.resend(delivery=row, user=owner)
        row.refresh_from_db()
        assert (row.state, row.step, row.ended_at) == (DeliveryState.PENDING, 0, None)
        assert row.next_attempt_at is not None
        assert before <= row.next_attempt_at <= timezone.now()
        assert row.attempt_count == 10
        assert Event.objects.count() == 1
        assert [told for told, _ in nudged] == [endpoint.id]

    def test_one_that_waits_for_its_next_attempt_goes_at_once(self, endpoint, owner, nudged):
        row = factories.delivery(endpoint, step=3, next_attempt_at=timezone.now() + HOUR)
        deliveries.resend(delivery=row, user=owner)
        row.refresh_from_db()
        assert row.step == 0
        assert row.next_attempt_at is not None
        assert row.next_attempt_at <= timezone.now()

    def test_not_while_it_is_being_sent(self, endpoint, owner, nudged):
        lease = uuid.uuid4()
        row = factories.delivery(endpoint, step=3, lease=lease, leased_until=timezone.now() + HOUR)
        with pytest.raises(errors.InvalidRequest, match="being sent right now"):
            deliveries.resend(delivery=row, user=owner)
        row.refresh_from_db()
        assert (row.lease, row.step) == (lease, 3)
        assert nudged == []

    def test_a_lease_that_ended_is_nobodys(self, endpoint, owner, nudged):
        row = factories.delivery(endpoint, step=3, lease=uuid.uuid4(), leased_until=timezone.now() - HOUR)
        deliveries.resend(delivery=row, user=owner)
        row.refresh_from_db()
        assert (row.lease, row.leased_until, row.step) == (None, None, 0)

    def test_not_a_test_event(self, endpoint, owner, nudged):
        row = failed(endpoint, test=True)
        with pytest.raises(errors.InvalidRequest, match="Send another one"):
            deliveries.resend(delivery=row, user=owner)

    def test_not_to_a_disabled_endpoint(self, endpoint, owner, nudged):
        row = failed(endpoint)
        endpoints.disable(endpoint=endpoint, user=owner)
        with pytest.raises(errors.InvalidRequest, match="Enable it first"):
            deliveries.resend(delivery=row, user=owner)
        with pytest.raises(errors.InvalidRequest, match="Enable it first"):
            deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=timezone.now())
        assert Delivery.objects.get().state == "failed"

    def test_not_to_a_deleted_endpoint(self, endpoint, owner, nudged):
        row = failed(endpoint)
        endpoints.delete(endpoint=endpoint, user=owner)
        with pytest.raises(errors.InvalidRequest, match="has been deleted"):
            deliveries.resend(delivery=row, user=owner)
        with pytest.raises(errors.InvalidRequest, match="has been deleted"):
            deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=timezone.now())

    def test_not_what_retention_has_just_taken(self, endpoint, owner, nudged):
        row = failed(endpoint)
        Delivery.objects.filter(id=row.id).delete()
        with pytest.raises(errors.NotFound, match="not kept"):
            deliveries.resend(delivery=row, user=owner)
        assert nudged == []


class TestResendFailed:
    def test_only_what_failed_at_this_endpoint_in_the_range(self, organization, endpoint, owner, nudged):
        gone = {"state": "failed", "next_attempt_at": None}
        early = at(NOON - HOUR, endpoint, **gone)
        wanted = [at(NOON, endpoint, **gone), at(NOON + HOUR, endpoint, **gone)]
        late = at(NOON + 2 * HOUR, endpoint, **gone)
        left = [
            at(NOON, endpoint, **gone, test=True),
            at(NOON, endpoint, state="succeeded", next_attempt_at=None),
            at(NOON, factories.endpoint(organization), **gone),
        ]
        sent = deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=NOON + 2 * HOUR)
        assert sent == 2
        assert set(Delivery.objects.filter(state="pending")) == set(wanted)
        assert set(Delivery.objects.exclude(state="pending")) == {early, late, *left}
        assert nudged == [(endpoint.id, 2)]

    def test_many_go_in_batches_and_are_all_counted(self, endpoint, owner, nudged, monkeypatch):
        monkeypatch.setattr("webhooks.deliveries._BATCH", 2)
        for _ in range(5):
            failed(endpoint)
        until = timezone.now() + HOUR
        assert deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=until) == 5
        assert not Delivery.objects.exclude(state="pending").exists()
        assert deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=until) == 0

    def test_a_range_that_ends_before_it_begins_is_refused(self, endpoint, owner, nudged):
        with pytest.raises(errors.InvalidRequest) as caught:
            deliveries.resend_failed(endpoint=endpoint, user=owner, since=NOON, until=NOON - HOUR)
        assert caught.value.param == "since"
        assert nudged == []


class TestSendTest:
    @pytest.mark.parametrize("event_type", EventType.values)
    def test_it_is_an_event_of_its_own_that_says_so(self, organization, owner, nudged, event_type):
        endpoint = factories.endpoint(organization, events=["quota.low"], model_names=["no-such-model"])
        delivery = deliveries.send_test(endpoint=endpoint, user=owner, event_type=event_type)
        stored = Delivery.objects.select_related("event").get()
        assert stored == delivery
        assert (stored.test, stored.state, stored.endpoint_id) == (True, "pending", endpoint.id)
        assert stored.next_attempt_at is not None
        assert stored.next_attempt_at <= timezone.now()
        assert (stored.event.type, stored.event.organization_id) == (event_type, organization.id)
        assert stored.event.data["test"] is True
        assert stored.event.data["organization_id"] == organization.public_id
        assert nudged == [(endpoint.id, 1)]

    def test_no_other_endpoint_is_told(self, organization, endpoint, owner, nudged):
        factories.endpoint(organization)
        deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
        assert Delivery.objects.get().endpoint_id == endpoint.id

    def test_a_disabled_endpoint_takes_one_too(self, endpoint, owner, nudged):
        endpoints.disable(endpoint=endpoint, user=owner)
        assert deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low").state == "pending"

    def test_a_deleted_one_does_not(self, endpoint, owner, nudged):
        endpoints.delete(endpoint=endpoint, user=owner)
        with pytest.raises(errors.NotFound):
            deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
        assert not Event.objects.exists()

    @pytest.mark.parametrize("event_type", ["", "moon.rises", "a\0", "x" * 10_000])
    def test_an_unknown_event_is_refused(self, endpoint, owner, nudged, event_type):
        with pytest.raises(errors.InvalidRequest) as caught:
            deliveries.send_test(endpoint=endpoint, user=owner, event_type=event_type)
        assert caught.value.param == "event"
        assert not Event.objects.exists()

    def test_ten_a_minute_for_each_endpoint(self, organization, endpoint, owner, nudged):
        with time_machine.travel(NOON, tick=False) as clock:
            deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
            clock.shift(20)
            for _ in range(9):
                deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
            with pytest.raises(errors.RateLimitExceeded) as caught:
                deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
            assert caught.value.retry_after == 40
            deliveries.send_test(endpoint=factories.endpoint(organization), user=owner, event_type="quota.low")
            clock.shift(41)
            deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")
            with pytest.raises(errors.RateLimitExceeded):
                deliveries.send_test(endpoint=endpoint, user=owner, event_type="quota.low")


class TestStatistics:
    def test_an_endpoint_without_attempts_has_none(self, endpoint):
        found = deliveries.statistics([endpoint.id])[endpoint.id]
        assert (found.attempts, found.succeeded, found.pending) == (0, 0, 0)
        assert (found.success_rate, found.p50_ms, found.p95_ms) == (None, None, None)
        assert deliveries.statistics([]) == {}

    def test_the_last_day_counts(self, endpoint):
        row = at(NOON - 30 * HOUR, endpoint)
        with time_machine.travel(NOON, tick=False) as clock:
            for hours, duration_ms, succeeded in (
                (-25, 9_000, False),
                (-23, 100, True),
                (-2, 200, True),
                (-1, 300, False),
            ):
                clock.move_to(NOON + hours * HOUR)
                factories.attempt(row, duration_ms=duration_ms, succeeded=succeeded)
            clock.move_to(NOON)
            found = deliveries.statistics([endpoint.id])[endpoint.id]
        assert (found.attempts, found.succeeded, found.pending) == (3, 2, 1)
        assert found.success_rate == pytest.approx(2 / 3)
        assert found.p50_ms == 200
        assert found.p95_ms == pytest.approx(290)

    def test_each_endpoint_has_its_own_in_one_query(self, organization, django_assert_num_queries):
        good, bad, idle = (factories.endpoint(organization) for _ in range(3))
        factories.attempt(factories.delivery(good, state="succeeded"))
        factories.attempt(factories.delivery(bad), succeeded=False)
        with django_assert_num_queries(1):
            found = deliveries.statistics([good.id, bad.id, idle.id])
        assert [found[row.id].success_rate for row in (good, bad, idle)] == [1, 0, None]
        assert [found[row.id].pending for row in (good, bad, idle)] == [0, 1, 0]

    def test_a_busy_endpoint_is_judged_by_its_newest_attempts(self, endpoint, delivery, monkeypatch):
        monkeypatch.setattr("webhooks.deliveries.MAX_ATTEMPTS", 3)
        with time_machine.travel(timezone.now() - HOUR, tick=False) as clock:
            for succeeded in (False, False, True, True, True):
                clock.shift(1)
                factories.attempt(delivery, succeeded=succeeded)
        found = deliveries.statistics([endpoint.id])[endpoint.id]
        assert (found.attempts, found.success_rate) == (3, 1)
