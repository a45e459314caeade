"""GET /v1/usage and /v1/usage/timeseries."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine

from accounts import api_keys
from billing import events, key_limits, subscriptions
from billing.admission import limits, redis_keys, snapshots
from billing.models import Plan
from billing.reports import live
from helixflow.lib import redis
from tests.billing.readers import login, meter, new_key, with_key

pytestmark = pytest.mark.django_db

URL = "/v1/usage"
SERIES = "/v1/usage/timeseries"
Fields = dict[Any, Any]
NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _cold_cache():
    snapshots.cache.clear()


@pytest.fixture(autouse=True)
def _november(monkeypatch):
    """It is NOW, by the process's clock and by the limiter's."""
    with time_machine.travel(NOW, tick=False):
        seconds, _ = redis.sync_client().time()
        monkeypatch.setattr(limits, "clock_offset_s", int(NOW.timestamp()) - seconds)
        yield


@pytest.fixture
def key(organization, owner):
    return new_key(organization, owner)[0]


def get(user, url=URL, **query):
    response = login(user).get(url, query)
    assert response.status_code == 200, response.content
    return response.json()["data"]


def refused(user, **query):
    response = login(user).get(SERIES, query)
    assert response.status_code == 400
    return response.json()["error"]


def count(key, *, used=0, minute=0, spent=0):
    """What admission has counted, of one key."""
    client, organization_id = redis.sync_client(), key.organization_id
    month: Fields = {"used": used, "spent": spent, f"k:{key.id.hex}": used}
    client.hset(redis_keys.month(organization_id, 202611), mapping=month)
    # The next minute, lest the one that is now ends meanwhile.
    window: Fields = {"minute": int(NOW.timestamp()) // 60 + 1, "inference": minute, f"k:{key.id.hex}": minute}
    client.hset(redis_keys.window(organization_id), mapping=window)


def test_an_organization_that_did_nothing(owner, organization):
    data = get(owner)
    assert datetime.fromisoformat(data["minute"].pop("resets_at")) > NOW
    assert data == {
        "object": "usage",
        "source": "ledger",
        "period": {"month": "2026-11", "starts_at": "2026-11-01T00:00:00Z", "resets_at": "2026-12-01T00:00:00Z"},
        "minute": {"limit": 100, "used": 0, "remaining": 100},
        "month": {"limit": 10_000, "used": 0, "remaining": 10_000, "resets_at": "2026-12-01T00:00:00Z"},
        "parallel": None,
        "budget": None,
        "requests": 0,
        "tokens": {"prompt": 0, "cached": 0, "completion": 0, "total": 0},
        "cost": "0.00",
        "currency": "USD",
        "keys": [],
    }


def test_what_was_used_is_what_admission_counted_and_money_is_the_ledger_s(owner, key):
    meter(key, at=NOW, tokens=events.Tokens(input=10, cached_input=3, output=5))
    count(key, used=4, minute=2)
    data = get(owner)
    assert data["source"] == "live"
    assert (data["minute"]["used"], data["minute"]["remaining"]) == (2, 98)
    assert (data["month"]["used"], data["month"]["remaining"]) == (4, 9_996)
    assert (data["requests"], data["cost"]) == (1, "0.015")
    assert data["tokens"] == {"prompt": 13, "cached": 3, "completion": 5, "total": 18}
    assert data["keys"] == [
        {
            "id": key.public_id,
            "name": "CI",
            "hint": key.hint,
            "environment": "development",
            "status": "active",
            "used_this_minute": 2,
            "used": 4,
            "requests": 1,
            "tokens": {"prompt": 13, "cached": 3, "completion": 5, "total": 18},
            "cost": "0.015",
            "limits": {"requests_per_minute": None, "requests_per_month": None, "monthly_budget": None},
        }
    ]


def test_without_a_counter_the_ledger_is_asked_and_says_so(owner, key):
    meter(key, at=NOW)
    meter(key, at=NOW, units=0)
    data = get(owner)
    assert (data["source"], data["month"]["used"], data["requests"]) == ("ledger", 1, 2)
    assert data["keys"][0]["used"] == 1


def test_without_redis_it_answers_and_says_what_it_cannot_know(owner, key, monkeypatch):
    meter(key, at=NOW)

    def away(*_):
        raise redis.RedisError

    monkeypatch.setattr(live, "read", away)
    data = get(owner)
    assert (data["source"], data["month"]["used"]) == ("ledger", 1)
    assert (data["minute"]["used"], data["minute"]["remaining"]) == (None, None)
    assert data["minute"]["resets_at"] == "2026-11-23T10:31:00Z"
    assert data["keys"][0]["used_this_minute"] is None


def test_the_subscription_s_limits_budget_and_cap_are_shown(owner, organization, key):
    plan = Plan.objects.create(slug="enterprise", name="Enterprise")
    subscriptions.change(
        organization=organization,
        plan=plan,
        user=owner,
        requests_per_minute=7,
        requests_per_month=70,
        monthly_budget=Decimal("2.50"),
        max_parallel=3,
    )
    key_limits.set_limits(
        key=key, user=owner, requests_per_minute=5, requests_per_month=None, monthly_budget=Decimal(1)
    )
    meter(key, at=NOW)
    data = get(owner)
    assert (data["minute"]["limit"], data["month"]["limit"]) == (7, 70)
    assert data["parallel"] == {"limit": 3, "used": 0, "remaining": 3}
    assert data["budget"] == {
        "limit": "2.50",
        "spent": "0.015",
        "remaining": "2.485",
        "resets_at": "2026-12-01T00:00:00Z",
    }
    expected = {"requests_per_minute": 5, "requests_per_month": None, "monthly_budget": "1.00"}
    assert data["keys"][0]["limits"] == expected


def test_what_is_overdrawn_leaves_nothing_rather_than_less(owner, organization, key):
    plan = Plan.objects.create(slug="small", name="Small", requests_per_minute=1, requests_per_month=1)
    subscriptions.change(organization=organization, plan=plan, user=owner, monthly_budget=Decimal("0.01"))
    meter(key, at=NOW)
    count(key, used=2, minute=2)
    data = get(owner)
    assert (data["minute"]["remaining"], data["month"]["remaining"]) == (0, 0)
    assert data["budget"]["remaining"] == "0.00"


def test_a_revoked_key_is_listed_while_its_month_lasts(owner, organization, key):
    idle, _ = new_key(organization, owner, "idle")
    meter(key, at=NOW)
    for each in (key, idle):
        api_keys.revoke(key=each, user=owner)
    assert [(each["name"], each["status"]) for each in get(owner)["keys"]] == [("CI", "revoked")]


def test_last_month_is_not_in_it(owner, key):
    meter(key, at=NOW - timedelta(days=30))
    data = get(owner)
    assert (data["requests"], data["month"]["used"], data["tokens"]["total"]) == (0, 0, 0)


def test_every_key_sees_its_whole_organization(owner, organization, key):
    meter(key, at=NOW)
    _, secret = new_key(organization, owner, "another")
    data = with_key(secret).get(URL).json()["data"]
    assert data["requests"] == 1
    assert {each["name"] for each in data["keys"]} == {"CI", "another"}


def test_by_default_thirty_days_by_day_without_gaps(owner, key):
    meter(key, at=NOW)
    data = get(owner, SERIES)
    assert (data["bucket"], data["group_by"], data["currency"]) == ("day", "none", "USD")
    assert (data["start"], data["end"]) == ("2026-10-24T00:00:00Z", "2026-11-24T00:00:00Z")
    (series,) = data["series"]
    points = series["points"]
    assert [point["at"][:10] for point in (points[0], points[1], points[-1])] == [
        "2026-10-24",
        "2026-10-25",
        "2026-11-23",
    ]
    assert len(points) == 31
    assert points[0] == {
        "at": "2026-10-24T00:00:00Z",
        "requests": 0,
        "failures": {"total": 0, "by_code": {}},
        "tokens": {"prompt": 0, "cached": 0, "completion": 0, "total": 0},
        "cost": "0.00",
        "duration_ms": None,
        "first_token_ms": None,
    }
    assert points[-1]["requests"] == series["totals"]["requests"] == 1


def test_a_point_tells_failures_tokens_money_and_latency(owner, key):
    for code, status in (("", 200), ("", 200), ("timeout", 503), ("timeout", 503), ("server_error", 500)):
        meter(key, at=NOW, status=status, error_code=code, duration_ms=100.0, first_token_ms=20.0)
    meter(key, at=NOW, duration_ms=10_000.0, first_token_ms=None)
    point = get(owner, SERIES)["series"][0]["points"][-1]
    assert point["requests"] == 6
    assert point["failures"] == {"total": 3, "by_code": {"server_error": 1, "timeout": 2}}
    assert point["tokens"] == {"prompt": 60, "cached": 0, "completion": 30, "total": 90}
    assert point["cost"] == "0.09"
    assert point["duration_ms"]["p50"] == pytest.approx(100, rel=0.1)
    assert point["duration_ms"]["p95"] == point["duration_ms"]["p99"] == pytest.approx(10_000, rel=0.1)
    assert point["first_token_ms"]["p99"] == pytest.approx(20, rel=0.1)


def test_totals_are_of_the_whole_time(owner, key):
    for days in (0, 1, 2):
        meter(key, at=NOW - timedelta(days=days), error_code="timeout", status=503, duration_ms=100.0 * 10**days)
    totals = get(owner, SERIES)["series"][0]["totals"]
    assert (totals["requests"], totals["cost"]) == (3, "0.045")
    assert totals["failures"]["by_code"] == {"timeout": 3}
    assert totals["duration_ms"]["p50"] == pytest.approx(1_000, rel=0.1)


def test_hours_and_months(owner, key):
    meter(key, at=NOW)
    meter(key, at=NOW - timedelta(hours=2))
    hours = get(owner, SERIES, bucket="hour", start="2026-11-23T08:15:00Z")["series"][0]["points"]
    assert [(point["at"], point["requests"]) for point in hours] == [
        ("2026-11-23T08:00:00Z", 1),
        ("2026-11-23T09:00:00Z", 0),
        ("2026-11-23T10:00:00Z", 1),
    ]
    months = get(owner, SERIES, bucket="month", start="2026-09-30")["series"][0]["points"]
    assert [(point["at"][:7], point["requests"]) for point in months] == [
        ("2026-09", 0),
        ("2026-10", 0),
        ("2026-11", 2),
    ]


def test_the_end_is_not_in_it(owner, key):
    meter(key, at=datetime(2026, 11, 2, tzinfo=UTC))
    (series,) = get(owner, SERIES, start="2026-11-01", end="2026-11-02")["series"]
    assert [point["requests"] for point in series["points"]] == [0]


@pytest.mark.parametrize(("group_by", "values"), [("model", ["gpt-4", "small"]), ("deployment", ["first", "second"])])
def test_series_by_model_or_deployment_the_busiest_first(owner, key, group_by, values):
    meter(key, at=NOW, model="small", deployment="second")
    for _ in range(2):
        meter(key, at=NOW)
    data = get(owner, SERIES, group_by=group_by)
    assert [(series[group_by], series["totals"]["requests"]) for series in data["series"]] == [
        (values[0], 2),
        (values[1], 1),
    ]
    assert {len(series["points"]) for series in data["series"]} == {31}


def test_series_by_key_name_it(owner, organization, key):
    meter(key, at=NOW)
    (series,) = get(owner, SERIES, group_by="key")["series"]
    assert series["key"] == {"id": key.public_id, "name": "CI", "hint": key.hint}
    type(key).objects.all().delete()
    (series,) = get(owner, SERIES, group_by="key")["series"]
    assert series["key"] == {"id": key.public_id, "name": None, "hint": None}


def test_series_by_environment_are_those_of_its_keys(owner, organization, key):
    live, gone = (new_key(organization, owner, name)[0] for name in ("live", "gone"))
    type(key).objects.filter(id=live.id).update(environment="production")
    for each in (key, live, live, live, gone, gone):
        meter(each, at=NOW)
    type(key).objects.filter(id=gone.id).delete()
    found = get(owner, SERIES, group_by="environment")["series"]
    assert [(series["environment"], series["totals"]["requests"]) for series in found] == [
        ("production", 3),
        ("", 2),
        ("development", 1),
    ]
    assert found[0]["points"][-1]["tokens"]["total"] == 45


def test_series_by_status_count_requests_alone(owner, key):
    for code in ("", "", "", "timeout", "timeout", "server_error"):
        meter(key, at=NOW, status=503 if code else 200, error_code=code)
    found = get(owner, SERIES, group_by="status")["series"]
    assert [(series["status"], series["totals"]["requests"]) for series in found] == [
        ("ok", 3),
        ("timeout", 2),
        ("server_error", 1),
    ]
    assert found[1]["points"][-1] == {
        "at": "2026-11-23T00:00:00Z",
        "requests": 2,
        "failures": {"total": 2, "by_code": {"timeout": 2}},
        "tokens": None,
        "cost": None,
        "duration_ms": None,
        "first_token_ms": None,
    }
    assert found[1]["points"][0]["requests"] == 0


def test_no_usage_is_no_group(owner, organization):
    assert get(owner, SERIES, group_by="model")["series"] == []


def test_filters_by_key_and_model(owner, organization, key):
    other, _ = new_key(organization, owner, "other")
    meter(key, at=NOW)
    meter(key, at=NOW, model="small")
    meter(other, at=NOW)

    def requests(**query):
        return get(owner, SERIES, **query)["series"][0]["totals"]["requests"]

    assert requests() == 3
    assert requests(api_key=key.public_id) == 2
    assert requests(model="gpt-4") == 2
    assert requests(api_key=key.public_id, model="small") == 1
    assert requests(model="gpt") == 0


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "1999-12-31"}, "start"),
        ({"end": "2026-11-23T00:00:00 00:00"}, "end"),
        ({"end": "9999-12-31T23:59:59-23:00"}, "end"),
        ({"start": "2026-11-02", "end": "2026-11-02"}, "start"),
        ({"start": "2026-11-03", "end": "2026-11-02"}, "start"),
        ({"start": "2027-01-01"}, "start"),
        ({"bucket": "week"}, "bucket"),
        ({"bucket": ""}, "bucket"),
        ({"group_by": "user"}, "group_by"),
        ({"model": ""}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"model": "m" * 201}, "model"),
        ({"bucket": "hour", "start": "2026-01-01"}, "start"),
        ({"bucket": "day", "start": "2000-01-01"}, "start"),
        ({"limit": "5"}, "limit"),
    ],
)
def test_bad_parameters_are_refused_by_name(owner, organization, query, param):
    error = refused(owner, **query)
    assert error["code"] == "invalid_request"
    assert error["param"] == param
    assert param in error["details"]


@pytest.mark.parametrize("api_key", ["", "key_1", "nonsense", "key_zzzzzzzzzzzzzzzzzzzzzz"])
def test_what_is_no_key_of_the_organization_is_refused(owner, organization, api_key):
    assert login(owner).get(SERIES, {"api_key": api_key}).status_code in {400, 404}


def test_more_series_or_points_than_the_most_are_refused_with_what_to_do(owner, key, monkeypatch):
    monkeypatch.setattr("billing.reports.timeseries.MAX_SERIES", 2)
    for model in ("one", "two", "three"):
        meter(key, at=NOW, model=model)
    error = refused(owner, group_by="model")
    assert "3 different values of model" in error["message"]
    assert "shorter time" in error["message"]
    monkeypatch.setattr("billing.reports.timeseries.MAX_SERIES", 100)
    monkeypatch.setattr("billing.reports.timeseries.MAX_POINTS", 90)
    assert "93 points" in refused(owner, group_by="model")["message"]
    monkeypatch.setattr("billing.reports.timeseries.MAX_POINTS", 2)
    assert "more than 2 points" in refused(owner, group_by="model")["message"]
