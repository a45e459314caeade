"""Inviting by mail, and the page behind the link."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import invitation_links, invitations, members
from accounts.models import AuditEvent, Invitation, Membership, Organization, Role, User
from helixflow.lib import errors, log
from tests import factories
from tests.accounts.team import link_in, membership, signed_in, text_of, together, verified

pytestmark = pytest.mark.django_db

ADDRESS = "friend@example.com"


@pytest.fixture
def by(owner, organization) -> Membership:
    verified(owner)
    return membership(owner, organization)


@pytest.fixture
def link(by, inbox) -> str:
    """Of an invitation of ADDRESS as admin."""
    invitations.invite(by=by, email=ADDRESS, role=Role.ADMIN)
    return link_in(inbox[0])


def friend() -> User:
    return factories.user("friend")


def test_the_mail_says_who_invites_to_what_and_holds_the_only_copy_of_the_link(by, inbox, caplog):
    invitation = invitations.invite(by=by, email=" Friend@Example.COM ", role=Role.MEMBER)
    assert inbox[0].to == [invitation.email] == ["Friend@example.com"]
    assert "owner@example.com" in inbox[0].body
    assert "Acme" in inbox[0].subject
    token = link_in(inbox[0]).rpartition("/")[2]
    assert token not in caplog.text
    assert bytes(invitation.digest) == invitation_links.digest_of(token)
    event = AuditEvent.objects.get(action="invitation.sent")
    assert token not in f"{event.summary} {event.changes}"
    assert event.target == invitation.public_id


def test_one_needs_a_verified_address_to_invite(owner, organization):
    with pytest.raises(errors.AuthorizationFailed, match="Confirm your own"):
        invitations.invite(by=membership(owner, organization), email=ADDRESS)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
def test_an_admin_invites_members_only(organization, role):
    admin = verified(factories.user("admin", organization=organization, role=Role.ADMIN))
    by = membership(admin, organization)
    assert invitations.invite(by=by, email=ADDRESS).role == Role.MEMBER
    with pytest.raises(errors.AuthorizationFailed, match="Only owners"):
        invitations.invite(by=by, email="other@example.com", role=role)


def test_an_admin_can_t_touch_the_invitation_of_an_owner(by, organization):
    invitation = invitations.invite(by=by, email=ADDRESS, role=Role.OWNER)
    admin = membership(verified(factories.user("admin", organization=organization, role=Role.ADMIN)), organization)
    for change in (invitations.resend, invitations.withdraw):
        with pytest.raises(errors.AuthorizationFailed):
            change(by=admin, invitation=invitation)


@pytest.mark.parametrize(
    "email", ["", "friend", "a b@example.com", "x" * 250 + "@example.com", "a\0@example.com", '"\x0bb"@example.com']
)
def test_a_bad_address_is_refused(by, email):
    with pytest.raises(errors.InvalidRequest) as refused:
        invitations.invite(by=by, email=email)
    assert refused.value.param == "email"


def test_who_is_in_already_or_invited_already_is_not_invited(by, member):
    with pytest.raises(errors.InvalidRequest, match="in the organization already"):
        invitations.invite(by=by, email="MEMBER@example.com")
    invitations.invite(by=by, email=ADDRESS)
    with pytest.raises(errors.InvalidRequest, match="open invitation"):
        invitations.invite(by=by, email=ADDRESS.upper())


def test_an_expired_invitation_stands_in_nobody_s_way(by):
    old = invitations.invite(by=by, email=ADDRESS)
    with time_machine.travel(timezone.now() + timedelta(days=8)):
        invitations.invite(by=by, email=ADDRESS)
        old.refresh_from_db()
        assert invitations.status(old) == "withdrawn"


def test_there_are_at_most_fifty_open_ones(by, monkeypatch):
    monkeypatch.setattr(invitations, "MAX_OPEN", 2)
    for name in ("a", "b"):
        invitations.invite(by=by, email=f"{name}@example.com")
    with pytest.raises(errors.InvalidRequest, match="2 open invitations"):
        invitations.invite(by=by, email="c@example.com")


def test_a_look_joins_nobody_and_a_stranger_is_sent_to_sign_up_or_log_in(client, link):
    page = client.get(link)
    text = text_of(page)
    assert "Join Acme" in text
    assert "owner@example.com invites you as an admin" in text
    html = page.content.decode()
    assert f"/signup?next={link.replace('/', '%2F')}&amp;email=friend%40example.com" in html
    assert "no-store" in page["Cache-Control"]
    assert client.post(link)["Location"].startswith("/login?next=")
    assert Membership.objects.count() == 1


def test_it_is_accepted_by_the_account_of_the_address_which_it_proves(link, organization):
    user = friend()
    client = signed_in(user)
    assert "Accept invitation" in text_of(client.get(link))
    assert Membership.objects.count() == 1
    assert client.post(link)["Location"] == "/dashboard/team"
    assert membership(user, organization).role == Role.ADMIN
    user.refresh_from_db()
    assert user.is_verified
    organization.refresh_from_db()
    assert organization.generation == 2
    assert AuditEvent.objects.filter(action="member.joined", user_id=user.id).exists()
    assert "Acme" in text_of(client.get("/dashboard/team"))


def test_a_link_works_once(link, organization):
    signed_in(friend()).post(link)
    Membership.objects.filter(user__email=ADDRESS).delete()
    again = signed_in(User.objects.get(email=ADDRESS)).post(link)
    assert again.status_code == 404
    assert "has been used" in text_of(again)
    assert Membership.objects.filter(organization=organization).count() == 1


def test_another_account_is_told_and_may_log_out(link, outsider, organization):
    client = signed_in(outsider)
    text = text_of(client.get(link))
    assert "logged in as outsider@example.com" in text
    client.post(link)
    assert not Membership.objects.filter(user=outsider, organization=organization).exists()
    assert client.post(link, {"action": "switch"})["Location"].startswith("/login?next=%2Finvitations")
    assert "_auth_user_id" not in client.session


def test_a_member_who_follows_a_link_keeps_their_role(by, member, inbox, organization):
    Invitation.objects.all().delete()
    invitation = invitations.invite(by=by, email=ADDRESS, role=Role.OWNER)
    User.objects.filter(id=member.id).update(email=ADDRESS)
    client = signed_in(User.objects.get(id=member.id))
    link = link_in(inbox[0])
    assert "in Acme already" in text_of(client.get(link))
    assert client.post(link)["Location"] == "/dashboard/team"
    assert membership(member, organization).role == Role.MEMBER
    invitation.refresh_from_db()
    assert invitations.status(invitation) == "accepted"


def test_sent_again_the_new_link_works_and_the_old_one_is_dead(by, link, inbox, client):
    with time_machine.travel(timezone.now() + timedelta(days=5)):
        invitations.resend(by=by, invitation=Invitation.objects.get())
    assert client.get(link).status_code == 404
    with time_machine.travel(timezone.now() + timedelta(days=11)):
        assert client.get(link_in(inbox[1])).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(days=13)):
        expired = client.get(link_in(inbox[1]))
        assert expired.status_code == 404
        assert "has expired" in text_of(expired)


def test_withdrawn_it_says_so_and_can_t_be_sent_again(by, link, client):
    invitation = Invitation.objects.get()
    invitations.withdraw(by=by, invitation=invitation)
    again = invitations.withdraw(by=by, invitation=Invitation.objects.get())
    assert invitations.status(again) == "withdrawn"
    assert "was withdrawn" in text_of(client.get(link))
    with pytest.raises(errors.InvalidRequest, match="is withdrawn"):
        invitations.resend(by=by, invitation=again)


@pytest.mark.parametrize("token", ["x", "0" * 43, "a" * 42 + "é", "%00" * 14])
def test_no_link_is_guessed(client, link, token):
    assert client.get(f"/invitations/{token}").status_code == 404


@pytest.mark.parametrize("path", ["/invitations/", "/verify-email/", "/password/reset/user-0352/"])
def test_no_token_is_logged_when_its_page_says_no(client, caplog, settings, path):
    assert "tokens" in settings.LOGGING["handlers"]["console"]["filters"]
    with caplog.filtering(log.TokenFilter()):
        client.get(f"{path}secret-token")
    assert f"Not Found: {path}…" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize("field", ["disabled_at", "deletion_due_at"])
def test_an_organization_that_is_off_takes_nobody_in(link, organization, field):
    Organization.objects.filter(id=organization.id).update(**{field: timezone.now() + timedelta(days=1)})
    assert "takes nobody in" in text_of(signed_in(friend()).post(link))


def test_of_look_alikes_none_is_the_other():
    assert invitations.same_address("A@example.com", "a@EXAMPLE.com")
    assert not invitations.same_address("mike@example.com", "m\u0131ke@example.com")
    assert not invitations.same_address("kim@example.com", "\u212aim@example.com")


@pytest.mark.django_db(transaction=True)
def test_two_accepts_at_once_are_one(by):
    invitation = invitations.invite(by=by, email=ADDRESS)
    user = friend()
    raised = together(*[lambda: invitations.accept(invitation=invitation, user=user)] * 4)
    assert raised == []
    assert Membership.objects.filter(user=user).count() == 1
    assert AuditEvent.objects.filter(action="member.joined").count() == 1


def test_too_many_invitations_in_an_hour_wait(by, owner):
    client = signed_in(owner)
    for number in range(30):
        client.post("/dashboard/team/invite", {"email": f"a{number}", "role": "member"})
    assert client.post("/dashboard/team/invite", {"email": ADDRESS, "role": "member"}).status_code == 429
    assert Client().get("/dashboard/team/invite").status_code == 302


@pytest.mark.parametrize("how", ["removed", "demoted", "left", "transferred"])
def test_who_goes_or_is_demoted_leaves_no_way_back(by, organization, inbox, how):
    """By an invitation to another address of their own."""
    second = verified(factories.user("second", organization=organization, role=Role.OWNER))
    going = membership(second, organization)
    invitations.invite(by=going, email=ADDRESS, role=Role.OWNER)
    kept = invitations.invite(by=going, email="kept@example.com", role=Role.MEMBER)
    sent = Invitation.objects.get(email=ADDRESS)
    others = invitations.resend(by=by, invitation=invitations.invite(by=going, email="others@example.com"))
    if how == "removed":
        members.remove(by=by, member=going)
    elif how == "demoted":
        members.change_role(by=by, member=going, role=Role.ADMIN)
    elif how == "left":
        members.leave(member=going)
    else:
        members.transfer(by=going, member=by)
    with pytest.raises(invitations.Unusable, match="withdrawn"):
        invitations.accept(invitation=sent, user=friend())
    event = AuditEvent.objects.get(action="invitation.withdrawn", target=sent.public_id)
    assert "which second@example.com had sent" in event.summary
    kept.refresh_from_db()
    assert (kept.withdrawn_at is None) is (how in {"demoted", "transferred"})
    others.refresh_from_db()
    assert (others.withdrawn_at, others.invited_by) == (None, by.user)
