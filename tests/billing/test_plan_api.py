"""GET and PATCH /v1/plan."""

import json
from decimal import Decimal

import pytest
import time_machine
from django.test import Client

from accounts import api_keys, jwt, sessions
from accounts.models import Role
from billing import subscriptions
from billing.models import Plan, Subscription, SubscriptionChange, UsageMonth
from billing.seeds import seed_plans
from helixflow.lib import clock
from tests import factories

pytestmark = pytest.mark.django_db

URL = "/v1/plan"


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


def api(user, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def patch(client: Client, body: object):
    return client.patch(URL, json.dumps(body), "application/json")


def test_an_organization_without_a_subscription_is_on_starter(owner, organization):
    response = api(owner).get(URL)
    assert response.status_code == 200
    assert response.json()["data"] == {
        "object": "plan",
        "slug": "starter",
        "name": "Starter",
        "requests_per_minute": 100,
        "requests_per_month": 10_000,
        "max_parallel": None,
        "monthly_budget": None,
        "currency": "USD",
        "spent_this_month": "0.00",
        "subscribed_since": clock.rfc3339(organization.created_at),
        "history": [],
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_trailing_slash_is_optional(owner, organization, slash):
    assert api(owner).get(URL + slash).status_code == 200


def test_it_shows_numbers_of_its_own_and_how_they_came_about(owner, organization):
    with time_machine.travel("2026-11-05T12:00:00Z", tick=False):
        subscriptions.change(organization=organization, plan=Plan.objects.get(slug="pro"), user=None)
    with time_machine.travel("2026-11-06T12:00:00Z", tick=False):
        subscriptions.change(
            organization=organization,
            plan=Plan.objects.get(slug="enterprise"),
            user=owner,
            requests_per_minute=5_000,
            requests_per_month=10**6,
            monthly_budget=Decimal(250),
            max_parallel=16,
        )
    data = api(owner).get(URL).json()["data"]
    assert {name: data[name] for name in ("slug", "name", "requests_per_minute", "requests_per_month")} == {
        "slug": "enterprise",
        "name": "Enterprise",
        "requests_per_minute": 5_000,
        "requests_per_month": 10**6,
    }
    assert (data["monthly_budget"], data["max_parallel"]) == ("250.00", 16)
    assert data["subscribed_since"] == "2026-11-06T12:00:00Z"
    assert data["history"] == [
        {
            "plan": "enterprise",
            "requests_per_minute": 5_000,
            "requests_per_month": 10**6,
            "max_parallel": 16,
            "monthly_budget": "250.00",
            "changed_by": owner.public_id,
            "changed_at": "2026-11-06T12:00:00Z",
        },
        {
            "plan": "pro",
            "requests_per_minute": None,
            "requests_per_month": None,
            "max_parallel": None,
            "monthly_budget": None,
            "changed_by": None,
            "changed_at": "2026-11-05T12:00:00Z",
        },
    ]


def test_it_shows_what_was_spent_this_month_by_all_keys(owner, organization, outsider):
    for name in ("a", "b"):
        api_keys.create(organization=organization, user=owner, name=name)
    first, second = organization.api_keys.all()
    other = outsider.memberships.get().organization
    for key, month, cost in (
        (first, "2026-11-01", "1.25"),
        (second, "2026-11-01", "0.000000000001"),
        (first, "2026-10-01", "99"),
    ):
        UsageMonth.objects.create(organization=organization, api_key=key, month=month, cost=Decimal(cost))
    UsageMonth.objects.create(organization=other, api_key=first, month="2026-11-01", cost=Decimal(7))
    with time_machine.travel("2026-11-30T23:59:59Z", tick=False):
        assert api(owner).get(URL).json()["data"]["spent_this_month"] == "1.250000000001"
    with time_machine.travel("2026-12-01T00:00:00Z", tick=False):
        assert api(owner).get(URL).json()["data"]["spent_this_month"] == "0.00"


def test_the_history_is_the_latest_twenty(owner, organization):
    for number in range(1, 26):
        subscriptions.set_caps(organization=organization, user=owner, max_parallel=number)
    history = api(owner).get(URL).json()["data"]["history"]
    assert [line["max_parallel"] for line in history] == list(range(25, 5, -1))


def test_it_costs_the_same_with_a_long_history(owner, organization, django_assert_max_num_queries):
    for number in range(1, 10):
        subscriptions.set_caps(organization=organization, user=owner, max_parallel=number)
    caller = api(owner)
    with django_assert_max_num_queries(6):  # session, membership, subscription, limits, spent, history
        caller.get(URL)


def test_it_requires_credentials(client):
    for response in (client.get(URL), patch(client, {})):
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "authentication_failed"


def test_an_api_key_is_no_login(owner, organization):
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    assert client.get(URL).status_code == patch(client, {"max_parallel": 1}).status_code == 401


def test_a_member_reads_and_does_not_change(member, organization):
    assert api(member).get(URL).status_code == 200
    response = patch(api(member), {"monthly_budget": "5.00"})
    assert response.status_code == 403
    assert "manage its plan" in response.json()["error"]["message"]
    assert not Subscription.objects.exists()


def test_an_admin_changes(organization):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    assert patch(api(admin), {"monthly_budget": "5.00"}).status_code == 200


def test_an_outsider_sees_their_own(outsider, owner, organization):
    subscriptions.set_caps(organization=organization, user=owner, max_parallel=3)
    assert api(outsider).get(URL).json()["data"]["max_parallel"] is None
    named = api(outsider, **{"X-HelixFlow-Organization": organization.public_id})
    assert named.get(URL).status_code == patch(named, {"max_parallel": 1}).status_code == 404


def test_caps_are_set_and_taken_away(owner, organization):
    response = patch(api(owner), {"monthly_budget": "25.5", "max_parallel": 4})
    assert response.status_code == 200
    data = response.json()["data"]
    assert (data["monthly_budget"], data["max_parallel"]) == ("25.50", 4)
    assert data["history"][0]["changed_by"] == owner.public_id
    data = patch(api(owner), {"monthly_budget": None}).json()["data"]
    assert (data["monthly_budget"], data["max_parallel"]) == (None, 4)


def test_the_history_does_not_name_our_staff(owner, organization):
    subscriptions.set_caps(organization=organization, user=factories.superuser("support"), max_parallel=3)
    assert api(owner).get(URL).json()["data"]["history"][0]["changed_by"] is None


def test_a_patch_without_a_change_leaves_no_history(owner, organization):
    assert patch(api(owner), {}).json()["data"]["history"] == []
    assert patch(api(owner), {"monthly_budget": None}).status_code == 200
    assert not SubscriptionChange.objects.exists()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"monthly_budget": 25}, "monthly_budget"),
        ({"monthly_budget": 25.5}, "monthly_budget"),
        ({"monthly_budget": "25.555"}, "monthly_budget"),
        ({"monthly_budget": "-1"}, "monthly_budget"),
        ({"monthly_budget": "1e3"}, "monthly_budget"),
        ({"monthly_budget": "NaN"}, "monthly_budget"),
        ({"monthly_budget": " 5"}, "monthly_budget"),
        ({"monthly_budget": "٣"}, "monthly_budget"),
        ({"monthly_budget": "5\n"}, "monthly_budget"),
        ({"monthly_budget": ""}, "monthly_budget"),
        ({"monthly_budget": "12345678901"}, "monthly_budget"),
        ({"monthly_budget": True}, "monthly_budget"),
        ({"monthly_budget": []}, "monthly_budget"),
        ({"max_parallel": 0}, "max_parallel"),
        ({"max_parallel": -1}, "max_parallel"),
        ({"max_parallel": 2**31}, "max_parallel"),
        ({"max_parallel": 2**70}, "max_parallel"),
        ({"max_parallel": "4"}, "max_parallel"),
        ({"max_parallel": 1.0}, "max_parallel"),
        ({"max_parallel": True}, "max_parallel"),
        ({"plan": "enterprise"}, "plan"),
        ({"requests_per_minute": 10**6}, "requests_per_minute"),
        ({"requests_per_month": 10**6, "max_parallel": 1}, "requests_per_month"),
        ({"organization_id": "org-1"}, "organization_id"),
        ({"started_at": "2026-01-01T00:00:00Z"}, "started_at"),
    ],
)
def test_a_bad_field_is_refused_by_name(owner, organization, body, param):
    response = patch(api(owner), body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert param in error["details"]
    assert not Subscription.objects.exists()


def test_the_plan_itself_is_for_our_staff_to_change(owner, organization, settings):
    message = patch(api(owner), {"plan": "enterprise"}).json()["error"]["message"]
    assert settings.SUPPORT_EMAIL in message


def test_of_several_organizations_one_is_named(owner, organization):
    second = factories.organization(owner=owner, name="Second")
    assert api(owner).get(URL).status_code == 400
    assert patch(api(owner), {"max_parallel": 1}).status_code == 400
    there = api(owner, **{"X-HelixFlow-Organization": second.public_id})
    assert patch(there, {"max_parallel": 1}).status_code == 200
    assert Subscription.objects.get().organization == second


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_other_methods_are_405(owner, organization, method):
    assert getattr(api(owner), method)(URL).status_code == 405
