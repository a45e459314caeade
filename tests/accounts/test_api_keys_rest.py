import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys, auth, jwt, sessions
from accounts.models import ApiKey, Membership, Role
from helixflow.lib import ids
from tests import factories

URL = "/v1/api-keys"


def api(user, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def send(client: Client, method: str, url: str, body: object = None):
    return client.generic(method, url, json.dumps(body) if body is not None else "", "application/json")


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def test_creation_answers_201_with_the_secret_this_once(owner, organization):
    expires_at = (timezone.now() + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"name": "CI", "environment": "production", "expires_at": expires_at, "models": ["gpt-4"]}
    response = send(api(owner), "POST", URL, body)
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert set(answer["meta"]) == {"timestamp", "request_id"}
    assert response["X-Request-ID"] == answer["meta"]["request_id"]
    data = answer["data"]
    secret = data.pop("key")
    stored = ApiKey.objects.get()
    assert bytes(stored.digest) == auth.digests(secret)[0]
    assert data.pop("created_at").endswith("Z")
    assert data == {
        "id": stored.public_id,
        "object": "api_key",
        "name": "CI",
        "environment": "production",
        "hint": stored.hint,
        "status": "active",
        "models": ["gpt-4"],
        "created_by": owner.public_id,
        "expires_at": expires_at,
        "last_used_at": None,
        "revoked_at": None,
        "rotated_to": None,
    }
    again = api(owner).get(f"{URL}/{stored.public_id}")
    assert again.status_code == 200
    assert secret not in again.content.decode()
    assert secret not in api(owner).get(URL).content.decode()


def test_a_name_is_enough(owner, organization):
    data = send(api(owner), "POST", URL, {"name": "CI"}).json()["data"]
    assert (data["environment"], data["models"], data["expires_at"]) == ("development", None, None)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_trailing_slash_is_optional(owner, key, slash):
    assert api(owner).get(URL + slash).status_code == 200
    assert api(owner).get(f"{URL}/{key.public_id}{slash}").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": ["CI"]}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "CI", "environment": "moon"}, "environment"),
        ({"name": "CI", "environment": None}, "environment"),
        ({"name": "CI", "expires_at": "soon"}, "expires_at"),
        ({"name": "CI", "expires_at": 1}, "expires_at"),
        ({"name": "CI", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "CI", "expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at"),
        ({"name": "CI", "models": "gpt-4"}, "models"),
        ({"name": "CI", "models": []}, "models"),
        ({"name": "CI", "models": [1]}, "models"),
        ({"name": "CI", "models": {"gpt-4": True}}, "models"),
        ({"name": "CI", "models": ["m"] * 100 + [f"m{n}" for n in range(101)]}, "models"),
        ({"name": "CI", "organization_id": "org-1"}, "organization_id"),
        ({"name": "CI", "revoked_at": None}, "revoked_at"),
        ({"name": "CI", "digest": "00"}, "digest"),
    ],
)
def test_a_bad_field_is_refused_by_name(owner, organization, body, param):
    response = send(api(owner), "POST", URL, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert error["param"] == param
    assert param in error["details"]
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name": "CI"',
        b"[]",
        b'"CI"',
        b"null",
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": "a\\u0000b"}',
        b"\xff\xfe{}",
        b'{"name": ' + b"[" * 100_000,
        b'{"name": "CI", "models": ' + b"[" * 80 + b"]" * 80 + b"}",
    ],
)
def test_a_body_that_is_no_sound_json_is_400(owner, organization, raw):
    response = api(owner).generic("POST", URL, raw, "application/json")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


def test_another_media_type_is_415(owner, organization):
    assert api(owner).post(URL, {"name": "CI"}).status_code == 415


def test_unknown_methods_are_405(owner, key):
    response = api(owner).put(f"{URL}/{key.public_id}")
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "invalid_request"


ENDPOINTS = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/{id}"),
    ("PATCH", "/{id}"),
    ("DELETE", "/{id}"),
    ("POST", "/{id}/rotate"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_every_endpoint_requires_a_login(client, organization, owner, key, method, path):
    url = URL + path.format(id=key.public_id)
    client.force_login(owner)  # a session of the dashboard is no credential here
    response = send(client, method, url, {"name": "x"})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "authentication_failed"


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_an_api_key_is_told_that_a_login_is_needed(organization, owner, method, path):
    key, secret = api_keys.create(organization=organization, user=owner, name="CI")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    response = send(client, method, URL + path.format(id=key.public_id), {"name": "x"})
    assert response.status_code == 401
    error = response.json()["error"]
    assert error["code"] == "authentication_failed"
    assert "access token" in error["message"]
    assert secret not in response.content.decode()


@pytest.mark.parametrize(("method", "path"), [endpoint for endpoint in ENDPOINTS if "{id}" in endpoint[1]])
def test_another_organizations_key_is_404_like_one_that_never_was(outsider, key, method, path):
    body = {} if method != "PATCH" else {"name": "mine"}
    foreign = send(api(outsider), method, URL + path.format(id=key.public_id), body)
    unknown = send(api(outsider), method, URL + path.format(id=ids.new_id(ids.API_KEY)), body)
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["error"]["message"] == unknown.json()["error"]["message"]
    key.refresh_from_db()
    assert (key.name, key.revoked_at, key.rotated_to) == ("CI", None, None)


@pytest.mark.parametrize(
    "bad", ["1", "key_", "key_" + "z" * 22, "key_../../etc", "%00", "%F0%9F%94%91", "' OR 1=1", "k" * 5000]
)
def test_odd_ids_are_404(owner, organization, bad):
    assert api(owner).get(f"{URL}/{bad}").status_code == 404


@pytest.mark.parametrize(("method", "path"), [endpoint for endpoint in ENDPOINTS if endpoint[0] != "GET"])
def test_a_member_sees_keys_but_does_not_manage_them(member, key, method, path):
    response = send(api(member), method, URL + path.format(id=key.public_id), {"name": "mine"})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "authorization_failed"
    key.refresh_from_db()
    assert (key.name, key.revoked_at) == ("CI", None)
    assert [row["id"] for row in api(member).get(URL).json()["data"]] == [key.public_id]


def test_an_admin_manages_keys(organization, key):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    assert send(api(admin), "PATCH", f"{URL}/{key.public_id}", {"name": "Deploys"}).status_code == 200
    assert send(api(admin), "POST", URL, {"name": "Another"}).status_code == 201


def test_a_disabled_organization_is_403(owner, organization):
    organization.disabled_at = timezone.now()
    organization.save()
    assert api(owner).get(URL).status_code == 403


def test_the_list_is_newest_first_and_paged_by_key(owner, organization):
    made = [api_keys.create(organization=organization, user=owner, name=f"{n}")[0].public_id for n in range(5)]
    caller, seen, cursor = api(owner), [], None
    while True:
        answer = caller.get(URL, {"limit": "2"} | ({"cursor": cursor} if cursor else {})).json()
        seen.append([row["id"] for row in answer["data"]])
        cursor = answer["meta"]["next_cursor"]
        if cursor is None:
            break
    newest = sorted(made, reverse=True)
    assert seen == [newest[:2], newest[2:4], newest[4:]]


def test_the_list_costs_the_same_for_many_keys(owner, organization, django_assert_max_num_queries):
    for n in range(20):
        api_keys.create(organization=organization, user=owner, name=f"{n}")
    caller = api(owner)
    with django_assert_max_num_queries(3):  # the session of the token, the membership, the keys
        assert len(caller.get(URL).json()["data"]) == 20


def test_the_list_can_be_of_active_keys_only(owner, organization, key):
    gone, _ = api_keys.create(organization=organization, user=owner, name="gone")
    api_keys.revoke(key=gone, user=owner)
    assert [row["id"] for row in api(owner).get(URL, {"status": "active"}).json()["data"]] == [key.public_id]
    assert len(api(owner).get(URL, {"status": "all"}).json()["data"]) == 2


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("limit", "1000000000"),
        ("limit", "101"),
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "abc"),
        ("limit", "1.5"),
        ("limit", ""),
        ("limit", "٣"),
        ("limit", "9" * 5000),
        ("cursor", "abc"),
        ("cursor", "org-" + "0" * 22),
        ("cursor", ""),
        ("status", "dead"),
    ],
)
def test_bad_paging_is_a_clear_400(owner, organization, param, value):
    response = api(owner).get(URL, {param: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_patch_changes_what_is_given(owner, key):
    response = send(api(owner), "PATCH", f"{URL}/{key.public_id}", {"name": "Deploys", "models": ["gpt-4"]})
    assert response.status_code == 200
    assert (response.json()["data"]["name"], response.json()["data"]["models"]) == ("Deploys", ["gpt-4"])
    response = send(api(owner), "PATCH", f"{URL}/{key.public_id}", {"models": None})
    assert (response.json()["data"]["name"], response.json()["data"]["models"]) == ("Deploys", None)
    assert "key" not in response.json()["data"]


@pytest.mark.parametrize("body", [{"name": ""}, {"key": "hflow_x"}, {"environment": 1}, {"id": "key_1"}])
def test_patch_refuses_what_create_refuses(owner, key, body):
    assert send(api(owner), "PATCH", f"{URL}/{key.public_id}", body).status_code == 400


def test_delete_revokes_and_says_so_twice(owner, key):
    first = api(owner).delete(f"{URL}/{key.public_id}")
    again = api(owner).delete(f"{URL}/{key.public_id}")
    assert first.status_code == again.status_code == 200
    assert first.json()["data"] == again.json()["data"]
    assert first.json()["data"]["status"] == "revoked"


def test_rotation_answers_with_the_new_secret_and_the_old_keys_end(owner, key):
    response = send(api(owner), "POST", f"{URL}/{key.public_id}/rotate", {"grace_days": 7})
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    data = response.json()["data"]
    successor = ApiKey.objects.exclude(id=key.id).get()
    assert bytes(successor.digest) == auth.digests(data["key"])[0]
    assert data["id"] == successor.public_id == data["replaces"]["rotated_to"]
    assert data["replaces"]["id"] == key.public_id
    assert data["replaces"]["status"] == "active"
    key.refresh_from_db()
    assert timedelta(days=6.99) < key.expires_at - timezone.now() <= timedelta(days=7)


def test_rotation_needs_no_body_and_then_gives_a_day(owner, key):
    assert api(owner).generic("POST", f"{URL}/{key.public_id}/rotate").status_code == 201
    key.refresh_from_db()
    assert timedelta(days=0.99) < key.expires_at - timezone.now() <= timedelta(days=1)


@pytest.mark.parametrize("grace", [-1, 8, 2**63, "3", 1.5, True, None, []])
def test_rotation_refuses_other_graces(owner, key, grace):
    response = send(api(owner), "POST", f"{URL}/{key.public_id}/rotate", {"grace_days": grace})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "grace_days"
    assert ApiKey.objects.count() == 1


def test_a_second_rotation_is_a_clear_400(owner, key):
    assert send(api(owner), "POST", f"{URL}/{key.public_id}/rotate", {}).status_code == 201
    response = send(api(owner), "POST", f"{URL}/{key.public_id}/rotate", {})
    assert response.status_code == 400
    assert "rotated already" in response.json()["error"]["message"]


class TestSeveralOrganizations:
    @pytest.fixture
    def second(self, owner, organization):
        return factories.organization(owner=owner, name="Second")

    def test_one_must_be_named(self, owner, second):
        response = api(owner).get(URL)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "X-HelixFlow-Organization"

    def test_the_named_one_counts(self, owner, organization, key, second):
        there = api(owner, **{"X-HelixFlow-Organization": second.public_id})
        here = api(owner, **{"X-HelixFlow-Organization": organization.public_id})
        assert there.get(URL).json()["data"] == []
        assert len(here.get(URL).json()["data"]) == 1
        assert there.get(f"{URL}/{key.public_id}").status_code == 404

    def test_the_role_is_that_of_the_named_one(self, owner, second, member):
        Membership.objects.create(organization=second, user=member, role=Role.ADMIN)
        there = api(member, **{"X-HelixFlow-Organization": second.public_id})
        assert send(there, "POST", URL, {"name": "CI"}).status_code == 201

    @pytest.mark.parametrize("name", ["", "org-1", "Acme", "org-" + "0" * 22])
    def test_any_other_is_404(self, owner, organization, name):
        assert api(owner, **{"X-HelixFlow-Organization": name}).get(URL).status_code == 404

    def test_a_foreign_one_is_404(self, outsider, organization):
        assert api(outsider, **{"X-HelixFlow-Organization": organization.public_id}).get(URL).status_code == 404


def test_someone_without_an_organization_is_403(db):
    assert api(factories.user("nobody")).get(URL).status_code == 403
