"""The pages of one webhook endpoint: its settings, its secret, and sending it a test."""

import re
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.utils import timezone

from accounts import api_keys
from tests import factories
from tests.webhooks.visits import FORM, HOOK, URL, main_of, signed_in, state_of, text_of
from webhooks import endpoints
from webhooks.models import Delivery, DeliveryState, DisabledReason, Endpoint, EventType

pytestmark = pytest.mark.usefixtures("names_resolve")


def test_settings_are_saved_and_an_address_that_stays_is_not_looked_up(owner, endpoint, monkeypatch):
    monkeypatch.setattr("helixflow.lib.http.check_url", lambda url: pytest.fail("asked the name server"))
    client = signed_in(owner)
    assert f'value="{HOOK}"' in client.get(f"{URL}/{endpoint.public_id}").content.decode()
    response = client.post(f"{URL}/{endpoint.public_id}", FORM | {"models": "gpt-4"}, follow=True)
    assert "Endpoint saved." in text_of(response)
    endpoint.refresh_from_db()
    assert (endpoint.description, endpoint.events, endpoint.model_names) == ("Warehouse", ["quota.low"], ["gpt-4"])
    client.post(f"{URL}/{endpoint.public_id}", FORM | {"description": ""})
    endpoint.refresh_from_db()
    assert (endpoint.description, endpoint.model_names) == ("", None)


def test_a_page_that_is_out_of_date_undoes_nothing_before_it_is_saved_twice(owner, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}"

    def shown(response):
        return re.findall(r'name="shown" value="(\w+)"', response.content.decode())[0]

    stale = FORM | {"description": "Old page", "shown": shown(client.get(page))}
    endpoints.update(endpoint=endpoint, user=owner, url="https://hooks.example.com/moved")
    response = client.post(page, stale)
    assert "changed meanwhile" in text_of(response)
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.description) == ("https://hooks.example.com/moved", "")
    assert "Endpoint saved." in text_of(client.post(page, stale | {"shown": shown(response)}, follow=True))
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.description) == (HOOK, "Old page")


def test_bad_settings_come_back_and_change_nothing(owner, endpoint):
    before = state_of(endpoint)
    response = signed_in(owner).post(f"{URL}/{endpoint.public_id}", FORM | {"url": "https://inside.example.com/"})
    assert "This address is not public." in text_of(response)
    assert state_of(endpoint) == before


def test_a_key_that_was_chosen_stays_chosen_after_it_is_revoked(owner, organization):
    key, _ = api_keys.create(organization=organization, user=owner, name="Old website")
    endpoint = factories.endpoint(organization, HOOK, api_key_ids=[key.id])
    api_keys.revoke(key=key, user=owner)
    client = signed_in(owner)
    page = client.get(f"{URL}/{endpoint.public_id}").content.decode()
    assert re.search(rf'value="{key.public_id}"[^>]* checked', page)
    client.post(f"{URL}/{endpoint.public_id}", FORM | {"api_keys": [key.public_id]})
    endpoint.refresh_from_db()
    assert endpoint.api_key_ids == [key.id]


def test_disabling_says_what_waits_and_enabling_lets_it_go_on(owner, endpoint):
    factories.delivery(endpoint)
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}"
    assert "1 delivery waits and goes on" in text_of(client.get(f"{page}/disable"))
    assert endpoint.is_enabled
    client.post(f"{page}/disable")
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == DisabledReason.MANUAL
    assert f'action="{page}/enable"' in client.get(page).content.decode()
    assert client.get(f"{page}/enable").status_code == 405
    client.post(f"{page}/enable")
    endpoint.refresh_from_db()
    assert endpoint.is_enabled
    assert Delivery.objects.get().state == DeliveryState.PENDING


def test_deleting_names_what_is_destroyed_and_how_many_deliveries_wait(owner, organization, endpoint):
    factories.delivery(endpoint)
    factories.delivery(endpoint)
    factories.delivery(endpoint, state=DeliveryState.SUCCEEDED, next_attempt_at=None)
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}/delete"
    text = text_of(client.get(page))
    assert HOOK in text
    assert "signing secret are destroyed" in text
    assert "2 deliveries that wait are cancelled." in text
    assert Endpoint.objects.of(organization).exists()
    assert "is deleted" in text_of(client.post(page, follow=True))
    assert not Endpoint.objects.of(organization).exists()
    assert Delivery.objects.filter(state=DeliveryState.CANCELLED).count() == 2
    assert client.post(page).status_code == 404


# The secret


def test_rotating_explains_the_headers_and_shows_the_new_secret_once(owner, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}"
    old = endpoint.secret
    explained = text_of(client.get(f"{page}/rotate"))
    assert "X-HelixFlow-Signature under the old secret" in explained
    assert "X-HelixFlow-Signature-Next under the new secret" in explained
    assert Endpoint.objects.get().secret == old
    response = client.post(f"{page}/rotate")
    assert "no-store" in response["Cache-Control"]
    new = Endpoint.objects.get().secret
    assert set(re.findall(r"whsec_[\w+/=-]{30,}", unescape(response.content.decode()))) == {new}
    assert (new != old, Endpoint.objects.get().previous_secret) == (True, old)
    again = client.post(f"{page}/rotate", follow=True)
    assert "A rotation is under way" in text_of(again)
    assert "whsec_" not in again.content.decode()
    assert Endpoint.objects.get().previous_secret == old
    assert "Finish rotation" in text_of(client.get(f"{page}/rotate"))


def test_a_rotation_is_shown_until_it_is_finished_or_ends_by_itself(owner, member, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}"
    endpoints.rotate_secret(endpoint=endpoint, user=owner)
    assert "until it ends tomorrow" in text_of(client.get(page))
    assert "is being rotated" in text_of(signed_in(member).get(page))
    with time_machine.travel(timezone.now() + timedelta(hours=24, seconds=1)):
        client.force_login(owner)
        assert "Rotate secret" in text_of(client.get(page))
        assert "No rotation is under way" in text_of(client.get(f"{page}/finish-rotation"))
    client.force_login(owner)
    assert "This can't be undone" in text_of(client.get(f"{page}/finish-rotation"))
    assert Endpoint.objects.get().is_rotating
    assert "The rotation is finished" in text_of(client.post(f"{page}/finish-rotation", follow=True))
    assert not Endpoint.objects.get().is_rotating


# Testing


@pytest.mark.parametrize("event", EventType.values)
def test_a_test_event_is_sent_and_its_page_waits_for_it(owner, endpoint, event):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}/test"
    response = client.post(page, {"event": event}, follow=True)
    delivery = Delivery.objects.select_related("event").get()
    assert response.redirect_chain == [(f"{page}?delivery={delivery.public_id}", 302)]
    assert (delivery.test, delivery.event.type, delivery.event.data["test"]) == (True, event, True)
    assert "Waiting to be sent" in text_of(response)
    assert 'hx-trigger="every 1s"' in response.content.decode()
    assert f'href="?delivery={delivery.public_id}"' in response.content.decode()
    client.get(f"{page}?delivery={delivery.public_id}")
    assert Delivery.objects.count() == 1


def test_a_poll_is_answered_only_by_what_is_new(owner, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}/test"
    delivery = factories.delivery(endpoint, test=True)

    def poll(shown: str):
        return client.get(page, {"delivery": delivery.public_id, "shown": shown}, headers={"HX-Request": "true"})

    assert poll("waiting").status_code == 204
    delivery.lease, delivery.leased_until = delivery.id, timezone.now() + timedelta(minutes=1)
    delivery.save()
    assert "Sent, waiting for the answer" in text_of(poll("waiting"))
    assert poll("sent").status_code == 204
    factories.attempt(delivery, status=200, response_body="thanks <b>a lot</b>", duration_ms=87)
    delivery.state, delivery.lease, delivery.leased_until = DeliveryState.SUCCEEDED, None, None
    delivery.save()
    ended = poll("sent")
    assert "It works" in text_of(ended)
    assert "200 OK" in text_of(ended)
    assert "87 ms" in text_of(ended)
    assert "thanks &lt;b&gt;a lot&lt;/b&gt;" in ended.content.decode()
    assert "hx-get" not in main_of(ended)


def test_a_failed_test_says_why_and_what_to_do(owner, endpoint):
    delivery = factories.delivery(endpoint, test=True, state=DeliveryState.FAILED, next_attempt_at=None)
    factories.attempt(delivery, succeeded=False, status=404, error_code="status", error="The receiver answered 404.")
    page = text_of(signed_in(owner).get(f"{URL}/{endpoint.public_id}/test?delivery={delivery.public_id}"))
    assert "It failed" in page
    assert "404 Not Found" in page
    assert "The receiver answered 404." in page
    assert "Check the endpoint's URL." in page


def test_a_test_that_nobody_sends_is_remarked_on(owner, endpoint):
    delivery = factories.delivery(endpoint, test=True)
    with time_machine.travel(timezone.now() + timedelta(seconds=16)):
        response = signed_in(owner).get(f"{URL}/{endpoint.public_id}/test?delivery={delivery.public_id}")
    assert "Is the webhook worker running?" in text_of(response)
    assert 'hx-trigger="every 10s"' in response.content.decode()


def test_a_type_can_be_preselected(owner, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}/test"
    assert '<option value="quota.low" selected' in client.get(f"{page}?event=quota.low").content.decode()
    assert client.get(f"{page}?event=<script>").status_code == 200


@pytest.mark.parametrize("event", ["", "moon", "completion.created\x00"])
def test_an_unknown_type_comes_back_with_its_error(owner, endpoint, event):
    response = signed_in(owner).post(f"{URL}/{endpoint.public_id}/test", {"event": event})
    assert response.status_code == 200
    assert "field__error" in response.content.decode()
    assert not Delivery.objects.exists()


def test_too_many_tests_in_a_minute_are_refused_in_words(owner, endpoint):
    client, page = signed_in(owner), f"{URL}/{endpoint.public_id}/test"
    for _ in range(10):
        client.post(page, {"event": "quota.low"})
    assert "at most 10 test events a minute" in text_of(client.post(page, {"event": "quota.low"}))
    assert Delivery.objects.count() == 10


def test_only_tests_of_this_endpoint_are_shown_on_its_test_page(owner, outsider, organization, endpoint):
    other = factories.endpoint(organization, "https://other.example.com/")
    foreign = factories.endpoint(outsider.memberships.get().organization)
    page = f"{URL}/{endpoint.public_id}/test?delivery="
    ordinary = factories.delivery(endpoint)
    elsewhere = [factories.delivery(receiver, test=True) for receiver in (other, foreign)]
    for bad in [*(delivery.public_id for delivery in (ordinary, *elsewhere)), "x", "whd_" + "0" * 22, "%00"]:
        assert signed_in(owner).get(page + bad).status_code == 404
