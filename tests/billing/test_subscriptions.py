"""Changes of plan and caps: in force on the next request, one line of history each."""

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection

from accounts import api_keys
from accounts.models import Organization
from billing import key_limits, plans, subscriptions
from billing.admission import limits
from billing.models import KeyLimits, Plan, Subscription, SubscriptionChange
from billing.seeds import seed_plans
from helixflow.lib import errors

pytestmark = pytest.mark.django_db

NO_LIMITS: dict[str, Any] = {"requests_per_minute": None, "requests_per_month": None, "monthly_budget": None}


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture
def pro() -> Plan:
    return Plan.objects.get(slug="pro")


@pytest.fixture
def enterprise() -> Plan:
    return Plan.objects.get(slug="enterprise")


@pytest.fixture
def key(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def generation(organization) -> int:
    return Organization.objects.get(id=organization.id).generation


def in_force(organization) -> tuple[str, int, int]:
    plan = plans.in_force(organization)
    return plan.name, plan.requests_per_minute, plan.requests_per_month


class TestPlan:
    def test_a_change_is_in_force_and_remembered(self, organization, owner, pro):
        before = generation(organization)
        with time_machine.travel("2026-11-05T12:00:00Z", tick=False):
            subscription = subscriptions.change(organization=organization, plan=pro, user=owner)
        assert in_force(organization) == ("Pro", 1_000, 100_000)
        assert subscription.started_at == datetime(2026, 11, 5, 12, tzinfo=UTC)
        line = SubscriptionChange.objects.get()
        assert (line.organization, line.plan, line.changed_by) == (organization, pro, owner)
        assert (line.requests_per_minute, line.max_parallel, line.monthly_budget) == (None, None, None)
        assert generation(organization) == before + 1

    @pytest.mark.django_db(transaction=True)
    def test_the_next_request_is_held_to_it(self, organization, owner, pro):
        token = api_keys.create(organization=organization, user=owner, name="test")[1]
        assert limits.admit_other(token).limit == 100
        subscriptions.change(organization=organization, plan=pro, user=owner)
        assert limits.admit_other(token).limit == 1_000

    def test_what_changes_nothing_leaves_no_line(self, organization, owner, pro):
        for _ in range(2):
            subscriptions.change(
                organization=organization, plan=pro, user=owner, requests_per_minute=5, monthly_budget=Decimal(10)
            )
        before = generation(organization)
        subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("10.00"))
        subscriptions.set_caps(organization=organization, user=owner)
        assert SubscriptionChange.objects.count() == 1
        assert generation(organization) == before

    def test_being_put_on_starter_by_name_changes_nothing(self, organization, owner):
        subscriptions.change(organization=organization, plan=Plan.objects.get(slug="starter"), user=owner)
        assert Subscription.objects.get().started_at == organization.created_at
        assert not SubscriptionChange.objects.exists()

    def test_the_history_is_newest_first(self, organization, owner, pro, enterprise):
        subscriptions.change(organization=organization, plan=pro, user=owner)
        subscriptions.change(
            organization=organization, plan=enterprise, user=None, requests_per_minute=5_000, requests_per_month=10**6
        )
        lines = SubscriptionChange.objects.all()
        assert [(line.plan.slug, line.requests_per_minute, line.changed_by) for line in lines] == [
            ("enterprise", 5_000, None),
            ("pro", None, owner),
        ]
        assert in_force(organization) == ("Enterprise", 5_000, 10**6)

    def test_a_new_plan_brings_its_own_numbers_and_keeps_the_caps(self, organization, owner, pro, enterprise):
        subscriptions.change(
            organization=organization,
            plan=enterprise,
            user=owner,
            requests_per_minute=5_000,
            requests_per_month=10**6,
            monthly_budget=Decimal(500),
            max_parallel=8,
        )
        changed = subscriptions.change(organization=organization, plan=pro, user=owner)
        assert in_force(organization) == ("Pro", 1_000, 100_000)
        assert (changed.monthly_budget, changed.max_parallel) == (Decimal(500), 8)

    @pytest.mark.parametrize(
        ("numbers", "missing"),
        [
            ({}, {"requests_per_minute", "requests_per_month"}),
            ({"requests_per_minute": 5}, {"requests_per_month"}),
            ({"requests_per_month": 5}, {"requests_per_minute"}),
        ],
    )
    def test_enterprise_needs_its_two_numbers(self, organization, owner, enterprise, numbers, missing):
        with pytest.raises(errors.InvalidRequest, match="Enterprise has no number") as refused:
            subscriptions.change(organization=organization, plan=enterprise, user=owner, **numbers)
        assert set(refused.value.details) == missing
        assert not Subscription.objects.exists()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("requests_per_minute", -1),
            ("requests_per_month", 2**31),
            ("max_parallel", 0),
            ("monthly_budget", Decimal("-0.01")),
            ("monthly_budget", Decimal("1.001")),
            ("monthly_budget", Decimal("NaN")),
            ("monthly_budget", Decimal("1e30")),
        ],
    )
    def test_a_bad_number_is_refused_by_name(self, organization, owner, pro, field, value):
        with pytest.raises(errors.InvalidRequest) as refused:
            subscriptions.change(organization=organization, plan=pro, user=owner, **{field: value})
        assert refused.value.param == field
        assert not Subscription.objects.exists()
        assert not SubscriptionChange.objects.exists()

    def test_ending_goes_back_to_starter_once(self, organization, owner, pro):
        subscriptions.change(organization=organization, plan=pro, user=owner, monthly_budget=Decimal(5))
        before = generation(organization)
        subscriptions.end(organization=organization, user=owner)
        subscriptions.end(organization=organization, user=owner)
        assert in_force(organization) == ("Starter", 100, 10_000)
        assert generation(organization) == before + 1
        assert [line.plan.slug for line in SubscriptionChange.objects.all()] == ["starter", "pro"]

    @pytest.mark.django_db(transaction=True)
    def test_changes_at_once_queue_up(self, organization, owner, pro):
        """Each works on what the other left: of caps set apart neither is lost."""
        caps = ({"max_parallel": 3}, {"monthly_budget": Decimal(7)}, {"max_parallel": 4}, {"max_parallel": 5})
        start = threading.Barrier(len(caps))

        def run(cap):
            try:
                start.wait(10)
                subscriptions.set_caps(organization=organization, user=owner, **cap)
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(cap,)) for cap in caps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        subscription, newest = Subscription.objects.get(), SubscriptionChange.objects.first()
        assert newest is not None
        assert subscription.monthly_budget == newest.monthly_budget == Decimal(7)
        assert subscription.max_parallel == newest.max_parallel
        assert SubscriptionChange.objects.count() == len(caps)


class TestCaps:
    def test_an_organization_on_starter_can_have_them(self, organization, owner):
        subscription = subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("25.50"))
        assert (subscription.plan.slug, subscription.started_at) == ("starter", organization.created_at)
        subscriptions.set_caps(organization=organization, user=owner, max_parallel=2)
        stored = Subscription.objects.get()
        assert (stored.monthly_budget, stored.max_parallel) == (Decimal("25.50"), 2)
        assert SubscriptionChange.objects.count() == 2

    def test_none_takes_one_away(self, organization, owner):
        subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(5), max_parallel=2)
        subscriptions.set_caps(organization=organization, user=owner, monthly_budget=None)
        stored = Subscription.objects.get()
        assert (stored.monthly_budget, stored.max_parallel) == (None, 2)


class TestKeyLimits:
    def test_they_are_stored_and_announced(self, key, owner, organization):
        before = generation(organization)
        key_limits.set_limits(
            key=key, user=owner, requests_per_minute=5, requests_per_month=None, monthly_budget=Decimal("1.50")
        )
        stored = key_limits.of(key)
        assert (stored.requests_per_minute, stored.requests_per_month) == (5, None)
        assert stored.monthly_budget == Decimal("1.50")
        assert generation(organization) == before + 1

    @pytest.mark.django_db(transaction=True)
    def test_the_next_request_knows_them(self, organization, owner):
        key, token = api_keys.create(organization=organization, user=owner, name="CI")
        assert limits.admit_other(token).limit == 100
        key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {"requests_per_minute": 7})
        assert limits.admit_other(token).limit == 7

    def test_the_same_again_is_not_announced(self, key, owner, organization):
        key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {"monthly_budget": Decimal("1.5")})
        before = generation(organization)
        key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {"monthly_budget": Decimal("1.50")})
        assert generation(organization) == before

    def test_none_removes(self, key, owner, organization):
        key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {"requests_per_month": 7})
        before = generation(organization)
        key_limits.set_limits(key=key, user=owner, **NO_LIMITS)
        assert not KeyLimits.objects.exists()
        assert generation(organization) == before + 1

    def test_a_revoked_key_cannot_be_changed(self, key, owner):
        api_keys.revoke(key=key, user=owner)
        with pytest.raises(errors.InvalidRequest, match="revoked"):
            key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {"requests_per_month": 7})

    @pytest.mark.parametrize(
        ("field", "value"),
        [("requests_per_minute", -1), ("requests_per_month", 2**31), ("monthly_budget", Decimal("0.001"))],
    )
    def test_a_bad_number_is_refused_by_name(self, key, owner, field, value):
        with pytest.raises(errors.InvalidRequest) as refused:
            key_limits.set_limits(key=key, user=owner, **NO_LIMITS | {field: value})
        assert refused.value.param == field
        assert not KeyLimits.objects.exists()
