"""The verbs of endpoints: create, update, enable, disable, delete."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import api_keys
from helixflow.lib import errors, ids
from tests import factories
from webhooks import endpoints
from webhooks.models import Delivery, DeliveryState, Endpoint

pytestmark = pytest.mark.django_db

PUBLIC = "https://93.184.216.34/hooks"  # dialled by nobody here, and no name to be looked up
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FILTERS = {"api_key_ids": None, "model_names": None}


def create(organization, owner, **fields):
    return endpoints.create(
        **{"organization": organization, "user": owner, "url": PUBLIC, "events": ["quota.low"]} | fields
    )


def problems_of(organization, owner, **fields):
    with pytest.raises(errors.InvalidRequest) as caught:
        create(organization, owner, **fields)
    assert not Endpoint.objects.exists()
    return caught.value.details


class TestCreate:
    def test_the_secret_is_returned_once_and_stored_sealed(self, organization, owner, caplog):
        with caplog.at_level("DEBUG"):
            endpoint, secret = create(organization, owner)
        stored = Endpoint.objects.get()
        assert stored == endpoint
        assert stored.secret == secret
        assert secret.startswith("whsec_")
        assert stored.previous_secret is None
        with connection.cursor() as cursor:
            cursor.execute("SELECT webhooks_endpoint::text FROM webhooks_endpoint")
            assert secret not in cursor.fetchone()[0]
        assert endpoint.public_id in caplog.text
        assert secret not in caplog.text

    def test_two_endpoints_have_different_secrets(self, organization, owner):
        assert create(organization, owner)[1] != create(organization, owner)[1]

    def test_a_plain_one_is_enabled_and_has_no_filters(self, organization, owner):
        endpoint, _ = create(organization, owner)
        assert (endpoint.url, endpoint.events, endpoint.description) == (PUBLIC, ["quota.low"], "")
        assert (endpoint.api_key_ids, endpoint.model_names, endpoint.created_by) == (None, None, owner)
        assert endpoint.is_enabled

    def test_every_field_is_stored(self, organization, owner, key):
        endpoint, _ = create(
            organization,
            owner,
            url=f" {PUBLIC} ",
            events=["quota.low", "completion.created"],
            description="  Usage → warehouse 📦 ",
            api_keys=[key.public_id, key.public_id],
            models=["gpt-4", "gpt-4"],
            enabled=False,
        )
        endpoint.refresh_from_db()
        assert endpoint.url == PUBLIC
        assert endpoint.events == ["completion.created", "quota.low"]
        assert endpoint.description == "Usage → warehouse 📦"
        assert (endpoint.api_key_ids, endpoint.model_names) == ([key.id], ["gpt-4"])
        assert (endpoint.is_enabled, endpoint.disabled_reason) == (False, "manual")

    @pytest.mark.parametrize("nothing", [None, [], ()])
    def test_no_filter_is_all(self, organization, owner, nothing):
        endpoint, _ = create(organization, owner, api_keys=nothing, models=nothing)
        assert (endpoint.api_key_ids, endpoint.model_names) == (None, None)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "   ",
            "example.com",
            "ftp://93.184.216.34/",
            "https://user:pass@93.184.216.34/",
            "https://93.184.216.34:22/",
            "https://93.184.216.34/#part",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://93.184.216.34/" + "x" * 2000,
            "https://93.184.216.34/a\0b",
            "https://93.184.216.34/\ud800",
            "https://93.184.216.34/a\nb",
        ],
    )
    def test_a_bad_url_is_refused(self, organization, owner, url):
        assert list(problems_of(organization, owner, url=url)) == ["url"]

    @pytest.mark.parametrize(
        "events",
        [[], ["completion"], ["quota.low", "quota.low"], ["quota.low", "x" * 10_000], ["a\0"], ["Quota.low"]],
    )
    def test_bad_events_are_refused(self, organization, owner, events):
        assert list(problems_of(organization, owner, events=events)) == ["events"]

    @pytest.mark.parametrize("description", ["x" * 201, "a\0b", "a\nb", "\ud800"])
    def test_a_bad_description_is_refused(self, organization, owner, description):
        assert list(problems_of(organization, owner, description=description)) == ["description"]

    @pytest.mark.parametrize("models", [[""], ["  "], ["x" * 201], ["a\0b"], ["\ud800"], [f"m{n}" for n in range(101)]])
    def test_bad_models_are_refused(self, organization, owner, models):
        assert list(problems_of(organization, owner, models=models)) == ["models"]

    @pytest.mark.parametrize("name", ["", "key_", "key_1", "org-" + "0" * 22, ids.API_KEY + "0" * 22, "' OR 1=1"])
    def test_keys_that_are_none_are_refused(self, organization, owner, name):
        assert list(problems_of(organization, owner, api_keys=[name])) == ["api_keys"]

    def test_a_key_of_another_organization_is_refused_like_one_that_never_was(self, organization, owner, outsider):
        theirs = outsider.memberships.get().organization
        foreign, _ = api_keys.create(organization=theirs, user=outsider, name="theirs")
        unknown = ids.new_id(ids.API_KEY)
        refused = problems_of(organization, owner, api_keys=[foreign.public_id])["api_keys"]
        never = problems_of(organization, owner, api_keys=[unknown])["api_keys"]
        assert refused.replace(foreign.public_id, "") == never.replace(unknown, "")

    def test_a_revoked_key_can_be_named(self, organization, owner, key):
        api_keys.revoke(key=key, user=owner)
        assert create(organization, owner, api_keys=[key.public_id])[0].api_key_ids == [key.id]

    def test_every_problem_is_told_at_once(self, organization, owner):
        found = problems_of(
            organization, owner, url="nonsense", events=[], description="x" * 201, api_keys=["x"], models=[""]
        )
        assert set(found) == {"url", "events", "description", "api_keys", "models"}
        assert all(isinstance(text, str) and text for text in found.values())

    def test_an_organization_has_a_limit_that_deleted_ones_leave(self, organization, owner, outsider, settings):
        settings.WEBHOOK_MAX_ENDPOINTS = 2
        first, _ = create(organization, owner)
        create(organization, owner, enabled=False)
        with pytest.raises(errors.InvalidRequest, match="can have 2"):
            create(organization, owner)
        create(outsider.memberships.get().organization, outsider)  # others have their own
        endpoints.delete(endpoint=first, user=owner)
        create(organization, owner)
        assert Endpoint.objects.of(organization).count() == 2

    def test_deleting_and_creating_in_turn_is_for_so_many_an_hour(self, organization, owner, outsider, settings):
        settings.WEBHOOK_MAX_ENDPOINTS = 1
        with time_machine.travel(START, tick=False) as now:
            for _ in range(endpoints.TURNOVER):
                endpoint, _ = create(organization, owner)
                endpoints.delete(endpoint=endpoint, user=owner)
                now.shift(60)
            with pytest.raises(errors.RateLimitExceeded) as caught:
                create(organization, owner)
            create(outsider.memberships.get().organization, outsider)  # others have their own
            assert caught.value.retry_after == 3300
            now.shift(3301)
            create(organization, owner)


@pytest.mark.django_db(transaction=True)
def test_the_limit_holds_when_several_are_created_at_once(organization, owner, settings):
    settings.WEBHOOK_MAX_ENDPOINTS = 3
    refused = []

    def try_one() -> None:
        try:
            create(organization, owner)
        except errors.InvalidRequest:
            refused.append(1)
        finally:
            connection.close()

    threads = [threading.Thread(target=try_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (Endpoint.objects.count(), len(refused)) == (3, 5)


class TestUpdate:
    @pytest.mark.parametrize(("enabled", "word"), [(True, "enabled"), (False, "disabled")])
    def test_the_log_says_who_changed_what_and_which_way(self, endpoint, owner, caplog, enabled, word):
        with caplog.at_level("INFO"):
            endpoints.update(endpoint=endpoint, user=owner, enabled=enabled, description="x")
        assert f"{endpoint.public_id} changed by {owner.public_id}: description, {word}" in caplog.text

    def test_only_what_is_given_changes(self, endpoint, owner, key):
        before = Endpoint.objects.get()
        endpoints.update(endpoint=endpoint, user=owner, events=["quota.low"], api_keys=[key.public_id])
        after = Endpoint.objects.get()
        assert (after.events, after.api_key_ids) == (["quota.low"], [key.id])
        assert (after.url, after.sealed_secret, after.created_at) == (
            before.url,
            before.sealed_secret,
            before.created_at,
        )
        endpoints.update(endpoint=endpoint, user=owner, api_keys=None)
        assert Endpoint.objects.get().api_key_ids is None

    def test_what_create_refuses_changes_nothing(self, endpoint, owner):
        with pytest.raises(errors.InvalidRequest) as caught:
            endpoints.update(endpoint=endpoint, user=owner, description="new", events=[], models=[""])
        assert set(caught.value.details) == {"events", "models"}
        assert Endpoint.objects.get().description == ""

    def test_another_field_is_a_mistake_of_the_caller(self, endpoint, owner):
        with pytest.raises(TypeError, match="sealed_secret"):
            endpoints.update(endpoint=endpoint, user=owner, sealed_secret="x")  # type: ignore[call-arg]  # on purpose

    def test_an_address_that_stays_is_not_looked_up_again(self, endpoint, owner, monkeypatch):
        def refuse(url: str) -> None:
            raise errors.InvalidRequest("The name does not resolve.", param="url")

        monkeypatch.setattr("helixflow.lib.http.check_url", refuse)
        endpoints.update(endpoint=endpoint, user=owner, url=endpoint.url, description="new")
        assert Endpoint.objects.get().description == "new"
        with pytest.raises(errors.InvalidRequest, match="does not resolve"):
            endpoints.update(endpoint=endpoint, user=owner, url="https://elsewhere.example.com")

    def test_another_address_has_not_failed_yet(self, endpoint, owner):
        Endpoint.objects.update(failing_since=timezone.now())
        endpoints.update(endpoint=endpoint, user=owner, description="new")
        assert Endpoint.objects.get().failing_since is not None
        endpoints.update(endpoint=endpoint, user=owner, url=PUBLIC)
        assert Endpoint.objects.get().failing_since is None

    def test_it_enables_and_disables(self, endpoint, owner, nudged):
        endpoints.update(endpoint=endpoint, user=owner, enabled=False)
        assert Endpoint.objects.get().disabled_reason == "manual"
        assert nudged == []
        endpoints.update(endpoint=endpoint, user=owner, enabled=True)
        assert Endpoint.objects.get().is_enabled
        assert [told for told, _ in nudged] == [endpoint.id]

    def test_what_the_deliverer_wrote_meanwhile_stays(self, endpoint, owner):
        stale = Endpoint.objects.select_related("organization").get()
        Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="gone")
        endpoints.update(endpoint=stale, user=owner, description="new")
        assert Endpoint.objects.get().disabled_reason == "gone"

    def test_a_deleted_one_is_not_found(self, endpoint, owner):
        endpoints.delete(endpoint=endpoint, user=owner)
        with pytest.raises(errors.NotFound):
            endpoints.update(endpoint=endpoint, user=owner, description="new")


class TestEnableAndDisable:
    def test_disabling_by_hand_is_idempotent(self, endpoint, owner):
        first = endpoints.disable(endpoint=endpoint, user=owner).disabled_at
        assert endpoints.disable(endpoint=endpoint, user=owner).disabled_at == first
        assert Endpoint.objects.get().disabled_reason == "manual"

    def test_disabling_keeps_the_first_reason(self, endpoint, owner):
        Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="failing")
        assert endpoints.disable(endpoint=endpoint, user=owner).disabled_reason == "failing"

    def test_enabling_begins_anew(self, endpoint, owner, nudged):
        now = timezone.now()
        Endpoint.objects.update(disabled_at=now, disabled_reason="failing", failing_since=now, owner_told_at=now)
        endpoints.enable(endpoint=endpoint, user=owner)
        stored = Endpoint.objects.get()
        assert (stored.disabled_at, stored.disabled_reason) == (None, "")
        assert (stored.failing_since, stored.owner_told_at) == (None, None)
        assert [told for told, _ in nudged] == [endpoint.id]

    def test_enabling_an_enabled_one_changes_nothing(self, endpoint, owner, nudged):
        since = timezone.now()
        Endpoint.objects.update(failing_since=since)
        endpoints.enable(endpoint=endpoint, user=owner)
        assert Endpoint.objects.get().failing_since == since
        assert nudged == []

    def test_pending_deliveries_stay_through_both(self, endpoint, delivery, owner, nudged):
        endpoints.disable(endpoint=endpoint, user=owner)
        endpoints.enable(endpoint=endpoint, user=owner)
        assert Delivery.objects.get().state == DeliveryState.PENDING


class TestDelete:
    def test_the_row_stays_without_its_secrets(self, endpoint, owner):
        endpoints.rotate_secret(endpoint=endpoint, user=owner)
        endpoints.delete(endpoint=endpoint, user=owner)
        stored = Endpoint.objects.get()
        assert stored.deleted_at is not None
        assert (stored.sealed_secret, stored.sealed_previous_secret, stored.is_rotating) == ("", "", False)
        assert not Endpoint.objects.of(stored.organization).exists()

    def test_what_waits_is_cancelled_and_the_rest_of_the_log_stays(self, endpoint, delivery, owner):
        done = factories.delivery(endpoint, state="succeeded", next_attempt_at=None)
        leased = factories.delivery(endpoint, lease=uuid.uuid4(), leased_until=timezone.now() + timedelta(minutes=1))
        others = factories.delivery(factories.endpoint(endpoint.organization))
        endpoints.delete(endpoint=endpoint, user=owner)
        delivery.refresh_from_db()
        assert (delivery.state, delivery.next_attempt_at) == ("cancelled", None)
        assert delivery.ended_at is not None
        states = dict(Delivery.objects.values_list("id", "state"))
        # What is being sent is the sweeper's.
        assert [states[row.id] for row in (done, leased, others)] == ["succeeded", "pending", "pending"]

    def test_many_are_cancelled_in_batches(self, endpoint, owner, monkeypatch):
        monkeypatch.setattr("webhooks.queue.STRAYS", 2)
        for _ in range(5):
            factories.delivery(endpoint)
        endpoints.delete(endpoint=endpoint, user=owner)
        assert set(Delivery.objects.values_list("state", flat=True)) == {"cancelled"}

    def test_a_second_time_is_not_found(self, endpoint, owner):
        endpoints.delete(endpoint=endpoint, user=owner)
        with pytest.raises(errors.NotFound):
            endpoints.delete(endpoint=endpoint, user=owner)
