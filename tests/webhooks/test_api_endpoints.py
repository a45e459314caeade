"""REST for endpoints: /v1/webhooks."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import Role
from helixflow.lib import errors, ids
from tests import factories
from tests.webhooks.rest import URL, api, send
from webhooks import endpoints
from webhooks.models import Delivery, Endpoint

PUBLIC = "https://93.184.216.34/hooks"  # dialled by nobody here, and no name to be looked up
BODY = {"url": PUBLIC, "events": ["completion.created"]}
FIELDS = {
    "id",
    "object",
    "url",
    "description",
    "events",
    "api_keys",
    "models",
    "enabled",
    "disabled_at",
    "disabled_reason",
    "failing_since",
    "rotation",
    "created_by",
    "created_at",
}
ENDPOINTS = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/{id}"),
    ("PATCH", "/{id}"),
    ("DELETE", "/{id}"),
    ("POST", "/{id}/rotate-secret"),
    ("POST", "/{id}/finish-rotation"),
    ("POST", "/{id}/test"),
]
OF_ONE = [pair for pair in ENDPOINTS if "{id}" in pair[1]]
WRITING = [pair for pair in ENDPOINTS if pair[0] != "GET"]


@pytest.fixture(autouse=True)
def _nobody_sends(nudged) -> None:
    pass


def test_creation_answers_201_with_the_secret_this_once(owner, organization, key):
    body = {
        **BODY,
        "description": "Usage",
        "api_keys": [key.public_id],
        "models": ["gpt-4"],
        "enabled": False,
    }
    response = send(api(owner), "POST", URL, body)
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    stored = Endpoint.objects.get()
    assert answer["data"].pop("secret") == stored.secret
    assert set(answer["data"]) == FIELDS
    assert {name: answer["data"][name] for name in body} == body
    assert (answer["data"]["id"], answer["data"]["object"]) == (stored.public_id, "webhook_endpoint")
    assert answer["data"]["created_by"] == owner.public_id
    assert answer["data"]["disabled_reason"] == "manual"
    assert set(answer["meta"]) == {"timestamp", "request_id"}
    shown = api(owner).get(f"{URL}/{stored.public_id}")
    assert stored.secret not in shown.content.decode()
    assert stored.secret not in api(owner).get(URL).content.decode()


def test_an_endpoint_is_shown_with_how_it_did_lately(owner, endpoint, delivery):
    factories.attempt(delivery, duration_ms=12.3456)
    data = api(owner).get(f"{URL}/{endpoint.public_id}").json()["data"]
    assert set(data) == FIELDS | {"statistics"}
    assert data["statistics"] == {
        "attempts": 1,
        "succeeded": 1,
        "success_rate": 1.0,
        "p50_ms": 12.346,
        "p95_ms": 12.346,
        "pending": 1,
    }
    assert (data["enabled"], data["disabled_at"], data["disabled_reason"], data["failing_since"]) == (
        True,
        None,
        None,
        None,
    )
    assert (data["api_keys"], data["models"], data["rotation"]) == (None, None, None)
    assert data["events"] == endpoint.events


@pytest.mark.parametrize("slash", ["", "/"])
def test_addresses_work_with_and_without_a_slash(owner, endpoint, slash):
    assert api(owner).get(URL + slash).status_code == 200
    assert api(owner).get(f"{URL}/{endpoint.public_id}{slash}").status_code == 200
    assert send(api(owner), "POST", f"{URL}/{endpoint.public_id}/finish-rotation{slash}").status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": None}, "url"),
        ({"url": ""}, "url"),
        ({"url": 7}, "url"),
        ({"url": [PUBLIC]}, "url"),
        ({"url": "https://user:pass@93.184.216.34/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": PUBLIC + "x" * 2000}, "url"),
        ({"events": None}, "events"),
        ({"events": []}, "events"),
        ({"events": "completion.created"}, "events"),
        ({"events": {"completion.created": True}}, "events"),
        ({"events": [1]}, "events"),
        ({"events": [None]}, "events"),
        ({"events": ["moon.rises"]}, "events"),
        ({"events": ["quota.low"] * 2}, "events"),
        ({"events": [1] * 100_000}, "events"),
        ({"description": None}, "description"),
        ({"description": 7}, "description"),
        ({"description": "x" * 201}, "description"),
        ({"description": "a\nb"}, "description"),
        ({"api_keys": "key_1"}, "api_keys"),
        ({"api_keys": ["key_1"]}, "api_keys"),
        ({"api_keys": [7]}, "api_keys"),
        ({"models": [""]}, "models"),
        ({"models": [f"m{n}" for n in range(101)]}, "models"),
        ({"enabled": None}, "enabled"),
        ({"enabled": "true"}, "enabled"),
        ({"enabled": 1}, "enabled"),
        ({"secret": "whsec_mine"}, "secret"),
        ({"organization_id": "org-1"}, "organization_id"),
        ({"disabled_reason": "gone"}, "disabled_reason"),
        ({"deleted_at": None}, "deleted_at"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_bad_field_is_refused_by_name(owner, endpoint, method, change, param):
    before = Endpoint.objects.values().get()
    if method == "POST":
        response = send(api(owner), "POST", URL, BODY | change)
    else:
        response = send(api(owner), "PATCH", f"{URL}/{endpoint.public_id}", change)
    assert response.status_code == 400
    assert len(response.content) < 10_000
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert param in error["details"]
    assert Endpoint.objects.values().get() == before


@pytest.mark.parametrize("missing", ["url", "events"])
def test_creation_needs_an_address_and_events(owner, organization, missing):
    body = {name: value for name, value in BODY.items() if name != missing}
    response = send(api(owner), "POST", URL, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, missing)


def test_all_problems_are_told_at_once(owner, organization):
    response = send(api(owner), "POST", URL, {"url": "x", "events": ["y"], "models": [""]})
    assert set(response.json()["error"]["details"]) == {"url", "events", "models"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"url": "',
        b"[]",
        b"null",
        b'{"url": NaN}',
        b'{"url": "\\ud800"}',
        b'{"description": "a\\u0000b"}',
        b"\xff\xfe{}",
        b'{"events": ' + b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_sound_json_is_400(owner, endpoint, raw):
    for method, path in (("POST", ""), ("PATCH", f"/{endpoint.public_id}"), ("POST", f"/{endpoint.public_id}/test")):
        response = api(owner).generic(method, URL + path, raw, "application/json")
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_request"


def test_another_media_type_is_415(owner, organization):
    assert api(owner).post(URL, BODY).status_code == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("DELETE", ""),
        ("PUT", "/{id}"),
        ("POST", "/{id}"),
        ("GET", "/{id}/rotate-secret"),
        ("GET", "/{id}/test"),
        ("OPTIONS", "/{id}"),
    ],
)
def test_unknown_methods_are_405(owner, endpoint, method, path):
    response = send(api(owner), method, URL + path.format(id=endpoint.public_id))
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "invalid_request"


def test_unknown_paths_are_404_in_json(owner, endpoint):
    response = api(owner).get(f"{URL}/{endpoint.public_id}/secret")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_every_address_requires_a_login(client, owner, endpoint, method, path):
    client.force_login(owner)  # a session of the dashboard is no credential here
    response = send(client, method, URL + path.format(id=endpoint.public_id), BODY)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_an_api_key_is_refused(organization, owner, endpoint, method, path):
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    response = send(client, method, URL + path.format(id=endpoint.public_id), BODY)
    assert response.status_code == 401
    assert secret not in response.content.decode()


@pytest.mark.parametrize(("method", "path"), OF_ONE)
def test_another_organizations_endpoint_is_404_like_one_that_never_was(outsider, endpoint, method, path):
    before = Endpoint.objects.values().get()
    foreign = send(api(outsider), method, URL + path.format(id=endpoint.public_id), {})
    unknown = send(api(outsider), method, URL + path.format(id=ids.new_id(ids.WEBHOOK)), {})
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["error"]["message"] == unknown.json()["error"]["message"]
    assert Endpoint.objects.values().get() == before
    assert not Delivery.objects.exists()
    assert api(outsider).get(URL).json()["data"] == []


@pytest.mark.parametrize(
    "bad", ["1", "whe_", "whe_" + "z" * 22, "whe_../../etc", "%00", "%F0%9F%94%91", "' OR 1=1", "k" * 5000]
)
def test_odd_ids_are_404(owner, organization, bad):
    assert api(owner).get(f"{URL}/{bad}").status_code == 404
    assert send(api(owner), "POST", f"{URL}/{bad}/test").status_code == 404


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_a_member_sees_endpoints_but_does_not_manage_them(member, endpoint, method, path):
    before = Endpoint.objects.values().get()
    response = send(api(member), method, URL + path.format(id=endpoint.public_id), BODY)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "authorization_failed"
    assert Endpoint.objects.values().get() == before
    assert not Delivery.objects.exists()
    shown = api(member).get(f"{URL}/{endpoint.public_id}").json()["data"]
    assert shown["url"] == endpoint.url
    assert [row["id"] for row in api(member).get(URL).json()["data"]] == [endpoint.public_id]


def test_an_admin_manages_them(organization, endpoint):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    assert send(api(admin), "POST", URL, BODY).status_code == 201
    assert send(api(admin), "PATCH", f"{URL}/{endpoint.public_id}", {"description": "x"}).status_code == 200


def test_another_organizations_key_is_a_bad_field(owner, organization, outsider):
    theirs = outsider.memberships.get().organization
    foreign, _ = api_keys.create(organization=theirs, user=outsider, name="theirs")
    response = send(api(owner), "POST", URL, BODY | {"api_keys": [foreign.public_id]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "api_keys")


def test_a_disabled_organization_is_403(owner, organization):
    organization.disabled_at = timezone.now()
    organization.save()
    assert api(owner).get(URL).status_code == 403


def test_the_limit_is_a_clear_400(owner, endpoint, settings):
    settings.WEBHOOK_MAX_ENDPOINTS = 1
    response = send(api(owner), "POST", URL, BODY)
    assert response.status_code == 400
    assert "can have 1" in response.json()["error"]["message"]


def test_the_list_is_newest_first_and_paged_by_key(owner, organization):
    made = [factories.endpoint(organization).public_id for _ in range(5)]
    caller, seen, cursor = api(owner), [], None
    while True:
        answer = caller.get(URL, {"limit": "2"} | ({"cursor": cursor} if cursor else {})).json()
        seen.append([row["id"] for row in answer["data"]])
        assert all(set(row) == FIELDS for row in answer["data"])
        cursor = answer["meta"]["next_cursor"]
        if cursor is None:
            break
    newest = sorted(made, reverse=True)
    assert seen == [newest[:2], newest[2:4], newest[4:]]


def test_the_list_costs_the_same_for_many(owner, organization, django_assert_max_num_queries):
    for _ in range(20):
        factories.endpoint(organization, created_by=owner)
    caller = api(owner)
    with django_assert_max_num_queries(3):  # the session of the token, the membership, the endpoints
        assert len(caller.get(URL).json()["data"]) == 20


@pytest.mark.parametrize(
    "query",
    ["limit=1000000000", "limit=0", "limit=-1", "limit=", "cursor=abc", "cursor=", "page=1", "limit=1&limit=2"],
)
def test_bad_paging_is_a_clear_400(owner, organization, query):
    response = api(owner).get(f"{URL}?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


def test_patch_changes_what_is_given(owner, endpoint, key):
    url = f"{URL}/{endpoint.public_id}"
    body = {"events": ["quota.low"], "api_keys": [key.public_id], "url": PUBLIC}
    response = send(api(owner), "PATCH", url, body)
    assert response.status_code == 200
    data = response.json()["data"]
    assert {name: data[name] for name in body} == body
    assert "secret" not in data
    assert send(api(owner), "PATCH", url, {"api_keys": None}).json()["data"]["api_keys"] is None
    assert send(api(owner), "PATCH", url, {}).json()["data"]["events"] == ["quota.low"]


def test_patch_disables_and_enables(owner, endpoint, nudged):
    url = f"{URL}/{endpoint.public_id}"
    data = send(api(owner), "PATCH", url, {"enabled": False}).json()["data"]
    assert (data["enabled"], data["disabled_reason"]) == (False, "manual")
    assert data["disabled_at"] is not None
    data = send(api(owner), "PATCH", url, {"enabled": True}).json()["data"]
    assert (data["enabled"], data["disabled_reason"], data["disabled_at"]) == (True, None, None)
    assert [told for told, _ in nudged] == [endpoint.id]


def test_delete_says_so_and_then_it_is_gone(owner, endpoint, delivery):
    response = api(owner).delete(f"{URL}/{endpoint.public_id}")
    assert response.status_code == 200
    assert response.json()["data"] == {"id": endpoint.public_id, "object": "webhook_endpoint", "deleted": True}
    assert api(owner).delete(f"{URL}/{endpoint.public_id}").status_code == 404
    assert api(owner).get(URL).json()["data"] == []
    assert Delivery.objects.get().state == "cancelled"


def test_rotation_answers_with_the_new_secret_and_when_it_ends(owner, endpoint):
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/rotate-secret", {})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    data = response.json()["data"]
    stored = Endpoint.objects.get()
    assert data["secret"] == stored.secret != factories.SECRET
    assert stored.rotation_ends_at is not None
    assert data["rotation"]["ends_at"] == stored.rotation_ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert factories.SECRET not in json.dumps(data)


def test_a_second_rotation_is_a_clear_400_until_the_first_is_finished(owner, endpoint):
    rotate, finish = (f"{URL}/{endpoint.public_id}/{verb}" for verb in ("rotate-secret", "finish-rotation"))
    assert send(api(owner), "POST", rotate).status_code == 200
    assert "Finish it first" in send(api(owner), "POST", rotate).json()["error"]["message"]
    finished = send(api(owner), "POST", finish)
    assert finished.status_code == 200
    assert finished.json()["data"]["rotation"] is None
    assert "secret" not in finished.json()["data"]
    assert send(api(owner), "POST", rotate).status_code == 200


@pytest.mark.parametrize(("verb", "status"), [("rotate-secret", 200), ("finish-rotation", 200), ("test", 202)])
def test_calls_without_fields_need_no_body(owner, endpoint, verb, status):
    assert api(owner).generic("POST", f"{URL}/{endpoint.public_id}/{verb}").status_code == status


def test_calls_without_fields_refuse_any(owner, endpoint):
    for verb in ("rotate-secret", "finish-rotation"):
        response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/{verb}", {"secret": "whsec_mine"})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "secret")


def test_a_test_event_is_accepted_and_told_of(owner, endpoint):
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/test", {"event": "quota.low"})
    assert response.status_code == 202
    data = response.json()["data"]
    stored = Delivery.objects.select_related("event").get()
    assert (data["id"], data["event_id"]) == (stored.public_id, stored.event.public_id)
    assert (data["event"], data["test"], data["state"]) == ("quota.low", True, "pending")


def test_a_test_event_is_by_itself_the_first_that_is_subscribed_to(owner, organization):
    endpoint = factories.endpoint(organization, events=["rate_limit.exceeded", "quota.low"])
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/test")
    assert response.json()["data"]["event"] == "rate_limit.exceeded"


@pytest.mark.parametrize(
    ("body", "param"), [({"event": "moon.rises"}, "event"), ({"event": None}, "event"), ({"data": {}}, "data")]
)
def test_a_bad_test_event_is_refused(owner, endpoint, body, param):
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/test", body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not Delivery.objects.exists()


def test_too_many_test_events_are_429_with_the_time_to_wait(owner, endpoint, monkeypatch):
    monkeypatch.setattr("webhooks.deliveries.TESTS_A_MINUTE", 1)
    assert send(api(owner), "POST", f"{URL}/{endpoint.public_id}/test").status_code == 202
    response = send(api(owner), "POST", f"{URL}/{endpoint.public_id}/test")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(response["Retry-After"]) <= 60


def test_a_url_whose_name_is_unknown_is_a_bad_field(owner, organization, monkeypatch):
    def refuse(url: str) -> None:
        raise errors.InvalidRequest("No such name.", param="url")

    monkeypatch.setattr("helixflow.lib.http.check_url", refuse)
    response = send(api(owner), "POST", URL, BODY)
    assert response.json()["error"]["details"] == {"url": "No such name."}


def test_what_the_platform_disabled_says_why(owner, endpoint):
    since = timezone.now() - timedelta(days=5)
    Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason="failing", failing_since=since)
    data = api(owner).get(f"{URL}/{endpoint.public_id}").json()["data"]
    assert (data["enabled"], data["disabled_reason"]) == (False, "failing")
    assert data["failing_since"] == since.strftime("%Y-%m-%dT%H:%M:%SZ")
    endpoint.refresh_from_db()
    endpoints.enable(endpoint=endpoint, user=owner)
    assert api(owner).get(f"{URL}/{endpoint.public_id}").json()["data"]["failing_since"] is None
