"""The overview: what it says of today beside yesterday, to whom, and what it costs."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts import api_keys
from accounts.models import ApiKey, Organization, User
from billing import events, subscriptions
from billing.admission import limits
from billing.metering import ledger
from billing.models import Plan, Subscription
from billing.reports import live
from billing.reports import overview as reports
from billing.seeds import seed_plans
from helixflow.lib.redis import RedisError
from tests.billing.usage_events import FlatPrice, usage

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
QUERIES = 12


@pytest.fixture(autouse=True)
def _now(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    seed_plans()
    monkeypatch.setattr(limits, "clock_offset_s", NOW.timestamp() - time.time())  # Redis's clock goes on
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def key(organization: Organization, owner: User) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="Importer")[0]


def happened(key: ApiKey, *moments: datetime, **fields: object) -> None:
    given = {"organization_id": key.organization_id, "api_key_id": key.id} | fields
    ledger.write([ledger.Entry(usage(at=at, **given)) for at in moments], book=FlatPrice())


def page(client: Client, user: User) -> str:
    client.force_login(user)
    response = client.get("/dashboard")
    assert response.status_code == 200
    return response.content.decode()


def seen(html: str) -> str:
    found = re.search(r'data-live="(/dashboard\?(?:first&amp;)?seen=\w+)"', html)
    assert found
    return unescape(found[1])


def test_it_begins_with_the_first_steps(client: Client, owner: User, organization: Organization) -> None:
    html = page(client, owner)
    assert "Getting started" in html
    assert "No requests yet" in html
    assert "data-done" not in html
    assert "You are up and running" not in html


def test_the_first_steps_fold_away_with_the_first_call(client: Client, owner: User, key: ApiKey) -> None:
    assert page(client, owner).count("data-done") == 1
    happened(key, NOW)
    html = page(client, owner)
    assert "Getting started" not in html
    assert "You are up and running" in html


def test_the_first_call_is_ticked_off_while_somebody_looks(client: Client, owner: User, key: ApiKey) -> None:
    address = seen(page(client, owner))
    happened(key, NOW)
    html = client.get(address, headers={"HX-Request": "true"}).content.decode()
    assert '<li id="first-call-step" data-done hx-swap-oob="true">' in html
    happened(key, NOW)
    later = client.get(seen(html), headers={"HX-Request": "true"}).content.decode()
    assert "first-call-step" not in later  # once: htmx complains of a place that isn't there


def test_the_first_steps_stay_folded_in_a_new_month(client: Client, owner: User, key: ApiKey) -> None:
    ApiKey.objects.update(last_used_at=NOW - timedelta(days=60))
    assert "You are up and running" in page(client, owner)


def test_today_stands_beside_yesterday_by_this_time_and_in_all(organization: Organization, key: ApiKey) -> None:
    today, yesterday = NOW.replace(minute=5), NOW.replace(minute=5) - timedelta(days=1)
    happened(key, today, today, today - timedelta(hours=3))
    happened(key, today, status=503, error_code="service_unavailable", tokens=events.Tokens())
    happened(key, *[yesterday] * 4, yesterday - timedelta(hours=14), yesterday + timedelta(hours=2))
    happened(key, yesterday - timedelta(days=1))
    found = reports.activity(organization.id)
    assert found.today == reports.Sums(requests=4, tokens=45, cost=Decimal("0.045"), errors=1)
    assert found.yesterday == reports.Sums(requests=6, tokens=90, cost=Decimal("0.09"))
    # All of the small hours, and of the four at two o'clock half, since it is half past two.
    assert found.by_now == reports.Sums(requests=3, tokens=45, cost=Decimal("0.045"))


def test_the_last_24_hours_have_their_times(organization: Organization, key: ApiKey) -> None:
    happened(key, *[NOW - timedelta(hours=5)] * 9, duration_ms=100.0, first_token_ms=20.0)
    happened(key, NOW, duration_ms=3000.0, first_token_ms=800.0)
    happened(key, NOW - timedelta(hours=24), duration_ms=60_000.0)
    found = reports.activity(organization.id)
    assert found.duration
    assert found.duration["p50"] == pytest.approx(100, rel=0.1)
    assert found.duration["p95"] == pytest.approx(3000, rel=0.1)
    assert found.first_token
    assert found.first_token["p95"] == pytest.approx(800, rel=0.1)
    assert [hour.sums.requests for hour in found.hours] == [0] * 18 + [9] + [0] * 4 + [1]
    assert found.hours[-1].p50 == pytest.approx(3000, rel=0.1)
    assert found.hours[0].p50 is None


def test_the_numbers_are_on_the_page(client: Client, owner: User, key: ApiKey) -> None:
    happened(key, *[NOW] * 12)
    happened(key, *[NOW - timedelta(days=1)] * 20)
    html = page(client, owner)
    assert re.search(r'Requests</div>\s*<div class="stat__value">12 <span class="trend">\+20%</span>', html)
    assert "10 by now yesterday, 20 in all" in html
    assert "Requests by hour" in html
    assert "Latency, p95" in html


def test_a_trend_is_a_percentage_a_multiple_or_nothing() -> None:
    from helixflow.site.overview import _change  # with it come models of apps

    assert _change(3, 2) == ("+50%", "up")
    assert _change(1, 2) == ("\N{MINUS SIGN}50%", "down")
    assert _change(5000, 2) == ("×2,500", "up")
    assert _change(Decimal("0.2"), Decimal("0.1")) == ("+100%", "up")
    assert _change(5, 0) == _change(2, 2) == _change(1000, 1001) == ("", "")


def test_the_last_ten_requests_link_to_their_receipts(client: Client, member: User, key: ApiKey) -> None:
    happened(key, *[NOW - timedelta(minutes=ago) for ago in range(12)])
    happened(key, NOW, status=499, error_code="client_disconnected")
    html = page(client, member)
    links = re.findall(r'href="(/dashboard/requests/req_\w+)"', html)
    assert len(links) == len(set(links)) == reports.RECENT
    assert "499 caller left" in html  # as the log and the receipt say it
    assert "Importer" in html


def test_nobody_sees_another_organization(client: Client, outsider: User, key: ApiKey) -> None:
    happened(key, *[NOW] * 7)
    html = page(client, outsider)
    assert "Importer" not in html
    assert "/dashboard/requests/req_" not in html
    assert "No requests yet" in html


def test_the_limits_in_force_are_shown(client: Client, owner: User, organization: Organization) -> None:
    starter = page(client, owner)
    assert ">Starter plan<" in starter
    assert "0 of 100<" in starter
    assert "of 10,000" in starter
    pro = Plan.objects.get(slug="pro")
    Subscription.objects.create(organization=organization, plan=pro, requests_per_month=250_000)
    html = page(client, owner)
    assert ">Pro plan<" in html
    assert "0 of 1,000<" in html
    assert "of 250,000" in html
    assert re.search(r"The next minute begins at 14:3\d UTC", html)


def test_month_and_budget_are_shown(client: Client, owner: User, organization: Organization, key: ApiKey) -> None:
    happened(key, NOW, tokens=events.Tokens(input=5_000, output=678))
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(20))
    html = page(client, owner)
    assert "1 of 10,000" in html
    assert "5.68 of 20.00 USD" in html
    assert "Counted afresh from 1 December 2026" in html


def test_it_needs_no_redis(client: Client, owner: User, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(organization_id: object) -> None:
        raise RedisError

    happened(key, NOW)
    monkeypatch.setattr(live, "read", away)
    html = page(client, owner)
    assert "1 of 10,000" in html
    assert "can’t be told right now" in html


def test_only_what_moves_is_asked_for_again(client: Client, owner: User, key: ApiKey) -> None:
    happened(key, NOW)
    address = seen(page(client, owner))
    assert client.get(address, headers={"HX-Request": "true"}).status_code == 204
    happened(key, NOW)
    response = client.get(address, headers={"HX-Request": "true"})
    html = response.content.decode()
    assert response["Vary"].count("HX-Request") == 1
    assert seen(html) != address
    assert html.startswith("<div") or html.lstrip().startswith("<div")
    assert "<html" not in html
    assert "Getting started" not in html
    again = page(client, owner)  # by a browser that was sent there, it is a page
    assert "<html" in again
    assert seen(again) == seen(html)


def test_an_ended_session_is_sent_to_the_login_page(client: Client) -> None:
    response = client.get("/dashboard?seen=x", headers={"HX-Request": "true"})
    assert response.status_code == 302
    assert response["Location"].startswith("/login")


def test_the_page_costs_a_handful_of_queries(
    client: Client,
    owner: User,
    organization: Organization,
    key: ApiKey,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(5):
        other = api_keys.create(organization=organization, user=owner, name=f"key {number}")[0]
        happened(other, *[NOW - timedelta(hours=hours) for hours in range(30)], model=f"model-{number}")
    address = seen(page(client, owner))
    with django_assert_max_num_queries(QUERIES):
        client.get("/dashboard")
    with django_assert_max_num_queries(QUERIES):
        client.get(address, headers={"HX-Request": "true"})
