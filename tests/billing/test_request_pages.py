"""/dashboard/requests and the receipt of one."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts.models import ApiKey
from billing import events, subscriptions
from billing.models import KeyLimits, Plan, Price, SubscriptionChange, UsageRecord
from billing.prices import PriceBook
from billing.seeds import seed_plans
from helixflow.lib import ids
from tests import factories
from tests.billing.readers import meter, new_key
from tests.billing.usage_events import id_at
from tests.billing.visits import EVIL, signed_in, text_of
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db

URL = "/dashboard/requests"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def key(organization, owner) -> ApiKey:
    key: ApiKey = new_key(organization, owner)[0]
    return key


def public(event) -> str:
    return ids.public_id(ids.REQUEST, event.id)


def listed(response) -> list[str]:
    assert response.status_code == 200
    return re.findall(rf'href="{URL}/(req_\w+)"', response.content.decode())


def ago(**span: float) -> dict[str, object]:
    moment = timezone.now() - timedelta(**span)
    return {"id": id_at(moment), "month": moment.year * 100 + moment.month}


@pytest.fixture
def theirs(outsider):
    organization = outsider.memberships.get().organization
    return meter(new_key(organization, outsider)[0], **ago(minutes=1))


def test_strangers_log_in_first(client):
    for url in (URL, f"{URL}/req_x"):
        assert client.get(url)["Location"].startswith("/login")


def test_the_log_shows_one_organization_newest_first(owner, member, key, theirs):
    older, newer = meter(key, **ago(hours=2)), meter(key, **ago(hours=1))
    for user in (owner, member):
        assert listed(signed_in(user).get(URL)) == [public(newer), public(older)]


def test_each_filter_narrows_it(owner, organization, key):
    other, _ = new_key(organization, owner, "Other")
    plain = meter(key, **ago(hours=2))
    elsewhere = meter(other, **ago(days=3))
    model = meter(key, model="gpt-3.5-turbo", **ago(hours=3))
    left = meter(key, status=499, error_code="client_disconnected", units=0, **ago(hours=4))
    late = meter(key, status=503, error_code="timeout", end_user="customer 7", **ago(days=10))
    client = signed_in(owner)

    def found(**query: str) -> set[str]:
        return set(listed(client.get(URL, query)))

    everything = {public(each) for each in (plain, elsewhere, model, left, late)}
    assert found() == found(q="", key="", model="", status="", error="", end_user="", since="", until="") == everything
    assert found(key=other.public_id) == {public(elsewhere)}
    assert found(model="gpt-3.5-turbo") == {public(model)}
    assert found(status="failed") == {public(left), public(late)}
    assert found(status="success") == everything - {public(left), public(late)}
    assert found(status="499") == {public(left)}
    assert found(error="timeout") == {public(late)}
    assert found(end_user="customer 7") == {public(late)}
    assert found(period="day") == everything - {public(elsewhere), public(late)}
    moment = f"{timezone.now() - timedelta(days=5):%Y-%m-%dT%H:%M:%S}"
    assert found(since=moment) == everything - {public(late)}
    assert found(until=moment, period="hour") == {public(late)}  # exact times go before a period


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"key": "key_0000000000000000000000"}, "There is no API key with this id"),
        ({"key": "\0"}, "There is no API key with this id"),
        ({"status": "-1"}, "There is no such status."),
        ({"error": EVIL}, "There is no such error code."),
        ({"period": "eon"}, "There is no such period"),
        ({"since": "soon"}, "Enter a date and a time"),
        ({"model": "x\0"}, "Null characters are not allowed."),
    ],
)
def test_a_filter_that_makes_no_sense_is_explained(owner, key, query, words):
    meter(key, **ago(hours=1))
    response = signed_in(owner).get(URL, query)
    assert words in text_of(response)
    assert EVIL not in response.content.decode()
    assert listed(response) == []


def test_another_organizations_key_is_no_filter(outsider, key):
    meter(key, **ago(hours=1))
    response = signed_in(outsider).get(URL, {"key": key.public_id})
    assert "There is no API key with this id" in text_of(response)
    assert key.name not in text_of(response)


def test_an_id_leads_to_its_request(owner, key, theirs):
    event = meter(key, **ago(hours=1))
    client = signed_in(owner)
    for searched in (public(event), f" {ids.public_id(ids.COMPLETION, event.id)} "):
        assert client.get(URL, {"q": searched})["Location"] == f"{URL}/{public(event)}"
    swapped = client.get(URL, {"q": public(event)}, headers=HTMX)
    assert (swapped.status_code, swapped["HX-Redirect"]) == (204, f"{URL}/{public(event)}")
    assert "There is no request with this id" in text_of(client.get(URL, {"q": public(theirs)}))
    assert "That is not an id of a request" in text_of(client.get(URL, {"q": "chat"}))


def test_it_is_paged_by_key(owner, key):
    made = [public(meter(key, **ago(minutes=number))) for number in range(60)]
    client = signed_in(owner)
    first = client.get(URL, {"period": "day"})
    [older] = re.findall(r'rel="next" href="\?([^"]+)"', first.content.decode())
    second = client.get(f"{URL}?{older.replace('&amp;', '&')}")
    assert listed(first) + listed(second) == made
    assert "data-live" not in second.content.decode().split('id="request-rows"')[1].split(">")[0]
    assert client.get(URL, {"cursor": "x"}).status_code == 400


def test_the_first_page_asks_for_newer_rows(owner, key):
    first = meter(key, **ago(minutes=2))
    client = signed_in(owner)
    assert f"seen={public(first)}" in client.get(URL).content.decode()
    assert client.get(URL, {"seen": public(first)}, headers=HTMX).status_code == 204
    second = meter(key, **ago(minutes=1))
    rows = client.get(URL, {"seen": public(first)}, headers=HTMX)
    assert listed(rows) == [public(second), public(first)]
    assert rows.content.decode().lstrip().startswith("<tbody")


def test_before_the_first_request_it_says_how_to_send_one(owner, organization):
    client = signed_in(owner)
    page = client.get(URL)
    assert "No requests yet" in text_of(page)
    assert "curl" in page.content.decode()
    assert client.get(URL, {"seen": ""}, headers=HTMX).status_code == 204
    meter(new_key(organization, owner)[0], **ago(minutes=1))
    assert client.get(URL, {"seen": ""}, headers=HTMX)["HX-Refresh"] == "true"
    assert "Nothing matches" in text_of(client.get(URL, {"model": "none"}))


def test_a_receipt(owner, member, organization, key):
    seed_plans()
    price = Price.objects.create(
        model="gpt-4", starts_at=timezone.now() - timedelta(days=9), input=Decimal("2.5"), output=Decimal(10)
    )
    subscriptions.change(
        organization=organization, user=owner, plan=Plan.objects.get(slug="pro"), monthly_budget=Decimal(50)
    )
    SubscriptionChange.objects.update(created_at=timezone.now() - timedelta(days=2))
    subscriptions.set_caps(organization=organization, user=owner, max_parallel=7)  # later: it didn't hold
    KeyLimits.objects.create(api_key=key, requests_per_minute=42)
    attempts = [events.Attempt("first", "timeout", 40.0), events.Attempt("second", "ok", 50.0)]
    event = meter(
        key,
        book=PriceBook(),
        attempts=attempts,
        deployment="second",
        streamed=True,
        end_user="customer 7",
        tokens=events.Tokens(input=1000, output=500),
        **ago(hours=1),
    )
    assert UsageRecord.objects.get().price_id == price.id
    for user in (owner, member):
        page = text_of(signed_in(user).get(f"{URL}/{public(event)}"))
        assert "200" in page
        assert "first timeout" in page
        assert "second ok" in page
        assert "Input 1,000 2.50 0.0025" in page
        assert "Output 500 10.00 0.005" in page
        assert "Total 1,500 0.0075" in page
        assert str(price.id) in page
        assert "Plan Pro" in page
        assert "50.00 USD" in page
        assert "Parallel requests" not in page
        assert "Requests per minute, this key 42" in page
        assert "The gateway that served it" in page
        assert ids.public_id(ids.COMPLETION, event.id) in page
        assert f'"id" : "{public(event)}"' in page


def test_a_completions_id_leads_to_the_receipt(owner, key):
    event = meter(key, **ago(hours=1))
    response = signed_in(owner).get(f"{URL}/{ids.public_id(ids.COMPLETION, event.id)}")
    assert response["Location"] == f"{URL}/{public(event)}"


def test_a_receipt_of_what_failed(owner, key):
    event = meter(
        key,
        units=0,
        status=503,
        error_code="timeout",
        attempts=[],
        deployment="",
        first_token_ms=None,
        tokens=events.Tokens(),
        usage_source=events.NOTHING,
        settled_by=events.REAPER,
        **ago(hours=1),
    )
    page = text_of(signed_in(owner).get(f"{URL}/{public(event)}"))
    assert "503 timeout" in page
    assert "did not answer" in page
    assert "its unit was given back" in page
    assert "The reaper" in page
    assert "No tokens were used" in page


def test_it_names_the_events_that_were_sent(owner, organization, key):
    factories.endpoint(organization, description="Our receiver")
    event = meter(key, **ago(minutes=1))
    other = meter(key, **ago(minutes=2))
    page = signed_in(owner).get(f"{URL}/{public(event)}")
    mine, foreign = (Delivery.objects.get(event__data__request_id=public(each)) for each in (event, other))
    assert "completion.created" in text_of(page)
    assert "Our receiver" in text_of(page)
    assert mine.public_id in page.content.decode()
    assert foreign.public_id not in page.content.decode()


def test_what_callers_wrote_is_escaped(owner, key):
    key.name = EVIL
    key.save()
    event = meter(key, end_user=EVIL, model=EVIL, fallback_model=EVIL, **ago(minutes=1))
    for url in (URL, f"{URL}/{public(event)}", f"{URL}?end_user={EVIL}&model={EVIL}"):
        page = signed_in(owner).get(url).content.decode()
        assert EVIL not in page
        assert "&lt;script&gt;" in page


def test_a_request_is_its_organizations_alone(outsider, owner, key, theirs):
    event = meter(key, **ago(hours=1))
    assert signed_in(outsider).get(f"{URL}/{public(event)}").status_code == 404
    assert signed_in(owner).get(f"{URL}/{public(theirs)}").status_code == 404


def test_a_request_that_is_not_recorded_yet_is_waited_for(owner, organization, key):
    client = signed_in(owner)
    young = ids.uuid7()
    url = f"{URL}/{ids.public_id(ids.REQUEST, young)}"
    page = client.get(url)
    assert page.status_code == 404
    assert "Not recorded yet" in page.content.decode()
    assert client.get(url, headers=HTMX).status_code == 204
    meter(key, id=young)
    assert client.get(url, headers=HTMX)["HX-Refresh"] == "true"
    assert client.get(url).status_code == 200


@pytest.mark.parametrize(
    ("request_id", "words"),
    [("x", "That is not an id of a request"), ("req_0000000000000000000001", "There is no request with this id")],
)
def test_a_request_that_never_was_is_not(owner, organization, request_id, words):
    response = signed_in(owner).get(f"{URL}/{request_id}")
    assert response.status_code == 404
    assert words in response.content.decode()


def test_the_log_and_a_receipt_cost_few_queries(owner, organization, key, django_assert_max_num_queries):
    factories.endpoint(organization)
    made = [meter(key, **ago(minutes=number)) for number in range(55)]
    client = signed_in(owner)
    for url in (URL, f"{URL}/{public(made[0])}"):
        with django_assert_max_num_queries(12):
            assert client.get(url).status_code == 200
