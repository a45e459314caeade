import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from billing.models import Plan, Subscription

pytestmark = pytest.mark.django_db(transaction=True)  # as in life: an admin action has no transaction of its own


@pytest.fixture
def admin(db) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com", "correct horse 42"))
    return client


@pytest.fixture
def plan(db) -> Plan:
    return Plan.objects.create(slug="pro", name="Pro", requests_per_minute=1000, requests_per_month=100_000)


@pytest.fixture
def subscription(organization, plan) -> Subscription:
    return Subscription.objects.create(organization=organization, plan=plan)


def generation(organization) -> int:
    return Organization.objects.get(id=organization.id).generation


@pytest.mark.parametrize("name", ["plan", "subscription"])
@pytest.mark.parametrize("query", ["", "?q=pro"])
def test_the_lists_work_and_can_be_searched(admin, subscription, name, query):
    assert admin.get(reverse(f"admin:billing_{name}_changelist") + query).status_code == 200


@pytest.mark.parametrize("name", ["plan", "subscription"])
def test_the_admin_is_for_staff(client, owner, subscription, name):
    client.force_login(owner)
    assert client.get(reverse(f"admin:billing_{name}_changelist")).status_code == 302


def test_a_new_subscription_is_announced(admin, organization, plan):
    before = generation(organization)
    response = admin.post(
        reverse("admin:billing_subscription_add"),
        {
            "organization": str(organization.pk),
            "plan": "pro",
            "started_at_0": "2026-01-01",
            "started_at_1": "00:00:00",
        },
    )
    assert response.status_code == 302
    assert Subscription.objects.get().organization == organization
    assert generation(organization) == before + 1


def test_an_organization_s_own_numbers_are_announced_and_it_cannot_be_moved(
    admin, organization, subscription, outsider
):
    before = generation(organization)
    other = outsider.memberships.get().organization
    admin.post(
        reverse("admin:billing_subscription_change", args=[subscription.pk]),
        {
            "organization": str(other.pk),
            "plan": "pro",
            "requests_per_minute": "7",
            "started_at_0": "2026-01-01",
            "started_at_1": "00:00:00",
        },
    )
    subscription.refresh_from_db()
    assert (subscription.requests_per_minute, subscription.organization) == (7, organization)
    assert generation(organization) == before + 1


def test_deleting_is_announced(admin, organization, subscription):
    before = generation(organization)
    admin.post(reverse("admin:billing_subscription_delete", args=[subscription.pk]), {"post": "yes"})
    assert not Subscription.objects.exists()
    assert generation(organization) == before + 1


def test_deleting_several_is_announced(admin, organization, subscription):
    before = generation(organization)
    admin.post(
        reverse("admin:billing_subscription_changelist"),
        {"action": "delete_selected", "_selected_action": [str(subscription.pk)], "post": "yes"},
    )
    assert not Subscription.objects.exists()
    assert generation(organization) == before + 1


def test_a_plan_in_use_cannot_be_deleted(admin, subscription):
    admin.post(reverse("admin:billing_plan_delete", args=["pro"]), {"post": "yes"})
    assert Plan.objects.filter(slug="pro").exists()
