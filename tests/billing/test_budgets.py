"""Budgets from end to end: a price, a metered request, a refusal, a higher budget."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey
from billing import key_limits, subscriptions
from billing.admission import limits, snapshots
from billing.events import Tokens
from billing.metering import ledger
from billing.models import Price, UsageMonth, UsageRecord
from billing.prices import PriceBook
from helixflow.lib import ids
from tests.billing.usage_events import usage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cold_cache():
    snapshots.cache.clear()


@pytest.fixture(autouse=True)
def price(db) -> Price:
    """A dollar for a thousand tokens in, two for a thousand out."""
    return Price.objects.create(
        model="gpt-4", input=Decimal(1000), output=Decimal(2000), starts_at=timezone.now() - timedelta(days=1)
    )


@pytest.fixture
def token(organization, owner) -> str:
    return api_keys.create(organization=organization, user=owner, name="test")[1]


def outcome(token: str) -> str:
    verdict = asyncio.run(limits.admit(token, ids.uuid7(), "test"))
    return "admitted" if verdict.admitted else verdict.reason


def meter(organization, key: ApiKey, **tokens: int) -> UsageRecord:
    now = timezone.now()
    event = usage(at=now, id=ids.uuid7(), organization_id=organization.id, api_key_id=key.id, tokens=Tokens(**tokens))
    ledger.write([ledger.Entry(event)], book=PriceBook())
    return UsageRecord.objects.get(id=event.id)


def test_a_record_has_its_version_and_its_cost(organization, token, price):
    record = meter(organization, organization.api_keys.get(), input=200, output=50)
    assert (record.price_id, record.currency, record.cost) == (price.id, "USD", Decimal("0.3"))
    assert UsageMonth.objects.get().cost == Decimal("0.3")


def test_an_organization_s_budget_holds_from_the_request_after_the_one_that_reached_it(organization, owner, token):
    key = organization.api_keys.get()
    assert outcome(token) == "admitted"
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("0.50"))
    meter(organization, key, input=499)
    assert outcome(token) == "admitted"
    meter(organization, key, input=1)
    assert outcome(token) == "budget"
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("0.51"))
    assert outcome(token) == "admitted"
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=None)
    assert outcome(token) == "admitted"


def test_a_key_s_budget_is_that_key_s_alone(organization, owner, token):
    key = organization.api_keys.get()
    other = api_keys.create(organization=organization, user=owner, name="other")[1]
    key_limits.set_limits(
        key=key, user=owner, requests_per_minute=None, requests_per_month=None, monthly_budget=Decimal("0.50")
    )
    assert (outcome(token), outcome(other)) == ("admitted", "admitted")
    meter(organization, key, input=500)
    assert (outcome(token), outcome(other)) == ("key_budget", "admitted")


def test_a_budget_of_zero_refuses_everything(organization, owner, token):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(0))
    assert outcome(token) == "budget"


def test_a_month_that_is_seeded_knows_what_was_spent(organization, owner, token):
    meter(organization, organization.api_keys.get(), input=500)
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("0.50"))
    assert outcome(token) == "budget"


def test_parallel_requests_and_a_key_s_minute_are_capped_through_the_services(organization, owner, token):
    subscriptions.set_caps(organization=organization, user=owner, max_parallel=1)
    assert [outcome(token), outcome(token)] == ["admitted", "parallel"]
    subscriptions.set_caps(organization=organization, user=owner, max_parallel=None)
    key_limits.set_limits(
        key=organization.api_keys.get(),
        user=owner,
        requests_per_minute=0,
        requests_per_month=None,
        monthly_budget=None,
    )
    assert outcome(token) == "key_minute"


def test_what_nobody_has_priced_spends_no_budget(organization, owner, token):
    Price.objects.all().delete()
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("0.01"))
    record = meter(organization, organization.api_keys.get(), input=10**6)
    assert record.price_id is None
    assert record.cost == 0
    assert outcome(token) == "admitted"
