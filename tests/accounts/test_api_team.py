"""/v1/members, /v1/invitations, /v1/organizations, and the hand-over and deletion of /v1/organization."""

import pytest
from django.test import Client

from accounts.models import Invitation, Membership, Organization, Role
from tests import factories
from tests.accounts.team import api, membership, send, verified

pytestmark = pytest.mark.django_db

MEMBERS = "/v1/members"
INVITATIONS = "/v1/invitations"


@pytest.fixture
def admin(organization):
    return verified(factories.user("admin", organization=organization, role=Role.ADMIN))


def test_every_endpoint_wants_a_login(member):
    one = f"{MEMBERS}/{member.public_id}"
    for method, url in (
        ("GET", MEMBERS),
        ("GET", one),
        ("PATCH", one),
        ("DELETE", one),
        ("GET", INVITATIONS),
        ("POST", INVITATIONS),
        ("POST", "/v1/organization/transfer"),
        ("POST", "/v1/organization/deletion"),
        ("DELETE", "/v1/organization/deletion"),
        ("GET", "/v1/organizations"),
        ("POST", "/v1/organizations"),
    ):
        assert send(Client(), method, url, {}).status_code == 401, url


def test_members_are_listed_by_page_for_everybody(owner, member, organization):
    client = api(member)
    first = client.get(f"{MEMBERS}?limit=1").json()
    assert [row["email"] for row in first["data"]] == ["owner@example.com"]
    second = client.get(f"{MEMBERS}?limit=1&cursor={first['meta']['next_cursor']}").json()
    assert second["meta"]["next_cursor"] is None
    row = second["data"][0]
    assert row.pop("joined_at").endswith("Z")
    assert row == {
        "id": member.public_id,
        "object": "member",
        "email": "member@example.com",
        "name": "",
        "role": "member",
    }
    assert client.get(f"{MEMBERS}/{owner.public_id}").json()["data"]["role"] == "owner"
    assert client.get(f"{MEMBERS}?cursor=7").status_code == 400


def test_an_owner_changes_roles_and_removes(owner, member, organization):
    client, one = api(owner), f"{MEMBERS}/{member.public_id}"
    assert send(client, "PATCH", one, {"role": "admin"}).json()["data"]["role"] == "admin"
    assert send(client, "PATCH", one, {"role": "boss"}).json()["error"]["param"] == "role"
    assert send(client, "PATCH", one, {"role": "admin", "is_staff": True}).json()["error"]["param"] == "is_staff"
    assert send(client, "DELETE", one).json()["data"] == {"id": member.public_id, "object": "member", "deleted": True}
    assert send(client, "DELETE", one).status_code == 404


def test_admins_and_members_are_refused_what_the_table_says(owner, admin, member):
    second = factories.user("second", organization=Organization.objects.get())
    assert send(api(admin), "PATCH", f"{MEMBERS}/{second.public_id}", {"role": "admin"}).status_code == 403
    assert send(api(admin), "DELETE", f"{MEMBERS}/{owner.public_id}").status_code == 403
    assert send(api(admin), "DELETE", f"{MEMBERS}/{second.public_id}").status_code == 200
    assert send(api(member), "DELETE", f"{MEMBERS}/{admin.public_id}").status_code == 403
    assert send(api(member), "GET", INVITATIONS).status_code == 403
    assert send(api(admin), "POST", "/v1/organization/transfer", {"user_id": member.public_id}).status_code == 403
    assert send(api(admin), "POST", "/v1/organization/deletion", {}).status_code == 403


def test_deleting_oneself_leaves_and_the_last_owner_can_t(owner, member, organization):
    assert send(api(member), "DELETE", f"{MEMBERS}/{member.public_id}").status_code == 200
    refused = send(api(owner), "DELETE", f"{MEMBERS}/{owner.public_id}")
    assert refused.status_code == 400
    assert "always has an owner" in refused.json()["error"]["message"]
    assert Membership.objects.filter(organization=organization).count() == 1


def test_nothing_of_another_organization_is_found(owner, member, outsider):
    invitation = Invitation(organization=Organization.objects.get(memberships__user=owner))
    for method, url, body in (
        ("GET", f"{MEMBERS}/{member.public_id}", None),
        ("PATCH", f"{MEMBERS}/{member.public_id}", {"role": "admin"}),
        ("DELETE", f"{MEMBERS}/{member.public_id}", None),
        ("GET", f"{INVITATIONS}/{invitation.public_id}", None),
        ("POST", "/v1/organization/transfer", {"user_id": member.public_id}),
    ):
        assert send(api(outsider), method, url, body).status_code == 404


def test_invitations_are_made_sent_again_and_withdrawn(owner, organization, inbox):
    client = api(verified(owner))
    made = send(client, "POST", INVITATIONS, {"email": "friend@example.com", "role": "admin"})
    assert made.status_code == 201
    data = made.json()["data"]
    assert (data["status"], data["role"], data["invited_by"]) == ("open", "admin", owner.public_id)
    assert "token" not in str(data)
    assert "digest" not in str(data)
    one = f"{INVITATIONS}/{data['id']}"
    assert client.get(INVITATIONS).json()["data"] == [client.get(one).json()["data"]] == [data]
    assert send(client, "POST", f"{one}/resend").json()["data"]["expires_at"] >= data["expires_at"]
    assert len(inbox) == 2
    for _ in range(2):
        assert send(client, "DELETE", one).json()["data"]["status"] == "withdrawn"
    assert client.get(INVITATIONS).json()["data"] == []
    assert send(client, "POST", f"{one}/resend").status_code == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"email": "x"}, "email"),
        ({}, "email"),
        ({"email": "a@example.com", "role": "boss"}, "role"),
        ({"email": 1}, "email"),
    ],
)
def test_bad_invitations_are_refused_by_name(owner, organization, body, param):
    assert send(api(verified(owner)), "POST", INVITATIONS, body).json()["error"]["param"] == param
    assert not Invitation.objects.exists()


def test_inviting_waits_for_a_verified_address(owner, organization):
    assert send(api(owner), "POST", INVITATIONS, {"email": "a@example.com"}).status_code == 403


def test_a_transfer_tells_the_caller_s_new_role(owner, member, organization):
    done = send(api(owner), "POST", "/v1/organization/transfer", {"user_id": member.public_id})
    assert done.json()["data"]["role"] == "admin"
    assert membership(member, organization).role == Role.OWNER


def test_organizations_are_listed_and_made(owner, organization):
    client = api(verified(owner))
    made = send(client, "POST", "/v1/organizations", {"name": "Beta"})
    assert made.status_code == 201
    assert made.json()["data"]["role"] == "owner"
    assert [row["name"] for row in client.get("/v1/organizations").json()["data"]] == ["Acme", "Beta"]
    assert send(client, "POST", "/v1/organizations", {"name": ""}).json()["error"]["param"] == "name"
    assert client.get(MEMBERS).status_code == 400  # which of the two?


def test_a_deletion_wants_name_and_password_and_can_be_taken_back(owner, organization):
    client, url = api(owner), "/v1/organization/deletion"
    right = {"name": "Acme", "password": factories.PASSWORD}
    for field in right:
        assert send(client, "POST", url, right | {field: "wrong"}).json()["error"]["param"] == field
    asked = send(client, "POST", url, right)
    assert asked.status_code == 202
    assert asked.json()["data"]["deletion_due_at"] is not None
    refused = send(client, "PATCH", "/v1/organization", {"name": "New"})
    assert refused.status_code == 403
    assert send(client, "DELETE", url).json()["data"]["deletion_due_at"] is None
    assert send(client, "PATCH", "/v1/organization", {"name": "New"}).status_code == 200
