from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, Organization
from billing import key_limits, prices
from billing.models import KeyLimits, Plan, Price, Subscription, SubscriptionChange
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)  # as in life: an admin action has no transaction of its own


@pytest.fixture
def admin(db) -> Client:
    client = Client()
    client.force_login(factories.superuser("root"))
    return client


@pytest.fixture
def plan(db) -> Plan:
    return Plan.objects.create(slug="pro", name="Pro", requests_per_minute=1000, requests_per_month=100_000)


@pytest.fixture
def subscription(organization, plan) -> Subscription:
    return Subscription.objects.create(organization=organization, plan=plan)


@pytest.fixture
def started(db) -> Price:
    return Price.objects.create(
        model="gpt-4o", input=Decimal(2), output=Decimal(10), starts_at=timezone.now() - timedelta(days=1)
    )


@pytest.fixture
def coming(db) -> Price:
    return prices.add(
        model="gpt-4o", input=Decimal(3), output=Decimal(12), starts_at=timezone.now() + timedelta(days=1)
    )


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def limits(key, owner) -> KeyLimits:
    return key_limits.set_limits(
        key=key, user=owner, requests_per_minute=5, requests_per_month=None, monthly_budget=Decimal(7)
    )


def change_page(row) -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_change", args=[row.pk])


def delete_page(row) -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_delete", args=[row.pk])


def generation(organization) -> int:
    return Organization.objects.get(id=organization.id).generation


@pytest.mark.parametrize("name", ["plan", "subscription", "price", "keylimits", "subscriptionchange"])
@pytest.mark.parametrize("query", ["", "?q=pro", "?q=key_1"])
def test_the_lists_work_and_can_be_searched(admin, subscription, started, limits, name, query):
    assert admin.get(reverse(f"admin:billing_{name}_changelist") + query).status_code == 200


@pytest.mark.parametrize("name", ["plan", "subscription", "price", "keylimits", "subscriptionchange"])
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
            "started_at_0": "2020-01-01",
            "started_at_1": "00:00:00",
        },
    )
    started_at = subscription.started_at
    subscription.refresh_from_db()
    assert subscription.started_at == started_at
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


def test_the_history_says_what_was_changed_and_by_whom(admin, subscription):
    page = change_page(subscription)
    assert "None yet" in admin.get(page).content.decode()
    admin.post(page, {"plan": "pro", "monthly_budget": "12.50", "max_parallel": "3"})
    change = SubscriptionChange.objects.get()
    assert (str(change.changed_by), change.monthly_budget, change.max_parallel) == (
        "root@example.com",
        Decimal("12.50"),
        3,
    )
    shown = admin.get(page).content.decode()
    assert "Pro, max parallel 3, monthly budget 12.50, by root@example.com" in shown
    admin.post(page, {"plan": "pro", "monthly_budget": "12.5", "max_parallel": "3"})
    assert SubscriptionChange.objects.count() == 1


def test_enterprise_needs_its_two_numbers(admin, subscription):
    Plan.objects.create(slug="enterprise", name="Enterprise")
    response = admin.post(change_page(subscription), {"plan": "enterprise", "requests_per_minute": "500"})
    assert response.status_code == 200
    assert response.context["adminform"].form.errors.keys() == {"requests_per_month"}
    subscription.refresh_from_db()
    assert subscription.plan_id == "pro"


def test_a_million_fits_into_its_field(admin, subscription):
    form = admin.get(change_page(subscription)).context["adminform"].form
    assert "vBigIntegerField" in str(form["requests_per_month"])


def test_a_deleted_subscription_leaves_its_history(admin, subscription):
    Plan.objects.create(slug="starter", name="Starter", requests_per_minute=100, requests_per_month=10_000)
    admin.post(delete_page(subscription), {"post": "yes"})
    assert SubscriptionChange.objects.get().plan_id == "starter"


def test_nobody_edits_history(admin, subscription):
    admin.post(change_page(subscription), {"plan": "pro", "max_parallel": "3"})
    change = SubscriptionChange.objects.get()
    assert admin.get(change_page(change)).status_code == 200
    assert admin.post(change_page(change), {"max_parallel": "9"}).status_code == 403
    assert admin.post(delete_page(change), {"post": "yes"}).status_code == 403
    assert admin.get(reverse("admin:billing_subscriptionchange_add")).status_code == 403


class TestPrices:
    ADD = "admin:billing_price_add"

    def test_a_version_starts_as_soon_as_it_can(self, admin):
        response = admin.post(reverse(self.ADD), {"model": "gpt-4o", "input": "2.5", "output": "10"})
        assert response.status_code == 302
        made = Price.objects.get()
        assert timedelta(0) < made.starts_at - timezone.now() <= prices.NOTICE
        assert (made.currency, made.input, made.cached_input) == ("USD", Decimal("2.5"), None)

    def test_the_form_offers_no_time_and_no_currency(self, admin, settings):
        form = admin.get(reverse(self.ADD)).context["adminform"].form
        assert form["starts_at"].value() is None
        assert "currency" not in form.fields

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"starts_at_0": "2020-01-01", "starts_at_1": "00:00:00"}, "starts_at"),
            ({"model": "two words"}, "model"),
            ({"input": "-1"}, "input"),
            ({"output": ""}, "output"),
            ({"reasoning": "0.0000001"}, "reasoning"),
        ],
    )
    def test_a_bad_field_is_shown(self, admin, fields, wrong):
        response = admin.post(reverse(self.ADD), {"model": "gpt-4o", "input": "2.5", "output": "10"} | fields)
        assert response.context["adminform"].form.errors.keys() == {wrong}
        assert not Price.objects.exists()

    def test_one_that_has_started_can_only_be_looked_at(self, admin, started):
        assert admin.get(change_page(started)).status_code == 200
        assert admin.post(change_page(started), {"input": "1", "output": "1"}).status_code == 403
        assert admin.post(delete_page(started), {"post": "yes"}).status_code == 403
        admin.post(
            reverse("admin:billing_price_changelist"),
            {"action": "delete_selected", "_selected_action": [str(started.pk)], "post": "yes"},
        )
        started.refresh_from_db()
        assert started.input == 2

    def test_one_to_come_can_be_changed_and_deleted(self, admin, coming):
        fields = {"input": "4", "output": "12", "starts_at_0": "2099-01-01", "starts_at_1": "00:00:00"}
        assert admin.post(change_page(coming), fields).status_code == 302
        coming.refresh_from_db()
        assert (coming.input, coming.starts_at.year, coming.model) == (4, 2099, "gpt-4o")
        without = {"input": "4", "output": "12", "starts_at_0": "", "starts_at_1": ""}
        assert admin.post(change_page(coming), without).context["adminform"].form.errors.keys() == {"starts_at"}
        admin.post(delete_page(coming), {"post": "yes"})
        assert not Price.objects.exists()

    def test_those_to_come_can_be_deleted_together(self, admin, coming):
        admin.post(
            reverse("admin:billing_price_changelist"),
            {"action": "delete_selected", "_selected_action": [str(coming.pk)], "post": "yes"},
        )
        assert not Price.objects.exists()

    def test_the_list_says_which_is_in_force(self, admin, started, coming):
        Price.objects.create(
            model="gpt-4o", input=Decimal(1), output=Decimal(1), starts_at=timezone.now() - timedelta(days=9)
        )
        rows = admin.get(reverse("admin:billing_price_changelist")).content.decode()
        assert [rows.count(f">{state}<") for state in ("to come", "in force", "past")] == [1, 1, 1]

    def test_one_that_is_about_to_start_is_not_past(self, admin):
        prices.add(model="gpt-4o", input=Decimal(1), output=Decimal(1))
        rows = admin.get(reverse("admin:billing_price_changelist")).content.decode()
        assert ">to come<" in rows

    def test_the_form_says_what_an_amount_is(self, admin):
        assert "USD per million tokens" in admin.get(reverse(self.ADD)).content.decode()


class TestKeyLimits:
    def test_they_are_made_changed_and_lifted(self, admin, organization, key):
        before = generation(organization)
        admin.post(reverse("admin:billing_keylimits_add"), {"api_key": str(key.pk), "requests_per_minute": "5"})
        row = KeyLimits.objects.get()
        assert (row.api_key, row.requests_per_minute) == (key, 5)
        assert admin.post(change_page(row), {"monthly_budget": "2.50"}).status_code == 302
        row.refresh_from_db()
        assert (row.requests_per_minute, row.monthly_budget) == (None, Decimal("2.50"))
        admin.post(delete_page(row), {"post": "yes"})
        assert not KeyLimits.objects.exists()
        assert generation(organization) == before + 3

    def test_several_are_lifted_together(self, admin, limits):
        admin.post(
            reverse("admin:billing_keylimits_changelist"),
            {"action": "delete_selected", "_selected_action": [str(limits.pk)], "post": "yes"},
        )
        assert not KeyLimits.objects.exists()

    def test_no_limit_at_all_is_not_a_row(self, admin, key):
        response = admin.post(reverse("admin:billing_keylimits_add"), {"api_key": str(key.pk)})
        assert "at least one limit" in response.content.decode()

    def test_a_revoked_key_s_can_only_be_looked_at(self, admin, owner, key, limits):
        api_keys.revoke(key=key, user=owner)
        assert admin.get(change_page(limits)).status_code == 200
        assert admin.post(change_page(limits), {"requests_per_minute": "9"}).status_code == 403
        assert admin.post(delete_page(limits), {"post": "yes"}).status_code == 403
        KeyLimits.objects.all().delete()
        response = admin.post(
            reverse("admin:billing_keylimits_add"), {"api_key": str(key.pk), "requests_per_minute": "5"}
        )
        assert response.context["adminform"].form.errors.keys() == {"api_key"}

    def test_they_are_found_by_the_key_s_id(self, admin, key, limits):
        page = reverse("admin:billing_keylimits_changelist")
        assert key.hint in admin.get(page, {"q": key.public_id}).content.decode()
        assert key.hint not in admin.get(page, {"q": "key_" + "0" * 22}).content.decode()
