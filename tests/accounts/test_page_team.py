"""The team's pages, the switcher and new organizations, by role."""

import pytest
from django.test import Client

from accounts import access, invitations, organizations
from accounts.models import Invitation, Membership, Organization, Role
from helixflow.lib import errors
from tests import factories
from tests.accounts.team import membership, signed_in, text_of, verified

pytestmark = pytest.mark.django_db

TEAM = "/dashboard/team"
CHOICE = "/dashboard/organization"


@pytest.fixture
def admin(organization):
    return verified(factories.user("admin", organization=organization, role=Role.ADMIN))


@pytest.fixture
def invitation(owner, organization) -> Invitation:
    return invitations.invite(by=membership(verified(owner), organization), email="friend@example.com")


def pages_of(user) -> list[str]:
    return [f"{TEAM}/members/{user.public_id}{what}" for what in ("", "/remove", "/transfer")]


def test_strangers_log_in_first(client, member):
    for url in (
        TEAM,
        f"{TEAM}/roles",
        f"{TEAM}/invite",
        f"{TEAM}/leave",
        "/dashboard/organizations",
        *pages_of(member),
    ):
        assert client.get(url)["Location"] == f"/login?next={url}"


def test_everybody_sees_who_is_in_and_what_roles_may(owner, admin, member, organization):
    for user in (owner, admin, member):
        text = text_of(signed_in(user).get(TEAM))
        assert all(f"{name}@example.com" in text for name in ("owner", "admin", "member"))
        assert "Delete the organization" in text_of(signed_in(user).get(f"{TEAM}/roles"))


def test_owners_see_what_they_can_do(owner, admin, member, invitation):
    page = signed_in(owner).get(TEAM).content.decode()
    for url in (*pages_of(member)[:2], *pages_of(admin)[:2], f"{TEAM}/invite", f"{TEAM}/leave"):
        assert f'href="{url}"' in page
    assert "friend@example.com" in page


def test_admins_remove_members_only(owner, admin, member, invitation):
    client = signed_in(admin)
    page = client.get(TEAM).content.decode()
    assert f'href="{pages_of(member)[1]}"' in page
    assert f'href="{pages_of(member)[0]}"' not in page
    assert f"/members/{owner.public_id}" not in page
    assert "friend@example.com" in page
    assert client.post(pages_of(owner)[1]).status_code == 403
    assert client.post(pages_of(member)[0], {"role": "admin"}).status_code == 403
    assert client.post(pages_of(member)[2], {"typed": "Acme"}).status_code == 403
    assert client.post(pages_of(member)[1])["Location"] == TEAM
    assert not Membership.objects.filter(user=member).exists()


def test_members_only_look_and_leave(owner, admin, member, invitation):
    client = signed_in(member)
    page = client.get(TEAM).content.decode()
    assert "friend@example.com" not in page
    assert f"{TEAM}/invite" not in page
    assert "/members/" not in page
    invited = f"{TEAM}/invitations/{invitation.public_id}"
    for url in (f"{TEAM}/invite", f"{invited}/resend", f"{invited}/withdraw", *pages_of(admin)):
        assert client.post(url, {"role": "owner", "email": "x@example.com", "typed": "Acme"}).status_code == 403
    assert Membership.objects.filter(organization__name="Acme").count() == 3


def test_nothing_of_another_organization_is_found(outsider, member, invitation):
    client = signed_in(verified(outsider))
    invited = f"{TEAM}/invitations/{invitation.public_id}"
    for url in (f"{invited}/resend", f"{invited}/withdraw", *pages_of(member)):
        assert client.post(url, {"role": "admin", "typed": "Acme"}).status_code == 404
    assert "member@example.com" not in text_of(client.get(TEAM))


def test_an_owner_invites_sends_again_and_withdraws(owner, organization, inbox):
    client = signed_in(verified(owner))
    form = client.get(f"{TEAM}/invite").content.decode()
    assert 'value="owner"' in form
    assert client.post(f"{TEAM}/invite", {"email": "friend@example.com", "role": "admin"})["Location"] == TEAM
    again = client.post(f"{TEAM}/invite", {"email": "friend@example.com", "role": "admin"})
    assert "open invitation" in text_of(again)
    invited = f"{TEAM}/invitations/{Invitation.objects.get().public_id}"
    assert client.post(f"{invited}/resend")["Location"] == TEAM
    assert len(inbox) == 2
    assert client.post(f"{invited}/withdraw")["Location"] == TEAM
    assert "Nobody is invited" in text_of(client.get(TEAM))


def test_who_has_no_verified_address_is_told_before_and_after(owner, organization):
    client = signed_in(owner)
    assert "Confirm your e-mail address" in text_of(client.get(TEAM))
    assert client.post(f"{TEAM}/invite", {"email": "a@example.com", "role": "member"}).status_code == 403
    assert not Invitation.objects.exists()


def test_an_owner_changes_a_role(owner, member, organization):
    client = signed_in(owner)
    assert client.post(pages_of(member)[0], {"role": "admin"})["Location"] == TEAM
    assert membership(member, organization).role == Role.ADMIN
    assert "always has an owner" in text_of(client.post(pages_of(owner)[0], {"role": "member"}))


def test_a_transfer_wants_the_name_typed(owner, member, organization):
    client = signed_in(owner)
    assert "Type exactly: Acme" in text_of(client.post(pages_of(member)[2], {"typed": "acme"}))
    assert membership(owner, organization).role == Role.OWNER
    assert client.post(pages_of(member)[2], {"typed": "Acme"})["Location"] == TEAM
    assert membership(owner, organization).role == Role.ADMIN


def test_leaving_falls_back_to_another_organization(member, organization):
    mine = factories.organization(owner=member, name="Mine")
    client = signed_in(member)
    client.post(CHOICE, {"organization": organization.public_id})
    assert client.post(f"{TEAM}/leave")["Location"] == "/dashboard/organizations"
    assert not Membership.objects.filter(user=member, organization=organization).exists()
    assert "in Mine" in text_of(client.get(TEAM))
    assert "always has an owner" in text_of(client.get(f"{TEAM}/leave"))
    assert "always has an owner" in text_of(client.post(f"{TEAM}/leave"))
    assert Membership.objects.filter(user=member, organization=mine).exists()


def test_the_switcher_stays_on_the_same_kind_of_page(owner, organization):
    second = factories.organization(owner=owner, name="Second")
    client = signed_in(owner)
    page = client.get(f"{TEAM}/roles").content.decode()
    assert '<input type="hidden" name="page" value="team">' in page
    assert f'value="{second.public_id}"' in page
    chosen = client.post(CHOICE, {"organization": second.public_id, "page": "team"})
    assert chosen["Location"] == TEAM
    assert "in Second" in text_of(client.get(TEAM))
    for page in ("//evil.example", "profile", ""):
        assert client.post(CHOICE, {"organization": second.public_id, "page": page})["Location"] == "/dashboard"


def test_a_new_organization_is_its_maker_s_and_chosen(owner, organization):
    client = signed_in(verified(owner))
    assert client.post("/dashboard/organizations/new", {"name": " Beta "})["Location"] == "/dashboard"
    made = Organization.objects.get(name="Beta")
    assert membership(owner, made).role == Role.OWNER
    assert client.session[access.SESSION_CHOICE] == made.id.hex
    assert "Beta" in text_of(client.get("/dashboard/organizations"))


def test_a_new_organization_wants_a_name_and_a_verified_owner(owner, organization):
    client = signed_in(owner)
    assert "Confirm your e-mail" in text_of(client.post("/dashboard/organizations/new", {"name": "Beta"}))
    verified(owner)
    assert "field__error" in client.post("/dashboard/organizations/new", {"name": "a\0b"}).content.decode()
    assert Organization.objects.count() == 1


def test_one_owns_ten_organizations_at_most(owner, organization):
    verified(owner)
    for number in range(9):
        organizations.create(user=owner, name=f"Number {number}")
    with pytest.raises(errors.InvalidRequest, match="10 organizations"):
        organizations.create(user=owner, name="One more")


def test_who_is_in_none_can_make_one(db):
    user = verified(factories.user("nobody"))
    client = signed_in(user)
    assert "/dashboard/organizations" in text_of(client.get(TEAM))
    assert "You are in no organization" in text_of(client.get("/dashboard/organizations"))
    client.post("/dashboard/organizations/new", {"name": "First"})
    assert client.get(TEAM).status_code == 200


def test_names_are_escaped(owner, organization):
    evil = "<script>alert(1)</script>"
    Organization.objects.update(name=evil)
    owner.name = evil
    owner.save()
    client = signed_in(owner)
    for url in (TEAM, f"{TEAM}/invite", f"{TEAM}/leave", "/dashboard/organizations"):
        assert "<script>alert" not in client.get(url).content.decode()


def test_fifty_members_and_invitations_cost_no_more_queries_than_few(
    owner, organization, django_assert_max_num_queries
):
    by = membership(verified(owner), organization)
    for number in range(50):
        factories.user(f"person{number}", organization=organization)
    for number in range(invitations.MAX_OPEN):
        invitations.invite(by=by, email=f"friend{number}@example.com")
    client = signed_in(owner)
    with django_assert_max_num_queries(12):
        page = client.get(TEAM)
    assert page.content.decode().count("/remove") == 49
    assert f"?cursor={owner.public_id[:5]}" in page.content.decode()


def test_a_get_changes_nothing(owner, member, invitation):
    client = Client()
    client.force_login(owner)
    for url in (*pages_of(member), f"{TEAM}/leave"):
        assert client.get(url).status_code == 200
    invited = f"{TEAM}/invitations/{invitation.public_id}"
    assert client.get(f"{invited}/resend").status_code == client.get(f"{invited}/withdraw").status_code == 405
    assert Membership.objects.filter(user=member).exists()
