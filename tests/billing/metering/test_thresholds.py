"""What a growing ledger tells: quota.low once each at 80% and 95%, rate_limit.exceeded once a key and minute."""

import uuid
from datetime import date

import pytest
from django.db import transaction

from billing.events import Refused
from billing.metering import announcing, thresholds
from billing.models import Plan, Subscription
from helixflow.lib import ids
from webhooks.models import Event, EventType
from webhooks.services import Happening

pytestmark = pytest.mark.django_db

NOVEMBER = date(2026, 11, 1)
MINUTE = 29_700_000  # 2026-06-21T00:00:00Z


@pytest.fixture
def plan(organization) -> Plan:
    """A quota of 1,000 a month."""
    plan = Plan.objects.create(slug="pro", name="Pro", requests_per_minute=10, requests_per_month=1000)
    Subscription.objects.create(organization=organization, plan=plan)
    return plan


def grew(organization, before, after, month=NOVEMBER):
    announce(grown={(organization.id, month): (before, after)})


def refused(*refusals):
    announce(refusals=refusals)


def announce(**given):
    announcing.announce(**{"ended": [], "grown": {}, "refusals": []} | given)


def told() -> list[int]:
    return sorted(event.data["threshold"] for event in Event.objects.filter(type="quota.low"))


def refusal(organization, key_id, *, reason="minute", minute=MINUTE, count=3, limit=10) -> Refused:
    return Refused(
        id=ids.uuid7(),
        organization_id=organization.id,
        api_key_id=key_id,
        minute=minute,
        reason=reason,
        count=count,
        limit=limit,
    )


class TestQuota:
    def test_it_is_low_at_80_and_95_percent_once_each(self, organization, plan):
        for before, after, expected in (
            (0, 799, []),
            (799, 800, [80]),
            (800, 949, [80]),
            (949, 951, [80, 95]),
            (951, 1000, [80, 95]),
        ):
            grew(organization, before, after)
            assert told() == expected, after

    def test_both_can_be_reached_in_one_batch(self, organization, plan):
        grew(organization, 0, 1000)
        assert told() == [80, 95]

    def test_the_event_says_how_much_is_left_and_until_when(self, organization, plan):
        grew(organization, 790, 810)
        event = Event.objects.get()
        assert event.organization == organization
        assert event.data == {
            "organization_id": organization.public_id,
            "threshold": 80,
            "limit": 1000,
            "used": 810,
            "remaining": 190,
            "resets_at": "2026-12-01T00:00:00Z",
            "month": "2026-11",
        }

    def test_december_resets_in_january(self, organization, plan):
        grew(organization, 0, 800, month=date(2026, 12, 1))
        assert Event.objects.get().data["resets_at"] == "2027-01-01T00:00:00Z"

    def test_a_plan_upgraded_and_reached_again_does_not_repeat(self, organization, plan):
        grew(organization, 0, 800)
        Plan.objects.update(requests_per_month=10_000)
        grew(organization, 800, 9_000)
        assert told() == [80]

    def test_a_smaller_plan_can_make_it_low(self, organization, plan):
        grew(organization, 0, 500)
        Plan.objects.update(requests_per_month=600)
        grew(organization, 500, 501)
        assert told() == [80]

    def test_every_month_is_told_anew(self, organization, plan):
        grew(organization, 0, 800)
        grew(organization, 0, 800, month=date(2026, 12, 1))
        assert told() == [80, 80]

    def test_what_does_not_grow_tells_nothing_and_costs_nothing(self, organization, plan, django_assert_num_queries):
        with django_assert_num_queries(0):
            grew(organization, 900, 900)
            grew(organization, 900, 899)
            announce()
        assert told() == []

    def test_without_a_subscription_the_quota_is_starter_s(self, organization):
        grew(organization, 0, 8_000)
        assert Event.objects.get().data["limit"] == 10_000

    def test_an_organization_that_is_gone_or_may_use_nothing_is_not_told(self, organization, plan):
        announce(grown={(ids.uuid7(), NOVEMBER): (0, 10**6)})
        Plan.objects.update(requests_per_month=0)
        grew(organization, 0, 1)
        assert told() == []

    def test_a_batch_of_many_organizations_costs_one_query(
        self, organization, outsider, plan, django_assert_num_queries
    ):
        other = outsider.memberships.get().organization
        with django_assert_num_queries(1):
            announce(grown={(organization.id, NOVEMBER): (0, 799), (other.id, NOVEMBER): (0, 799)})
        with django_assert_num_queries(3):  # the quotas, who subscribes, the events
            announce(grown={(organization.id, NOVEMBER): (799, 990), (other.id, NOVEMBER): (0, 8_000)})
        assert told() == [80, 80, 95]

    @pytest.mark.django_db(transaction=True)
    def test_one_who_has_been_told_costs_no_second_query(self, organization, plan, django_assert_num_queries):
        grew(organization, 0, 800)
        with django_assert_num_queries(1):
            grew(organization, 800, 900)
        assert told() == [80]

    @pytest.mark.django_db(transaction=True)
    def test_a_batch_that_is_rolled_back_tells_later(self, organization, plan):
        with transaction.atomic():
            grew(organization, 0, 800)
            transaction.set_rollback(True)
        assert told() == []
        grew(organization, 0, 800)
        assert told() == [80]

    def test_what_is_remembered_is_bounded(self, monkeypatch):
        monkeypatch.setattr(thresholds, "_told", set())
        monkeypatch.setattr(thresholds, "MOST_TOLD", 10)
        for number in range(100):
            thresholds.remember([Happening(uuid.UUID(int=1), EventType.QUOTA_LOW, {}, str(number))])
        assert "99" in thresholds._told
        assert len(thresholds._told) <= 11


class TestRateLimits:
    def test_a_key_is_told_of_once_a_minute(self, organization):
        key, other = uuid.uuid4(), uuid.uuid4()
        refused(refusal(organization, key), refusal(organization, key), refusal(organization, other))
        refused(refusal(organization, key))
        refused(refusal(organization, key, minute=MINUTE + 1))
        events = Event.objects.filter(type="rate_limit.exceeded")
        assert sorted((event.data["api_key_id"], event.data["minute"]) for event in events) == sorted(
            [
                (ids.public_id(ids.API_KEY, key), "2026-06-21T00:00:00Z"),
                (ids.public_id(ids.API_KEY, key), "2026-06-21T00:01:00Z"),
                (ids.public_id(ids.API_KEY, other), "2026-06-21T00:00:00Z"),
            ]
        )

    def test_the_event_says_which_limit_and_how_often(self, organization):
        key = uuid.uuid4()
        refused(
            refusal(organization, key, count=2, limit=5, reason="parallel"),
            refusal(organization, key, count=40, limit=100),
        )
        assert Event.objects.get().data == {
            "organization_id": organization.public_id,
            "api_key_id": ids.public_id(ids.API_KEY, key),
            "limit": 100,
            "reason": "minute",
            "minute": "2026-06-21T00:00:00Z",
            "count": 42,
        }

    @pytest.mark.parametrize("reason", ["minute", "key_minute", "parallel"])
    def test_rate_limits_are_told(self, organization, reason):
        refused(refusal(organization, uuid.uuid4(), reason=reason))
        assert Event.objects.get().data["reason"] == reason

    @pytest.mark.parametrize("reason", ["month", "key_month", "budget", "key_budget", "disabled"])
    def test_quotas_and_budgets_are_not(self, organization, reason, django_assert_num_queries):
        with django_assert_num_queries(0):
            refused(refusal(organization, uuid.uuid4(), reason=reason))
        assert not Event.objects.exists()
