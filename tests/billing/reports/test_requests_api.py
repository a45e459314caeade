"""GET /v1/requests and /v1/requests/{id}."""

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.utils import timezone

from accounts.models import ApiKey
from billing import events
from billing.admission import snapshots
from billing.metering import partitions
from billing.models import Price
from billing.prices import PriceBook
from billing.reports import receipts
from helixflow.lib import ids
from tests.billing import usage_events
from tests.billing.readers import login, meter, new_key

pytestmark = pytest.mark.django_db

URL = "/v1/requests"
NOON = usage_events.NOON


@pytest.fixture(autouse=True)
def _cold_cache():
    snapshots.cache.clear()


@pytest.fixture
def key(organization, owner):
    return new_key(organization, owner)[0]


def listed(user, **query):
    response = login(user).get(URL, query)
    assert response.status_code == 200, response.content
    return [each["id"] for each in response.json()["data"]]


def receipt(user, event):
    response = login(user).get(f"{URL}/{public(event)}")
    assert response.status_code == 200, response.content
    return response.json()["data"]


def public(event):
    return ids.public_id(ids.REQUEST, event.id)


def priced(**rates):
    """A version of gpt-4's price that has been in force for long."""
    return Price.objects.create(model="gpt-4", starts_at=NOON - timedelta(days=9), **rates)


def test_a_request_in_the_list(owner, key):
    event = meter(key, at=NOON, end_user="jane", streamed=True)
    response = login(owner).get(URL)
    assert response.json()["data"] == [
        {
            "id": public(event),
            "object": "request",
            "completion_id": ids.public_id(ids.COMPLETION, event.id),
            "started_at": "2026-11-10T12:00:00Z",
            "api_key": {"id": key.public_id, "name": "CI", "hint": key.hint},
            "user_id": owner.public_id,
            "end_user": "jane",
            "model": "gpt-4",
            "fallback_model": None,
            "operation": "chat.completions",
            "deployment": "first",
            "status": 200,
            "error_code": None,
            "streamed": True,
            "tokens": {"prompt": 10, "completion": 5, "total": 15},
            "usage_source": "provider",
            "cost": "0.015",
            "currency": "USD",
            "duration_ms": 120.0,
            "first_token_ms": 30.0,
        }
    ]
    assert response.json()["meta"]["next_cursor"] is None


def test_pages_go_from_the_newest_to_the_oldest_and_lose_none(owner, key):
    made = [public(meter(key, at=NOON + timedelta(seconds=second))) for second in range(5)]
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = login(owner).get(URL, query).json()
        seen += [each["id"] for each in page["data"]]
        cursor = page["meta"]["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_a_request_that_is_metered_while_one_pages_moves_nothing(owner, key):
    made = [public(meter(key, at=NOON + timedelta(seconds=second))) for second in range(3)]
    page = login(owner).get(URL, {"limit": 2}).json()
    meter(key, at=NOON + timedelta(minutes=1))
    assert listed(owner, limit=2, cursor=page["meta"]["next_cursor"]) == [made[0]]


def test_filters(owner, organization, key):
    other, _ = new_key(organization, owner, "other")
    fine = meter(key, at=NOON)
    failed = meter(key, at=NOON, status=503, error_code="timeout")
    cut = meter(key, at=NOON, status=200, error_code="server_error")  # in the middle of a stream
    small = meter(other, at=NOON, model="small", end_user="jane")

    def found(**query):
        return set(listed(owner, **query))

    everything = {public(event) for event in (fine, failed, cut, small)}
    assert found() == everything
    assert found(api_key=other.public_id) == found(model="small") == found(end_user="jane") == {public(small)}
    assert found(status="failed") == {public(failed), public(cut)}
    assert found(status="success") == {public(fine), public(small)}
    assert found(status="503") == found(error_code="timeout") == {public(failed)}
    assert found(status="200") == everything - {public(failed)}
    assert found(status="success", api_key=key.public_id, model="gpt-4") == {public(fine)}
    assert found(end_user="nobody") == found(model="gpt") == found(status="404") == set()


def test_since_is_in_it_and_until_is_not(owner, key):
    first, second, third = (meter(key, at=NOON + timedelta(hours=hour)) for hour in range(3))
    since, until = "2026-11-10T13:00:00Z", "2026-11-10T14:00:00Z"
    assert listed(owner, since=since) == [public(third), public(second)]
    assert listed(owner, until=until) == [public(second), public(first)]
    assert listed(owner, since=since, until=until) == [public(second)]


def test_only_the_partitions_between_since_and_until_are_looked_into(organization):
    with time_machine.travel(NOON):
        partitions.ensure()
    bounded = receipts.search(organization.id, since=NOON - timedelta(days=9), until=NOON)
    assert set(re.findall(r"on (billing_usagerecord\w*)", bounded.order_by("-id")[:51].explain())) == {
        partition.name for partition in partitions.known() if partition.starts_on == date(2026, 11, 1)
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "1e9"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "key_0352WaRsjlyeBY4E1ChhFs"}, "cursor"),
        ({"status": "fine"}, "status"),
        ({"status": "99"}, "status"),
        ({"status": "600"}, "status"),
        ({"status": "²00"}, "status"),
        ({"status": ""}, "status"),
        ({"error_code": "a\0b"}, "error_code"),
        ({"end_user": "x" * 513}, "end_user"),
        ({"model": ""}, "model"),
        ({"since": "soon"}, "since"),
        ({"until": "1969-12-31"}, "until"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "since"),
        ({"page": "2"}, "page"),
    ],
)
def test_bad_parameters_are_refused_by_name(owner, organization, query, param):
    response = login(owner).get(URL, query)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert param in error["details"]


def test_a_receipt_tells_all_that_is_kept(owner, key):
    price = priced(input=Decimal("2.5"), cached_input=Decimal("1.25"), output=Decimal(10), reasoning=Decimal(12))
    attempts = [events.Attempt("first", "http_503", 12.5), events.Attempt("second", "ok", 100.00049999)]
    tokens = events.Tokens(input=7, cached_input=3, output=5, reasoning=2)
    event = meter(key, at=NOON, book=PriceBook(), tokens=tokens, attempts=attempts, deployment="second")
    data = receipt(owner, event)
    assert data["tokens"] == {
        "prompt": 10,
        "completion": 7,
        "total": 17,
        "by_class": {
            "input": 7,
            "cached_input": 3,
            "cache_write": 0,
            "input_audio": 0,
            "output": 5,
            "reasoning": 2,
            "output_audio": 0,
        },
    }
    assert data["attempts"] == [
        {"deployment": "first", "outcome": "http_503", "duration_ms": 12.5},
        {"deployment": "second", "outcome": "ok", "duration_ms": 100.0},
    ]
    assert data["price"]["id"] == str(price.id)
    assert data["price"]["per_million_tokens"] == {
        "input": "2.50",
        "cached_input": "1.25",
        "cache_write": "2.50",
        "input_audio": "2.50",
        "output": "10.00",
        "reasoning": "12.00",
        "output_audio": "10.00",
    }
    assert data["cost_by_class"] == {
        "input": "0.0000175",
        "cached_input": "0.00000375",
        "output": "0.00005",
        "reasoning": "0.000024",
    }
    assert (data["cost"], data["currency"]) == ("0.00009525", "USD")
    assert (data["settled_by"], data["quota_units"], data["usage_source"]) == ("gateway", 1, "provider")
    assert datetime.fromisoformat(data["recorded_at"]) <= timezone.now()


def test_the_classes_costs_sum_to_the_whole_to_the_last_digit(owner, key):
    priced(input=Decimal("0.333333"), output=Decimal("7.777777"), output_audio=Decimal("123456.654321"))
    tokens = events.Tokens(123, 45, 6, 7, 89, 10, 1_000_001)
    data = receipt(owner, meter(key, at=NOON, book=PriceBook(), tokens=tokens))
    assert len(data["cost_by_class"]) == 7
    assert sum(map(Decimal, data["cost_by_class"].values())) == Decimal(data["cost"]) > 0


def test_without_a_price_there_is_no_currency_and_no_breakdown(owner, key):
    data = receipt(owner, meter(key, at=NOON, book=PriceBook()))
    assert (data["cost"], data["currency"], data["price"], data["cost_by_class"]) == ("0.00", None, None, None)


def test_a_request_that_produced_nothing(owner, key):
    event = meter(
        key,
        at=NOON,
        units=0,
        status=400,
        error_code="invalid_request",
        model="",
        deployment="",
        attempts=[],
        tokens=events.Tokens(),
        usage_source=events.NOTHING,
        first_token_ms=None,
    )
    data = receipt(owner, event)
    assert (data["status"], data["error_code"], data["quota_units"]) == (400, "invalid_request", 0)
    assert (data["completion_id"], data["model"], data["deployment"], data["end_user"]) == (None, None, None, None)
    assert (data["attempts"], data["first_token_ms"], data["usage_source"]) == ([], None, "none")


@pytest.mark.parametrize("prefix", [ids.COMPLETION, ids.TEXT_COMPLETION])
def test_a_receipt_is_found_by_its_completion_s_id(owner, key, prefix):
    event = meter(key, at=NOON)
    response = login(owner).get(f"{URL}/{ids.public_id(prefix, event.id)}")
    assert response.json()["data"]["id"] == public(event)


def test_a_record_outlives_its_key(owner, organization, key):
    event = meter(key, at=NOON)
    ApiKey.objects.all().delete()
    gone = {"id": ids.public_id(ids.API_KEY, event.api_key_id), "name": None, "hint": None}
    assert receipt(owner, event)["api_key"] == gone
    assert login(owner).get(URL).json()["data"][0]["api_key"] == gone


@pytest.mark.parametrize(
    "request_id",
    ["1", "req_", "req_zzzzzzzzzzzzzzzzzzzzzz", "key_0352WaRsjlyeBY4E1ChhFs", "req_%00", "req_7n42DGM5Tflk9n8mt7Fhc7"],
)
def test_what_is_no_id_of_a_request_is_404(owner, organization, request_id):
    response = login(owner).get(f"{URL}/{request_id}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "invalid_request"


def told(user, request_id):
    response = login(user).get(f"{URL}/{request_id}")
    assert response.status_code == 404
    return response.json()["error"]["message"]


def test_a_new_id_may_have_its_record_in_a_moment_and_the_answer_says_so(owner, organization, outsider, key):
    assert "about a second after it has ended" in told(owner, ids.new_id(ids.REQUEST))
    foreign = meter(key, at=timezone.now())
    assert told(outsider, public(foreign)) == told(outsider, ids.new_id(ids.REQUEST))


def test_before_the_first_record_the_answer_says_how_far_they_go_back(owner, key):
    meter(key, at=NOON)
    old = ids.public_id(ids.REQUEST, usage_events.id_at(datetime(2025, 1, 1, tzinfo=UTC)))
    assert told(owner, old) == "There is no request with this id. Records go back to 2026-11-10 only."


def test_elsewhere_it_is_just_not_there(owner, outsider, key):
    event = meter(key, at=NOON)
    made_up = usage_events.id_at(NOON + timedelta(hours=1))
    plain = "There is no request with this id."
    assert told(owner, ids.public_id(ids.REQUEST, made_up)) == told(outsider, public(event)) == plain


def test_an_id_without_any_record_anywhere(owner, organization):
    assert told(owner, ids.public_id(ids.REQUEST, uuid.UUID(int=0))) == "There is no request with this id."
