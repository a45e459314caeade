"""What each month came to: pages and file add up to the ledger; and where the month is going."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine

from accounts import api_keys
from billing import invoice_views, invoices, projection
from billing.events import Tokens
from billing.models import UsageMonth
from billing.rollup_models import UsageHour
from billing.seeds import seed_plans
from tests.billing.usage_events import usage, write
from tests.billing.visits import EVIL, signed_in, text_of

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
BILLING = "/dashboard/billing"


@pytest.fixture(autouse=True)
def _now(db):
    seed_plans()
    with time_machine.travel(NOW):
        yield


@pytest.fixture
def key(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def spend(key, at, **fields):
    """A cent and a half by default: ten tokens in, five out, a thousandth of a dollar each."""
    given = {"organization_id": key.organization_id, "api_key_id": key.id}
    write(usage(at=at, **given, **fields))


def rows_of(response) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_a_month_is_told_by_model_and_by_key_and_adds_up(owner, organization, key):
    other, _ = api_keys.create(organization=organization, user=owner, name="Website")
    spend(key, NOW)
    spend(key, NOW, model="gpt-3.5-turbo", tokens=Tokens(input=1_000, output=500))
    spend(other, NOW)
    text = text_of(signed_in(owner).get(f"{BILLING}/2026-11"))
    assert "So far this month 1.53 USD" in text
    assert "gpt-3.5-turbo 1 1,000 0 500 1.50" in text
    assert "gpt-4 2 20 0 10 0.03" in text
    assert f"CI {key.hint} 2 1,010 0 505 1.5" in text
    assert text.count("Total 3 1,020 0 510 1.53") == 2
    assert "Not an invoice yet" in text
    assert "turn of the month" not in text


def test_a_request_at_the_turn_of_the_month_is_a_line_of_its_own(owner, organization, key):
    before = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    spend(key, before, month=202611)
    spend(key, NOW)
    statement = invoices.of(organization, 202611, now=NOW)
    assert (statement.month.requests, statement.month.cost) == (2, Decimal("0.030"))
    assert statement.turn is not None
    assert (statement.turn.requests, statement.turn.cost) == (1, Decimal("0.015"))
    assert sum((line.cost for line in statement.by_model), statement.turn.cost) == statement.month.cost


def test_months_are_listed_back_to_the_first(owner, organization, key, monkeypatch):
    for month in range(1, 6):
        spend(key, datetime(2026, month, 3, tzinfo=UTC))
    monkeypatch.setattr(invoice_views, "LISTED", 3)
    client = signed_in(owner)
    newest = client.get(BILLING)
    assert [f"{name} 2026" in text_of(newest) for name in ("May", "March", "February")] == [True, True, False]
    assert f'href="{BILLING}?before=2026-03"' in newest.content.decode()
    oldest = text_of(client.get(f"{BILLING}?before=2026-03"))
    assert "February 2026" in oldest
    assert "January 2026" in oldest
    assert "Older" not in oldest


def test_the_plan_page_lists_the_latest(owner, organization, key):
    spend(key, datetime(2026, 9, 3, tzinfo=UTC))
    assert "September 2026 1 0.02" in text_of(signed_in(owner).get("/dashboard/plan"))


def test_the_file_has_a_line_for_each_key_and_model(owner, organization, key):
    spend(key, NOW)
    spend(key, NOW, model="gpt-3.5-turbo")
    spend(key, datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), month=202611)
    response = signed_in(owner).get(f"{BILLING}/2026-11.csv")
    assert response["Content-Disposition"] == 'attachment; filename="helixflow-2026-11.csv"'
    rows = rows_of(response)
    assert [(row["model"], row["requests"], row["cost"]) for row in rows] == [
        ("gpt-3.5-turbo", "1", "0.015"),
        ("gpt-4", "1", "0.015"),
        ("", "1", "0.015"),
    ]
    assert rows[0]["api_key_id"] == key.public_id


def test_a_name_is_neither_a_formula_nor_script(owner, organization):
    for name in ("=1+1", EVIL):
        key, _ = api_keys.create(organization=organization, user=owner, name=name)
        spend(key, NOW, model="+cmd")
    rows = rows_of(signed_in(owner).get(f"{BILLING}/2026-11.csv"))
    assert sorted(row["api_key"] for row in rows) == ["'=1+1", EVIL]
    assert {row["model"] for row in rows} == {"'+cmd"}
    assert EVIL not in signed_in(owner).get(f"{BILLING}/2026-11").content.decode()


def test_a_long_list_ends_with_the_rest_of_it(owner, organization, key, monkeypatch):
    monkeypatch.setattr(invoice_views, "SHOWN", 3)
    for n in range(5):
        spend(key, NOW, model=f"model-{n}")
    text = text_of(signed_in(owner).get(f"{BILLING}/2026-11"))
    assert "3 other models 3 30 0 15" in text


@pytest.mark.parametrize("month", ["2026-12", "2026-13", "2026-1", "1999-01", "now", "٢٠٢٦-١١", "2026-11-01"])
def test_what_is_no_month_or_is_to_come_is_404(owner, organization, month):
    assert signed_in(owner).get(f"{BILLING}/{month}").status_code == 404
    assert signed_in(owner).get(f"{BILLING}/{month}.csv").status_code == 404


def test_a_month_without_use_is_empty(owner, organization):
    assert "Nothing was used" in text_of(signed_in(owner).get(f"{BILLING}/2026-10"))


def test_an_organization_sees_its_own_only(outsider, organization, key):
    spend(key, NOW)
    client = signed_in(outsider)
    assert "Nothing was used" in text_of(client.get(f"{BILLING}/2026-11"))
    assert rows_of(client.get(f"{BILLING}/2026-11.csv")) == []
    assert "Nothing was used yet" in text_of(client.get(BILLING))


def test_members_see_it_and_strangers_log_in(member, client):
    assert signed_in(member).get(f"{BILLING}/2026-11").status_code == 200
    for path in (BILLING, f"{BILLING}/2026-11", f"{BILLING}/2026-11.csv"):
        assert client.get(path)["Location"].startswith("/login")


def test_pages_cost_few_queries(owner, organization, key, django_assert_max_num_queries):
    for n in range(5):
        spend(api_keys.create(organization=organization, user=owner, name=f"k{n}")[0], NOW)
    client = signed_in(owner)
    for path in (BILLING, f"{BILLING}/2026-11"):
        with django_assert_max_num_queries(12):
            client.get(path)


class TestProjection:
    def of(self, organization, **known):
        given: dict[str, Any] = {
            "used": 1_000,
            "cost": Decimal(10),
            "month_limit": 10_000,
            "budget": Decimal(20),
        } | known
        return projection.of(organization, now=NOW, **given)

    def hours(self, organization, key, days, *, units=1, cost="0.01"):
        """As long as the organization has been there."""
        organization.created_at = start = NOW - timedelta(days=days)
        organization.save()
        UsageHour.objects.bulk_create(
            UsageHour(organization=organization, api_key=key, hour=start + timedelta(hours=n), units=units, cost=cost)
            for n in range(24 * days)
        )

    def test_it_goes_on_like_the_last_seven_days(self, organization, key):
        self.hours(organization, key, 10)
        found = self.of(organization)
        assert (found.units_a_day, found.cost_a_day, found.days) == (24, Decimal("0.24"), 7)
        assert found.units == 1_000 + 24 * 31 // 2  # fifteen days and a half are left
        assert found.cost == Decimal(10) + Decimal("0.24") * 31 / 2
        assert found.quota_reached_at is None
        assert found.budget_reached_at is None

    def test_it_says_when_quota_and_budget_are_reached(self, organization, key):
        self.hours(organization, key, 8, units=100, cost="0.10")
        found = self.of(organization, used=7_600, cost=Decimal("17.6"))
        assert found.quota_reached_at == NOW + timedelta(days=1)
        assert found.budget_reached_at == NOW + timedelta(days=1)
        assert self.of(organization, used=10_000, cost=Decimal(20)).quota_reached_at is None

    def test_a_young_organization_is_judged_by_its_own_days(self, organization, key):
        self.hours(organization, key, 2)
        assert (self.of(organization).units_a_day, self.of(organization).days) == (24, 2)

    def test_nothing_is_said_before_there_is_a_day(self, organization, key):
        start = NOW - timedelta(hours=3)
        UsageHour.objects.create(organization=organization, api_key=key, hour=start, units=5)
        assert self.of(organization) is None

    def test_nothing_is_said_where_nothing_was_used(self, organization, key):
        organization.created_at = NOW - timedelta(days=30)
        assert self.of(organization) is None

    def test_the_page_tells_it(self, owner, organization, key):
        self.hours(organization, key, 8)
        UsageMonth.objects.create(organization=organization, api_key=key, month=NOW.date().replace(day=1), units=24)
        text = text_of(signed_in(owner).get("/dashboard/plan"))
        assert "The rate is that of the last 7 days: 24 requests" in text
