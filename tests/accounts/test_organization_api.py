"""GET and PATCH /v1/organization."""

import json

import pytest
from django.test import Client

from accounts import jwt, organizations, sessions
from accounts.models import Organization, Role
from helixflow.lib import clock
from tests import factories

pytestmark = pytest.mark.django_db

URL = "/v1/organization"


def api(user, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def patch(client: Client, body: object):
    return client.patch(URL, json.dumps(body), "application/json")


@pytest.mark.parametrize("slash", ["", "/"])
def test_it_shows_the_organization_to_everybody_in_it(member, organization, slash):
    response = api(member).get(URL + slash)
    assert response.status_code == 200
    assert response.json()["data"] == {
        "id": organization.public_id,
        "object": "organization",
        "name": "Acme",
        "role": "member",
        "cache_ttl_s": None,
        "contents_days": None,
        "created_at": clock.rfc3339(organization.created_at),
        "deletion_due_at": None,
    }


def test_it_wants_a_login():
    assert Client().get(URL).status_code == 401
    assert patch(Client(), {"cache_ttl_s": 60}).status_code == 401


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_owners_and_admins_change_what_they_name(organization, role):
    user = factories.user("manager", organization=organization, role=role)
    response = patch(api(user), {"cache_ttl_s": 3600})
    assert response.json()["data"] | {"created_at": ""} == {
        "id": organization.public_id,
        "object": "organization",
        "name": "Acme",
        "role": role,
        "cache_ttl_s": 3600,
        "contents_days": None,
        "created_at": "",
        "deletion_due_at": None,
    }
    assert patch(api(user), {"name": " Acme Ltd "}).json()["data"]["name"] == "Acme Ltd"
    assert patch(api(user), {"cache_ttl_s": None}).json()["data"]["cache_ttl_s"] is None
    organization.refresh_from_db()
    assert (organization.name, organization.cache_ttl_s, organization.generation) == ("Acme Ltd", None, 4)


def test_what_changes_nothing_is_no_news(owner, organization):
    assert patch(api(owner), {"name": "Acme", "cache_ttl_s": None}).status_code == 200
    assert patch(api(owner), {}).status_code == 200
    organization.refresh_from_db()
    assert organization.generation == 1


def test_members_change_nothing(member, organization):
    assert patch(api(member), {"cache_ttl_s": 60}).status_code == 403
    organization.refresh_from_db()
    assert organization.cache_ttl_s is None


def test_the_outsider_changes_their_own(outsider, organization):
    assert patch(api(outsider), {"cache_ttl_s": 60}).status_code == 200
    foreign = api(outsider, **{"X-HelixFlow-Organization": organization.public_id})
    assert foreign.get(URL).status_code == 404
    assert patch(foreign, {"cache_ttl_s": 60}).status_code == 404
    organization.refresh_from_db()
    assert organization.cache_ttl_s is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"cache_ttl_s": 0}, "cache_ttl_s"),
        ({"cache_ttl_s": -1}, "cache_ttl_s"),
        ({"cache_ttl_s": 86_401}, "cache_ttl_s"),
        ({"cache_ttl_s": 2**70}, "cache_ttl_s"),
        ({"cache_ttl_s": "60"}, "cache_ttl_s"),
        ({"cache_ttl_s": True}, "cache_ttl_s"),
        ({"cache_ttl_s": 1.0}, "cache_ttl_s"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": None}, "name"),
        ({"id": "org-1"}, "id"),
        ({"generation": 5}, "generation"),
        ({"disabled_at": None}, "disabled_at"),
    ],
)
def test_bad_values_are_refused_by_name(owner, organization, body, param):
    response = patch(api(owner), {"cache_ttl_s": 60} | body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    organization.refresh_from_db()
    assert (organization.name, organization.cache_ttl_s, organization.generation) == ("Acme", None, 1)


def test_a_disabled_organization_is_changed_by_nobody(owner, organization):
    organizations.disable(organization=organization)
    assert patch(api(owner), {"cache_ttl_s": 60}).status_code == 403
    assert Organization.objects.get(id=organization.id).cache_ttl_s is None


def test_contents_are_turned_on_and_off(owner, organization):
    for days in (30, None):
        response = patch(api(owner), {"contents_days": days})
        assert (response.status_code, response.json()["data"]["contents_days"]) == (200, days)


@pytest.mark.parametrize("days", [0, 366, -1, True, "30"])
def test_days_that_make_no_sense_are_refused(owner, organization, days):
    response = patch(api(owner), {"contents_days": days})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "contents_days")
