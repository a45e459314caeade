"""Changing roles, removing, leaving, transferring: the rules, whatever the door."""

import pytest
from django.conf import settings

from accounts import access, api_keys, audit_log, members, playground, roles
from accounts.models import ApiKey, AuditEvent, Membership, Role
from billing.admission import snapshots
from helixflow.lib import errors
from tests import factories
from tests.accounts.team import membership, signed_in, together

pytestmark = pytest.mark.django_db


@pytest.fixture
def by(owner, organization) -> Membership:
    return membership(owner, organization)


@pytest.fixture
def them(member, organization) -> Membership:
    return membership(member, organization)


@pytest.fixture
def admin(organization) -> Membership:
    return membership(factories.user("admin", organization=organization, role=Role.ADMIN), organization)


def role_of(member: Membership) -> str | None:
    return Membership.objects.filter(id=member.id).values_list("role", flat=True).first()


def test_the_table_gives_each_role_all_that_a_lesser_one_has():
    for capability in roles.TABLE:
        assert Role.OWNER in capability.roles
        assert Role.MEMBER not in capability.roles or Role.ADMIN in capability.roles
    assert roles.only(roles.MANAGERS) == "Only owners and admins"
    assert roles.only(roles.OWNERS) == "Only owners"


def test_the_docs_hold_the_same_table():
    docs = (settings.BASE_DIR / "docs" / "accounts.md").read_text()
    for capability in roles.TABLE:
        marks = " | ".join("yes" if role in capability.roles else "no" for role in Role)
        assert f"| {capability.label} | {marks} |\n" in docs


def test_an_owner_makes_an_admin_and_everybody_knows_at_once(by, them, organization):
    members.change_role(by=by, member=them, role=Role.ADMIN)
    assert role_of(them) == Role.ADMIN
    organization.refresh_from_db()
    assert organization.generation == 2
    event = AuditEvent.objects.get(action="member.role_changed")
    assert event.changes == {"role": ["member", "admin"]}
    assert event.target == them.user.public_id
    members.change_role(by=by, member=them, role=Role.ADMIN)
    organization.refresh_from_db()
    assert organization.generation == 2  # what changes nothing is no news


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
def test_an_admin_makes_no_admins_or_owners(admin, them, role):
    with pytest.raises(errors.AuthorizationFailed, match="Only owners"):
        members.change_role(by=admin, member=them, role=role)
    assert role_of(them) == Role.MEMBER


def test_an_admin_removes_members_and_nobody_else(admin, them, by):
    second = factories.user("second", organization=by.organization, role=Role.ADMIN)
    for other in (by, membership(second, by.organization)):
        with pytest.raises(errors.AuthorizationFailed):
            members.remove(by=admin, member=other)
    members.remove(by=admin, member=them)
    assert role_of(them) is None


def test_a_member_manages_nobody(them, admin):
    for act in (
        lambda: members.change_role(by=them, member=admin, role=Role.MEMBER),
        lambda: members.remove(by=them, member=admin),
        lambda: members.transfer(by=them, member=admin),
    ):
        with pytest.raises(errors.AuthorizationFailed):
            act()


def test_the_last_owner_stays(by, admin):
    for act in (
        lambda: members.change_role(by=by, member=by, role=Role.ADMIN),
        lambda: members.leave(member=by),
        lambda: members.remove(by=by, member=by),
    ):
        with pytest.raises(errors.InvalidRequest):
            act()
    assert role_of(by) == Role.OWNER


def test_an_owner_whose_account_is_disabled_does_not_count(by, organization):
    second = factories.user("second", organization=organization, role=Role.OWNER)
    second.is_active = False
    second.save()
    with pytest.raises(errors.InvalidRequest, match="always has an owner"):
        members.leave(member=by)


def test_one_of_two_owners_may_leave(by, organization):
    factories.user("second", organization=organization, role=Role.OWNER)
    members.leave(member=by)
    assert role_of(by) is None
    assert AuditEvent.objects.filter(action="member.left").exists()


def test_removal_counts_from_the_next_request_on_and_keys_stay(by, them, organization, inbox):
    client = signed_in(them.user)
    assert client.get("/dashboard/team").status_code == 200
    key, secret = api_keys.create(organization=organization, user=them.user, name="Theirs")
    own = playground.secret_of(them)
    assert list(members.keys_made_by(them)) == [key]
    assert members.remove(by=by, member=them) == 0
    assert client.get("/dashboard/team").status_code == 403
    assert snapshots.load(secret).enabled
    with pytest.raises(errors.InvalidApiKey):
        snapshots.load(own)
    assert inbox[0].to == ["member@example.com"]
    assert "removed from Acme" in inbox[0].subject


def test_the_keys_they_made_can_end_with_them(by, them, organization):
    key, secret = api_keys.create(organization=organization, user=them.user, name="Theirs")
    mine, _ = api_keys.create(organization=organization, user=by.user, name="Mine")
    assert members.remove(by=by, member=them, revoke_keys=True) == 1
    assert ApiKey.objects.get(id=key.id).revoked_at is not None
    assert ApiKey.objects.get(id=mine.id).revoked_at is None
    with pytest.raises(errors.InvalidApiKey):
        snapshots.load(secret)


def test_a_transfer_makes_one_owner_and_one_admin(by, them, inbox, organization):
    members.transfer(by=by, member=them)
    assert (role_of(by), role_of(them)) == (Role.ADMIN, Role.OWNER)
    assert inbox[0].to == ["member@example.com"]
    (event,) = audit_log.of_organization(organization).filter(action="organization.transferred")
    assert "member@example.com" in event.summary


def test_who_was_removed_meanwhile_does_nothing_more(by, them, admin):
    members.remove(by=by, member=admin)
    with pytest.raises(errors.AuthorizationFailed, match="not in this organization"):
        members.remove(by=admin, member=them)


def test_nobody_acts_across_organizations(by, outsider):
    with pytest.raises(errors.NotFound):
        access.get_member(by, outsider.public_id)


def test_pages_are_cut_by_key(by, them, admin, organization):
    first = members.page(organization, cursor=None, limit=2)
    assert [member.user.username for member in first.members] == ["owner@example.com", "member@example.com"]
    second = members.page(organization, cursor=first.following, limit=2)
    assert [member.user.username for member in second.members] == ["admin@example.com"]
    assert second.following is None
    with pytest.raises(errors.InvalidRequest):
        members.page(organization, cursor="1", limit=2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["demote", "leave", "remove"])
def test_of_two_owners_who_act_at_once_one_remains(owner, organization, act):
    first = membership(owner, organization)
    second = membership(factories.user("second", organization=organization, role=Role.OWNER), organization)
    acts = {
        "demote": lambda one, other: members.change_role(by=one, member=other, role=Role.MEMBER),
        "leave": lambda one, _: members.leave(member=one),
        "remove": lambda one, other: members.remove(by=one, member=other),
    }
    raised = together(lambda: acts[act](first, second), lambda: acts[act](second, first))
    assert len(raised) == 1
    assert isinstance(raised[0], errors.HelixError)
    assert Membership.objects.filter(organization=organization, role=Role.OWNER).count() == 1
