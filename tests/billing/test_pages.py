"""/dashboard/plan: the plan, what was used of it, and its caps."""

import re
from decimal import Decimal
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, Role
from billing import key_limits, plan_views, subscriptions
from billing.models import Plan, Subscription, SubscriptionChange
from billing.seeds import seed_plans
from tests import factories
from tests.billing.visits import EVIL, csrf_token, redis_is_away, signed_in, text_of, use

pytestmark = pytest.mark.django_db

PLAN = "/dashboard/plan"
CAPS = {"monthly_budget": "25", "max_parallel": "8"}


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def test_the_plan_is_shown_to_owner_and_member(owner, member, organization):
    for user in (owner, member):
        text = text_of(signed_in(user).get(PLAN))
        assert "Starter" in text
        assert "0 of 10,000" in text
        assert "Requests per minute 100" in text


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_plan_requires_a_login(client, method):
    response = getattr(client, method)(PLAN)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={PLAN}"


def test_the_plan_is_in_the_navigation(owner, organization):
    page = signed_in(owner).get(PLAN).content.decode()
    assert re.search(rf'<a [^>]*href="{PLAN}"[^>]*aria-current="page"', page)


def test_it_shows_what_was_used_beside_limits_and_budget(owner, organization, key):
    subscriptions.change(
        organization=organization,
        plan=Plan.objects.get(slug="pro"),
        user=None,
        monthly_budget=Decimal(20),
        max_parallel=16,
    )
    use(key, units=1234, cost="5.678", prompt=40_000, completion=2_000)
    text = text_of(signed_in(owner).get(PLAN))
    assert "1,234 of 100,000" in text
    assert "5.68 of 20.00 USD" in text
    assert "Tokens 42,000" in text
    assert "of 16 requests at once" in text
    assert "used up" not in text
    assert "is spent" not in text


def test_it_says_when_requests_or_budget_are_spent(owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(5))
    use(key, units=10_000, cost="5")
    text = text_of(signed_in(owner).get(PLAN))
    assert "This month's requests are used up" in text
    assert "This month's budget is spent" in text


def test_the_overview_says_so_too(owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(5))
    assert "is spent" not in text_of(signed_in(owner).get("/dashboard"))
    use(key, units=10_000, cost="5")
    text = text_of(signed_in(owner).get("/dashboard"))
    assert "This month’s requests are used up" in text
    assert "This month’s budget is spent" in text


def test_it_lists_keys_by_use_with_their_own_limits(owner, organization, key):
    newer, _ = api_keys.create(organization=organization, user=owner, name="Rarely used")
    use(key, units=70, cost="0.00001234")
    key_limits.set_limits(
        key=newer, user=owner, requests_per_minute=7, requests_per_month=None, monthly_budget=Decimal("2.5")
    )
    page = signed_in(owner).get(PLAN)
    rows = page.content.decode().split("This month by key")[-1].split("<tr>")
    assert [re.findall(r'href="([^"]+)"', row) for row in rows[2:4]] == [
        [f"/dashboard/api-keys/{key.public_id}"],
        [f"/dashboard/api-keys/{newer.public_id}"],
    ]
    assert "0.000012<" in rows[2]
    assert "None" in rows[2]
    assert "7 requests a minute" in rows[3]
    assert "2.50 USD a month" in rows[3]
    assert "requests a month" not in rows[3]


def test_a_long_list_of_keys_ends_with_how_many_more_there_are(owner, organization, monkeypatch):
    monkeypatch.setattr(plan_views, "KEYS", 2)
    for n in range(5):
        api_keys.create(organization=organization, user=owner, name=f"key-number-{n}")
    text = text_of(signed_in(owner).get(PLAN))
    assert len(re.findall(r"key-number-\d", text)) == 2
    assert "The other 3" in text


def test_without_redis_the_numbers_are_the_ledger_s(owner, organization, key, monkeypatch):
    use(key, units=321)
    redis_is_away(monkeypatch)
    text = text_of(signed_in(owner).get(PLAN))
    assert "321 of 10,000" in text
    assert "counters can't be read" in text
    assert "This minute" not in text


def test_with_redis_nothing_is_said_of_it(owner, organization):
    text = text_of(signed_in(owner).get(PLAN))
    assert "counters can't be read" not in text
    assert "This minute 0" in text


def test_requests_under_way_are_told_only_where_a_cap_has_them_counted(owner, organization):
    assert "Under way" not in text_of(signed_in(owner).get(PLAN))
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=None, max_parallel=8)
    assert "Under way 0 of 8 requests at once" in text_of(signed_in(owner).get(PLAN))


def test_an_organization_sees_its_own_only(outsider, owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal("77.77"))
    use(key, units=4321)
    text = text_of(signed_in(outsider).get(PLAN))
    assert key.hint not in text
    assert "77.77" not in text
    assert "0 of 10,000" in text


def test_who_is_in_several_organizations_chooses_here_and_stays_here(owner, organization):
    other = factories.organization(owner=owner, name="Second home")
    client = signed_in(owner)
    chosen = client.post("/dashboard/organization", {"organization": other.public_id, "page": "plan"})
    assert chosen["Location"] == PLAN
    assert "Second home in" in text_of(client.get(PLAN))


def test_a_choice_leads_to_no_other_page(owner, organization):
    client = signed_in(owner)
    for page in ("https://example.org", "profile"):
        chosen = client.post("/dashboard/organization", {"organization": organization.public_id, "page": page})
        assert chosen["Location"] == "/dashboard"


def test_a_first_visit_says_what_to_do_next(owner, member, organization):
    assert "Create key" in text_of(signed_in(owner).get(PLAN))
    text = text_of(signed_in(member).get(PLAN))
    assert "Ask an owner or admin" in text
    assert "Nothing has changed" in text


def test_it_tells_how_to_change_the_plan_and_how_far_a_budget_goes(owner, organization):
    page = signed_in(owner).get(PLAN)
    assert 'href="/dashboard/plan/upgrade"' in page.content.decode()
    assert "How far a budget can be overrun" in text_of(page)


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_owners_and_admins_set_caps(organization, role):
    user = factories.user("boss", organization=organization, role=role)
    client = signed_in(user)
    response = client.post(PLAN, CAPS, follow=True)
    assert response.redirect_chain == [(PLAN, 302)]
    assert "Saved." in unescape(response.content.decode())
    subscription = Subscription.objects.get()
    assert (subscription.monthly_budget, subscription.max_parallel) == (Decimal(25), 8)
    assert SubscriptionChange.objects.get().changed_by == user
    assert 'value="25.00"' in client.get(PLAN).content.decode()


def test_empty_lifts_a_cap(owner, organization):
    client = signed_in(owner)
    client.post(PLAN, CAPS)
    client.post(PLAN, {"monthly_budget": "", "max_parallel": ""})
    subscription = Subscription.objects.get()
    assert (subscription.monthly_budget, subscription.max_parallel) == (None, None)


def test_a_budget_of_zero_is_no_empty_one(owner, organization):
    signed_in(owner).post(PLAN, {"monthly_budget": "0", "max_parallel": ""})
    assert Subscription.objects.get().monthly_budget == 0
    assert "is spent" in text_of(signed_in(owner).get(PLAN))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("monthly_budget", "-1"),
        ("monthly_budget", "1,000"),
        ("monthly_budget", "1.005"),
        ("monthly_budget", "NaN"),
        ("monthly_budget", "99999999999"),
        ("monthly_budget", "plenty"),
        ("max_parallel", "0"),
        ("max_parallel", "-3"),
        ("max_parallel", "1.5"),
        ("max_parallel", "2147483648"),
        ("max_parallel", "9" * 5000),
        ("max_parallel", "<script>"),
    ],
)
def test_a_bad_cap_comes_back_with_its_error(owner, organization, field, value):
    response = signed_in(owner).post(PLAN, CAPS | {field: value})
    page = response.content.decode()
    assert response.status_code == 200
    assert 'role="alert"' in page
    assert f'id="id_{field}_error"' in page
    assert page.count("field__error") == 1
    assert "<script>" not in page.split("<main")[1]
    assert not Subscription.objects.exists()


def test_all_bad_caps_are_told_at_once(owner, organization):
    page = signed_in(owner).post(PLAN, {"monthly_budget": "1,000", "max_parallel": "0"}).content.decode()
    assert page.count("field__error") == 2


def test_a_member_reads_caps_and_why_they_cannot_be_changed(member, owner, organization):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(25), max_parallel=None)
    client = signed_in(member)
    page = client.get(PLAN)
    assert "<form" not in page.content.decode().split("<main")[1]
    assert "Only owners and admins of the organization manage its plan." in text_of(page)
    assert "25.00 USD" in text_of(page)
    assert "No cap" in text_of(page)
    assert client.post(PLAN, CAPS | {"monthly_budget": "1"}).status_code == 403
    assert Subscription.objects.get().monthly_budget == 25


def test_a_disabled_organization_looks_and_changes_nothing(owner, organization):
    organization.disabled_at = timezone.now()
    organization.save()
    client = signed_in(owner)
    assert "<form" not in client.get(PLAN).content.decode().split("<main")[1]
    assert "disabled" in text_of(client.get(PLAN))
    assert client.post(PLAN, CAPS).status_code == 403
    assert not Subscription.objects.exists()


def test_the_history_tells_who_changed_what(owner, organization):
    staff = factories.superuser("staff")
    enterprise = Plan.objects.get(slug="enterprise")
    subscriptions.change(
        organization=organization, plan=enterprise, user=staff, requests_per_minute=5_000, requests_per_month=10**6
    )
    signed_in(owner).post(PLAN, CAPS)
    page = signed_in(owner).get(PLAN).content.decode()
    newest, first = page.split("Changes of the plan")[-1].split("<tr>")[2:4]
    assert "owner@example.com" in newest
    assert ">25.00<" in newest
    assert "Support" in first
    assert "staff@example.com" not in page
    assert "1,000,000" in first


def test_caps_without_a_csrf_token_are_refused(owner, organization):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.post(PLAN, CAPS).status_code == 403
    assert not Subscription.objects.exists()
    assert client.post(PLAN, CAPS | {"csrfmiddlewaretoken": csrf_token(client.get(PLAN))}).status_code == 302


def test_script_in_a_name_is_inert(owner, organization):
    api_keys.create(organization=organization, user=owner, name=EVIL)
    page = signed_in(owner).get(PLAN).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("method", ["put", "delete"])
def test_other_methods_are_405(owner, organization, method):
    assert getattr(signed_in(owner), method)(PLAN).status_code == 405
