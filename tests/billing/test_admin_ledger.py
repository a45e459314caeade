"""The ledger in the admin: found by any id, paged without counting, never edited."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import api_keys
from accounts.models import ApiKey
from billing.models import Refusal, UsageMonth, UsageRecord, UsageReject
from helixflow.lib import ids
from tests import factories

pytestmark = pytest.mark.django_db

T0 = datetime(2026, 11, 20, tzinfo=UTC)
LEDGER = ("usagerecord", "usagemonth", "refusal", "usagereject")


@pytest.fixture
def admin(db) -> Client:
    client = Client()
    client.force_login(factories.superuser("root"))
    return client


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def record(organization_id, api_key_id, number=0, **fields) -> UsageRecord:
    return UsageRecord.objects.create(
        **{
            "id": ids.first_at(T0 + timedelta(seconds=number)),
            "organization_id": organization_id,
            "api_key_id": api_key_id,
            "month": "2026-11-01",
            "units": 1,
            "model": f"gpt-{number}",
            "status": 200,
            "streamed": False,
            "usage_source": "provider",
            "duration_ms": 12.5,
            "settled_by": "gateway",
        }
        | fields
    )


def ledger(organization, key):
    """A row of each kind."""
    return (
        record(organization.id, key.id, cost=Decimal("0.0125"), currency="USD", price_id=ids.uuid7()),
        UsageMonth.objects.create(organization=organization, api_key=key, month="2026-11-01", units=3),
        Refusal.objects.create(organization=organization, api_key=key, minute=T0, reason="minute", count=9),
        UsageReject.objects.create(stream="{s01}:usage", entry_id="1-0", payload=b'{"a": "\xff"}', reason="not JSON"),
    )


def listed(client: Client, name: str, **query: str) -> str:
    response = client.get(reverse(f"admin:billing_{name}_changelist"), query)
    assert response.status_code == 200
    return str(response.content.decode())


def page_of(row, verb: str = "change") -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_{verb}", args=[row.pk])


def test_every_kind_can_be_looked_at_and_nothing_can_be_edited(admin, organization, key):
    for row in ledger(organization, key):
        assert admin.get(page_of(row)).status_code == 200
        assert admin.post(page_of(row), {"status": 1, "count": 1}).status_code == 403
        assert admin.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
        assert admin.get(reverse(f"admin:billing_{row._meta.model_name}_add")).status_code == 403
        assert str(row.pk) in listed(admin, row._meta.model_name)


@pytest.mark.parametrize("name", LEDGER)
def test_the_admin_is_for_staff(client, owner, name):
    client.force_login(owner)
    assert client.get(reverse(f"admin:billing_{name}_changelist")).status_code == 302


def test_records_are_found_by_any_of_their_ids_and_by_people(admin, organization, owner, outsider, key):
    found = record(organization.id, key.id, 1)
    other = outsider.memberships.get().organization
    record(other.id, ids.uuid7(), 2)
    for term in (
        found.public_id,
        ids.public_id(ids.COMPLETION, found.id),
        ids.public_id(ids.TEXT_COMPLETION, found.id),
        organization.public_id,
        key.public_id,
        f" {key.public_id} ",
        owner.email,
    ):
        shown = listed(admin, "usagerecord", q=term)
        assert "gpt-1" in shown, term
        assert "gpt-2" not in shown, term
    for term in ("nobody@example.com", ids.public_id(ids.REQUEST, ids.uuid7()), "'; --"):
        assert "gpt-" not in listed(admin, "usagerecord", q=term)


def test_a_record_outlives_its_organization_and_key(admin):
    row = record(ids.uuid7(), ids.uuid7(), 3)
    assert ids.public_id(ids.ORGANIZATION, row.organization_id) in listed(admin, "usagerecord")
    assert ids.public_id(ids.API_KEY, row.api_key_id) in admin.get(page_of(row)).content.decode()


def test_pages_are_by_key_and_nothing_is_counted(admin, organization, key):
    for number in range(120):
        record(organization.id, key.id, number)
    url, seen = reverse("admin:billing_usagerecord_changelist"), []
    while url:
        with CaptureQueriesContext(connection) as queries:
            response = admin.get(url)
        records = [query["sql"] for query in queries if "billing_usagerecord" in query["sql"]]
        assert len(records) == 1
        assert "COUNT(" not in records[0]
        assert "OFFSET" not in records[0]
        changes = response.context["cl"]
        seen += [row.model for row in changes.result_list]
        url = changes.next_url and reverse("admin:billing_usagerecord_changelist") + changes.next_url
    assert seen == [f"gpt-{number}" for number in reversed(range(120))]


def test_a_search_goes_on_over_pages(admin, organization, key):
    for number in range(60):
        record(organization.id, key.id, number)
        record(ids.uuid7(), ids.uuid7(), 1000 + number)
    changes = admin.get(reverse("admin:billing_usagerecord_changelist"), {"q": key.public_id}).context["cl"]
    older = admin.get(reverse("admin:billing_usagerecord_changelist") + changes.next_url).context["cl"]
    assert [row.model for row in older.result_list] == [f"gpt-{number}" for number in reversed(range(10))]


@pytest.mark.parametrize("name", LEDGER)
def test_a_bad_page_leads_back_to_the_list(admin, name):
    response = admin.get(reverse(f"admin:billing_{name}_changelist"), {"older_than": "x"})
    assert response.status_code == 302


def test_a_record_names_its_user_as_the_api_does(admin, owner, organization, key):
    made = record(organization.id, key.id, 5)
    UsageRecord.objects.update(user_id=owner.id)
    assert owner.public_id in admin.get(page_of(made)).content.decode()


def test_costs_and_payloads_are_readable(admin, organization, key):
    priced, _, _, reject = ledger(organization, key)
    assert "0.0125 USD" in admin.get(page_of(priced)).content.decode()
    assert "no price" in admin.get(page_of(record(organization.id, key.id, 5))).content.decode()
    assert "\\xff" in admin.get(page_of(reject)).content.decode()
