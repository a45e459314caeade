"""The dashboard's log of deliveries, and sending again what failed."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from accounts.models import Membership
from helixflow.lib import ids
from tests import factories
from tests.webhooks import rows
from tests.webhooks.pages import HTMX, NOW, URL, failed, listed, polled, signed_in, text_of
from webhooks.models import Delivery, DeliveryState, Endpoint, EventType


def test_the_log_shows_one_organization_only(owner, outsider, delivery):
    theirs = rows.delivery(factories.endpoint(Membership.objects.get(user=outsider).organization))
    assert listed(signed_in(owner).get(URL)) == [delivery.public_id]
    assert listed(signed_in(outsider).get(URL)) == [theirs.public_id]


def test_another_organizations_endpoint_as_a_filter_shows_nothing(outsider, delivery, endpoint):
    response = signed_in(outsider).get(f"{URL}?endpoint={endpoint.public_id}")
    assert response.status_code == 200
    assert listed(response) == []
    assert "There is no endpoint with this id in your organization." in text_of(response)
    assert endpoint.url not in response.content.decode()


def test_each_filter_narrows_the_log(owner, organization, endpoint):
    other = factories.endpoint(organization, url="https://other.example.com/")
    done = rows.delivery(endpoint, state=DeliveryState.SUCCEEDED, next_attempt_at=None)
    elsewhere = rows.delivery(other)
    low = factories.delivery(endpoint, event_type=EventType.QUOTA_LOW)
    old = rows.delivery(endpoint, at=rows.days_ago(3))
    client = signed_in(owner)

    def found(query: str) -> set[str]:
        return set(listed(client.get(f"{URL}?{query}")))

    everything = {each.public_id for each in (done, elsewhere, low, old)}
    assert found("") == found("endpoint=&event=&state=&since=&until=&period=") == everything
    assert found(f"endpoint={other.public_id}") == {elsewhere.public_id}
    assert found("event=quota.low") == {low.public_id}
    assert found("state=succeeded") == {done.public_id}
    assert found("period=week") == everything
    assert found("period=day") == found("period=hour") == everything - {old.public_id}
    moment = f"{rows.days_ago(1):%Y-%m-%dT%H:%M:%S}"
    assert found(f"until={moment}") == {old.public_id}
    assert found(f"since={moment}") == everything - {old.public_id}
    assert found(f"period=hour&until={moment}") == {old.public_id}  # exact times go before a period
    assert found(f"endpoint={endpoint.public_id}&state=pending&event=completion.created") == {old.public_id}


def test_a_deleted_endpoint_can_still_be_filtered_by(owner, endpoint, delivery):
    Endpoint.objects.update(deleted_at=timezone.now())
    client = signed_in(owner)
    assert f'value="{endpoint.public_id}"' not in client.get(URL).content.decode()
    response = client.get(f"{URL}?endpoint={endpoint.public_id}")
    assert listed(response) == [delivery.public_id]
    assert "(deleted)" in text_of(response)
    assert "resend-failed" not in response.content.decode()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("endpoint=x", "There is no endpoint with this id"),
        ("endpoint=whe_0000000000000000000000", "There is no endpoint with this id"),
        ("endpoint=%00", "There is no endpoint with this id"),
        ("event=moon.rise", "There is no such event type."),
        ("state=lost", "There is no such state."),
        ("period=eon", "There is no such period"),
        ("since=soon", "Enter a date and a time"),
        ("since=0001-01-01T00:00", "Choose a time between 2020 and 2100."),
        ("until=0001-01-01T00:00:00%2B14:00", "Choose a time between 2020 and 2100."),
        ("since=9999-12-31T23:59:59-14:00", "Choose a time between 2020 and 2100."),
        ("since=2026-01-02T00:00&until=2026-01-01T00:00", "This is not after “From”."),
        ("since=99999999999999999999", "Enter a date and a time"),
    ],
)
def test_a_bad_filter_is_told_and_never_an_error(owner, delivery, query, words):
    response = signed_in(owner).get(f"{URL}?{query}")
    assert response.status_code == 200
    assert listed(response) == []
    assert words in text_of(response)
    assert "Clear filters" in text_of(response)


def test_a_made_up_cursor_is_a_clear_400(owner, delivery):
    response = signed_in(owner).get(f"{URL}?cursor=abc")
    assert response.status_code == 400
    assert "cursor" in text_of(response)


def test_the_log_is_paged_by_key_and_keeps_its_filters(
    owner, endpoint, organization, monkeypatch, django_assert_max_num_queries
):
    monkeypatch.setattr("webhooks.delivery_views.PAGE", 3)
    now = timezone.now()
    wanted = [rows.delivery(endpoint, at=now - timedelta(seconds=age)).public_id for age in range(7, 0, -1)]
    rows.delivery(factories.endpoint(organization))
    client, url, seen = signed_in(owner), f"{URL}?endpoint={endpoint.public_id}&period=day&state=pending", []
    while url:
        with django_assert_max_num_queries(8):
            response = client.get(url)
        seen.append(listed(response))
        following = re.search(r'rel="next" href="\?([^"]+)"', response.content.decode())
        url = f"{URL}?{unescape(following[1])}" if following else ""
    assert [len(page) for page in seen] == [3, 3, 1]
    assert [each for page in seen for each in page] == wanted[::-1]
    newest = re.search(r'rel="prev" href="\?([^"]+)"', response.content.decode())
    assert newest is not None
    assert parse_qs(unescape(newest[1])) == {
        "endpoint": [endpoint.public_id],
        "period": ["day"],
        "state": ["pending"],
    }


def test_a_period_keeps_the_other_filters_and_drops_exact_times(owner, delivery):
    page = signed_in(owner).get(f"{URL}?state=pending&since=2026-01-01T00:00:00").content.decode()
    [hour] = [link for link in re.findall(r'href="\?([^"]+)"', page) if "period=hour" in link]
    assert parse_qs(unescape(hour)) == {"state": ["pending"], "period": ["hour"]}


def test_an_empty_log_says_what_to_do(owner, member, organization):
    assert "Create endpoint" in text_of(signed_in(owner).get(URL))
    assert "Ask an owner or admin" in text_of(signed_in(member).get(URL))
    factories.endpoint(organization)
    assert "Nothing sent yet" in text_of(signed_in(owner).get(URL))


def test_filters_that_match_nothing_can_be_cleared(owner, delivery):
    response = signed_in(owner).get(f"{URL}?state=failed")
    assert "Nothing matches" in text_of(response)
    assert f'href="{URL}"' in response.content.decode()


def test_the_page_asks_again_and_gets_rows_only_when_they_changed(owner, delivery):
    client = signed_in(owner)
    query = polled(client.get(f"{URL}?state=pending&period=day"))
    assert {"state", "period", "seen"} == set(parse_qs(query[1:]))
    assert client.get(URL + query, headers=HTMX).status_code == 204
    Delivery.objects.update(attempt_count=1, step=1, last_status=503)
    response = client.get(URL + query, headers=HTMX)
    assert listed(response) == [delivery.public_id]
    assert "503" in text_of(response)
    page = response.content.decode()
    assert "<html" not in page
    assert 'id="pages" hx-swap-oob="true"' in page
    assert client.get(URL + polled(response), headers=HTMX).status_code == 204


def test_an_empty_log_reloads_as_soon_as_there_is_something(owner, endpoint):
    client = signed_in(owner)
    query = polled(client.get(URL))
    still = client.get(URL + query, headers=HTMX)
    assert (still.status_code, "HX-Refresh" in still) == (204, False)
    rows.delivery(endpoint)
    assert client.get(URL + query, headers=HTMX)["HX-Refresh"] == "true"
    query = polled(client.get(URL))
    Delivery.objects.all().delete()
    assert client.get(URL + query, headers=HTMX)["HX-Refresh"] == "true"


def test_an_older_page_asks_again_only_while_something_on_it_is_pending(owner, endpoint, monkeypatch):
    monkeypatch.setattr("webhooks.delivery_views.PAGE", 1)
    older = rows.delivery(endpoint, at=rows.days_ago(1))
    newer = rows.delivery(endpoint)
    client = signed_in(owner)
    assert "data-live" in client.get(f"{URL}?cursor={newer.public_id}").content.decode()
    Delivery.objects.filter(id=older.id).update(state=DeliveryState.SUCCEEDED, next_attempt_at=None)
    assert "data-live" not in client.get(f"{URL}?cursor={newer.public_id}").content.decode()


def test_failed_ones_are_counted_before_they_are_sent_again(owner, organization, endpoint):
    wanted = [failed(endpoint), failed(endpoint, at=timezone.now() - timedelta(hours=23))]
    others = [
        failed(endpoint, at=rows.days_ago(2)),
        failed(endpoint, test=True),
        failed(factories.endpoint(organization)),
        rows.delivery(endpoint, state=DeliveryState.SUCCEEDED, next_attempt_at=None),
    ]
    client, url = signed_in(owner), f"/dashboard/webhooks/{endpoint.public_id}/resend-failed"
    page = client.get(url)
    assert "2 deliveries failed for good" in text_of(page)
    hidden = re.findall(r'<input type="hidden" name="(since|until)" value="([^"]+)"', page.content.decode())
    response = client.post(url, dict(hidden), follow=True)
    assert "2 deliveries are being sent again." in text_of(response)
    assert urlsplit(response.redirect_chain[0][0]).query == f"endpoint={endpoint.public_id}"
    pending = set(Delivery.objects.filter(state=DeliveryState.PENDING).values_list("id", flat=True))
    assert pending == {each.id for each in wanted}
    assert pending.isdisjoint(each.id for each in others)
    again = client.post(url, dict(hidden), follow=True)
    assert "Nothing failed in that time" in text_of(again)


def test_another_range_is_counted_on_demand(owner, endpoint):
    failed(endpoint, at=NOW)
    client, url = signed_in(owner), f"/dashboard/webhooks/{endpoint.public_id}/resend-failed"
    assert "1 delivery failed for good" in text_of(
        client.get(f"{url}?since=2026-11-23T20:00&until=2026-11-23T20:00:01")
    )
    abroad = client.get(f"{url}?since=2026-11-24T01:00:00.9%2B05:00&until=2026-11-23T20:00:01.9Z")
    assert "between 2026-11-23 20:00:00 UTC and 2026-11-23 20:00:01 UTC" in text_of(abroad)
    assert 'name="since" value="2026-11-23T20:00:00"' in abroad.content.decode()
    assert "Nothing failed in this time" in text_of(
        client.get(f"{url}?since=2026-11-23T19:00&until=2026-11-23T20:00:00")
    )


@pytest.mark.parametrize("query", ["since=x&until=y", "since=", "since=2026-01-02T00:00&until=2026-01-01T00:00"])
def test_a_bad_range_is_told_and_sends_nothing(owner, endpoint, query):
    delivery = failed(endpoint)
    client, url = signed_in(owner), f"/dashboard/webhooks/{endpoint.public_id}/resend-failed"
    data = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    for response in (client.get(f"{url}?{query}"), client.post(url, data)):
        assert response.status_code == 200
        assert "field__error" in response.content.decode()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED


def test_ids_of_other_kinds_are_no_endpoints(owner, organization):
    for bad in (ids.new_id(ids.WEBHOOK), ids.new_id(ids.DELIVERY), "x"):
        assert signed_in(owner).get(f"/dashboard/webhooks/{bad}/resend-failed").status_code == 404
