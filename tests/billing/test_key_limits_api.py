"""GET and PUT /v1/api-keys/{id}/limits."""

import json
from datetime import timedelta

import pytest
from django.test import Client

from accounts import api_keys, jwt, sessions
from accounts.models import ApiKey, Role
from billing import key_limits
from billing.models import KeyLimits
from tests import factories

pytestmark = pytest.mark.django_db

NONE = {"requests_per_minute": None, "requests_per_month": None, "monthly_budget": None}
SOME = {"requests_per_minute": 5, "requests_per_month": 500, "monthly_budget": "12.50"}


def api(user, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def put(client: Client, url: str, body: object):
    return client.put(url, json.dumps(body), "application/json")


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def url(key) -> str:
    return f"/v1/api-keys/{key.public_id}/limits"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_key_has_no_limits_of_its_own_at_first(owner, key, url, slash):
    response = api(owner).get(url + slash)
    assert response.status_code == 200
    expected = {"object": "api_key.limits", "api_key_id": key.public_id, "currency": "USD"} | NONE
    assert response.json()["data"] == expected


def test_what_is_put_is_there(owner, key, url):
    response = put(api(owner), url, SOME)
    assert response.status_code == 200
    expected = {"object": "api_key.limits", "api_key_id": key.public_id, "currency": "USD"} | SOME
    assert response.json()["data"] == expected
    assert api(owner).get(url).json()["data"] == expected


def test_null_takes_away(owner, key, url):
    put(api(owner), url, SOME)
    data = put(api(owner), url, SOME | {"requests_per_month": None}).json()["data"]
    assert data["requests_per_month"] is None
    assert data["monthly_budget"] == "12.50"
    assert put(api(owner), url, NONE).status_code == 200
    assert not KeyLimits.objects.exists()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "requests_per_minute"),
        ({"requests_per_minute": 5, "requests_per_month": 5}, "monthly_budget"),
        (SOME | {"requests_per_minute": -1}, "requests_per_minute"),
        (SOME | {"requests_per_minute": "5"}, "requests_per_minute"),
        (SOME | {"requests_per_month": 2**31}, "requests_per_month"),
        (SOME | {"requests_per_month": True}, "requests_per_month"),
        (SOME | {"requests_per_month": 1.5}, "requests_per_month"),
        (SOME | {"monthly_budget": 12.5}, "monthly_budget"),
        (SOME | {"monthly_budget": "-1"}, "monthly_budget"),
        (SOME | {"monthly_budget": "1.005"}, "monthly_budget"),
        (SOME | {"max_parallel": 4}, "max_parallel"),
        (SOME | {"api_key": "key_1"}, "api_key"),
    ],
)
def test_a_bad_field_is_refused_by_name(owner, key, url, body, param):
    response = put(api(owner), url, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert param in error["details"]
    assert not KeyLimits.objects.exists()


def test_it_requires_credentials(client, url):
    assert client.get(url).status_code == put(client, url, SOME).status_code == 401


def test_a_key_cannot_change_its_own_limits(organization, owner):
    key, secret = api_keys.create(organization=organization, user=owner, name="CI")
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    url = f"/v1/api-keys/{key.public_id}/limits"
    assert client.get(url).status_code == put(client, url, NONE).status_code == 401


def test_a_member_reads_and_does_not_change(member, url):
    assert api(member).get(url).status_code == 200
    assert put(api(member), url, SOME).status_code == 403
    assert not KeyLimits.objects.exists()


def test_an_admin_changes(organization, url):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    assert put(api(admin), url, SOME).status_code == 200


def test_another_organization_s_key_is_not_there(outsider, owner, organization, url):
    assert api(outsider).get(url).status_code == put(api(outsider), url, SOME).status_code == 404
    named = api(outsider, **{"X-HelixFlow-Organization": organization.public_id})
    assert named.get(url).status_code == put(named, url, SOME).status_code == 404
    assert not KeyLimits.objects.exists()


@pytest.mark.parametrize("key_id", ["key_1", "org-" + "0" * 22, "key_" + "0" * 22])
def test_an_unknown_key_is_not_there(owner, organization, key_id):
    assert api(owner).get(f"/v1/api-keys/{key_id}/limits").status_code == 404


def test_a_revoked_key_s_limits_can_be_read_only(owner, key, url):
    api_keys.revoke(key=key, user=owner)
    assert api(owner).get(url).status_code == 200
    response = put(api(owner), url, SOME)
    assert response.status_code == 400
    assert "revoked" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_other_methods_are_405(owner, url, method):
    assert getattr(api(owner), method)(url).status_code == 405


def test_a_rotated_key_hands_its_limits_to_its_successor(owner, key):
    key_limits.set_limits(key=key, user=owner, requests_per_minute=5, requests_per_month=None, monthly_budget=None)
    successor, _ = api_keys.rotate(key=key, user=owner, grace=timedelta(days=1))
    assert key_limits.of(successor).requests_per_minute == 5
    assert key_limits.of(key).requests_per_minute == 5
