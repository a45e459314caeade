"""The support desk: who finds, sees and does what, and that each act leaves its trace."""

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts import api_keys, two_factor
from accounts.models import AuditEvent, TokenSession, WebSession
from accounts.two_factor_models import TwoFactor
from billing import grants, plans, subscriptions, tasks, upgrades
from billing.models import Plan
from billing.plan_models import UpgradeRequest
from billing.seeds import seed_plans
from helixflow.lib import clock, ids
from tests import belongings, factories
from tests.billing.visits import EVIL, signed_in

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/organization/"


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture(autouse=True)
def _worker(monkeypatch):
    monkeypatch.setattr(tasks, "enqueue", lambda task, *args: task(*args))


@pytest.fixture
def operator():
    return factories.superuser("operator")


@pytest.fixture
def desk(operator) -> Client:
    return signed_in(operator)


def staff(*permissions: str) -> Client:
    user = factories.user("staff")
    user.is_staff = True
    user.save()
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return signed_in(user)


def page(organization) -> str:
    return f"{LIST}{organization.id}/change/"


def act(organization, name, subject=None) -> str:
    return f"{LIST}{organization.id}/act/{name}/" + (f"{subject.pk}/" if subject else "")


def audited(organization, action) -> AuditEvent:
    return AuditEvent.objects.get(organization_id=organization.id, action=action)


def test_it_shows_all_that_support_needs(desk, owner, organization):
    key, _ = api_keys.create(organization=organization, user=owner, name="Website")
    failed = belongings.usage_record(organization, key.id, status=503, error_code="timeout")
    factories.delivery(factories.endpoint(organization, "https://hooks.example.com/in?token=sesame"))
    upgrades.ask(organization=organization, user=owner, plan=Plan.objects.get(slug="pro"), message="On Monday.")
    text = desk.get(page(organization)).content.decode()
    for shown in ("Starter", "of 10,000", owner.email, key.hint, "timeout", "hooks.example.com", "On Monday."):
        assert shown in text
    assert reverse("admin:billing_usagerecord_change", args=[failed.pk]) in text
    assert "asked for Pro" in text  # its audit log
    assert "sesame" not in text
    assert "hflow_" in text
    assert bytes(key.digest).hex() not in text


def test_it_costs_few_queries_whatever_there_is(desk, owner, organization, django_assert_max_num_queries):
    for n in range(20):
        key, _ = api_keys.create(organization=organization, user=owner, name=f"key-{n}")
        belongings.usage_record(organization, key.id, status=503, error_code="timeout")
        factories.user(f"member-{n}", organization=organization)
    with django_assert_max_num_queries(17):
        text = desk.get(page(organization)).content.decode()
    assert "8 more" in text
    assert text.count("timeout") == 10


@pytest.mark.parametrize("name", ["Acme", "owner@example", "org", "key", "hint"])
def test_an_organization_is_found_by_whatever_is_known_of_it(desk, owner, organization, outsider, name):
    key, _ = api_keys.create(organization=organization, user=owner, name="CI")
    known = {"org": organization.public_id, "key": key.public_id, "hint": key.hint[-4:]}
    response = desk.get(LIST, {"q": known.get(name, name)})
    if name in {"org", "key"}:
        assert response["Location"] == page(organization)
    else:
        assert page(organization) in response.content.decode()


def test_a_whole_key_and_a_hint_with_dots_are_looked_for_by_the_hint(desk, owner, organization):
    key, secret = api_keys.create(organization=organization, user=owner, name="CI")
    there = desk.get(LIST, {"q": f" {secret} "})["Location"]
    assert secret not in there
    assert page(organization) in desk.get(there).content.decode()
    assert page(organization) in desk.get(LIST, {"q": key.hint.replace("…", "...")}).content.decode()


def test_requests_grants_and_the_audit_log_of_all_are_lists(desk, organization, owner):
    upgrades.ask(organization=organization, user=owner, plan=Plan.objects.get(slug="pro"), message="On Monday.")
    grants.grant(organization=organization, user=owner, units=5, reason="launch day")
    for name, shown, found_by in (
        ("billing_upgraderequest", page(organization), ("Acme", owner.email, organization.public_id)),
        ("billing_quotagrant", "launch day", ("Acme", owner.email, organization.public_id)),
        ("accounts_auditevent", "asked for Pro", ("Acme", owner.email, organization.public_id, owner.public_id)),
    ):
        url = reverse(f"admin:{name}_changelist")
        for term in ("", *found_by):
            assert shown in desk.get(url, {"q": term}).content.decode(), (name, term)
        assert shown not in desk.get(url, {"q": "org-0352qPqirKVYSsNmuOStum"}).content.decode()
        assert signed_in(owner).get(url).status_code == 302
    asked = reverse("admin:billing_upgraderequest_change", args=[UpgradeRequest.objects.get().pk])
    assert "On Monday." in desk.get(asked).content.decode()


def test_an_id_leads_to_the_page_of_what_it_names(desk, owner, organization):
    things = belongings.of(organization, owner)
    for name in ("request_id", "user_id", "endpoint_id", "delivery_id"):
        there = desk.get(LIST, {"q": things[name]})["Location"]
        assert desk.get(there).status_code == 200
    assert desk.get(LIST, {"q": ids.new_id(ids.ORGANIZATION)}).status_code == 200


def test_who_may_not_see_organizations_sees_none(client, owner, organization):
    for visitor, status in ((client, 302), (signed_in(owner), 302), (staff(), 403)):
        assert visitor.get(page(organization)).status_code == status
        assert visitor.post(act(organization, "disable"), {"reason": "x"}).status_code == status
    organization.refresh_from_db()
    assert organization.disabled_at is None


def test_staff_that_sees_no_organizations_learns_of_none_by_its_id(organization, owner):
    key, _ = api_keys.create(organization=organization, user=owner, name="CI")
    helper = staff("billing.view_plan")
    for known in (organization.public_id, key.public_id):
        assert helper.get(LIST, {"q": known}).status_code == 403


def test_staff_that_may_only_look_is_offered_nothing(organization, owner):
    looking = staff("accounts.view_organization")
    text = looking.get(page(organization)).content.decode()
    assert owner.email in text
    assert "/act/" not in text
    for name in ("plan", "grant", "disable", "view-as"):
        assert looking.get(act(organization, name)).status_code == 403
    assert looking.get(act(organization, "sign-out", owner)).status_code == 403


def test_the_plan_is_changed(desk, organization):
    assert 'value="starter" selected' in desk.get(act(organization, "plan")).content.decode()
    response = desk.post(act(organization, "plan"), {"plan": "pro", "requests_per_month": "123456"}, follow=True)
    assert "Acme is on Pro." in response.content.decode()
    assert plans.in_force(organization).requests_per_month == 123_456
    refused = desk.post(act(organization, "plan"), {"plan": "enterprise"})
    assert "has no number of its own" in refused.content.decode()


def test_quota_is_granted_and_taken_back(desk, organization, owner, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        desk.post(act(organization, "grant"), {"units": "500", "reason": "launch day"})
    assert plans.in_force(organization).requests_per_month == 10_500
    assert mail.outbox[0].to == [owner.email]
    assert "500 more requests" in mail.outbox[0].body
    given = grants.of(organization).get()
    assert "launch day" in desk.get(page(organization)).content.decode()
    desk.post(act(organization, "revoke-grant", given))
    assert plans.in_force(organization).requests_per_month == 10_000
    assert desk.get(act(organization, "revoke-grant", given)).status_code == 404


@pytest.mark.parametrize(("name", "state", "plan"), [("grant", "granted", "pro"), ("decline", "declined", "starter")])
def test_an_upgrade_is_decided(desk, organization, owner, name, state, plan):
    asked = upgrades.ask(organization=organization, user=owner, plan=Plan.objects.get(slug="pro"))
    url = act(organization, f"{name}-upgrade", asked)
    assert "Acme" in desk.get(url).content.decode()
    desk.post(url, {"plan": "pro", "note": "As we said."})
    asked.refresh_from_db()
    assert (asked.state, asked.note) == (state, "As we said.")
    assert subscriptions.of(organization).plan_id == plan


def test_disabling_needs_a_reason_and_enabling_undoes_it(desk, organization):
    assert "Please correct" in desk.post(act(organization, "disable"), {}).content.decode()
    desk.post(act(organization, "disable"), {"reason": "Abuse report 42"})
    organization.refresh_from_db()
    assert organization.disabled_at is not None
    assert "Abuse report 42" in audited(organization, "organization.disabled").summary
    desk.post(act(organization, "enable"), {"reason": "Settled"})
    organization.refresh_from_db()
    assert organization.disabled_at is None


def test_a_member_is_signed_out_everywhere(desk, organization, owner):
    theirs = signed_in(owner)
    TokenSession.objects.create(user=owner, refresh_jti=ids.uuid7(), expires_at=clock.now())
    desk.post(act(organization, "sign-out", owner), {"reason": "Lost laptop"})
    assert not WebSession.objects.filter(user=owner).exists()
    assert TokenSession.objects.filter(user=owner, ended_at=None).count() == 0
    assert theirs.get("/dashboard/plan").status_code == 302
    event = audited(organization, "login.ended_by_support")
    assert (event.target, event.is_staff) == (owner.public_id, True)


def test_two_factor_is_removed(desk, organization, owner):
    two_factor.begin(user=owner)
    TwoFactor.objects.filter(user=owner).update(confirmed_at=clock.now())
    assert "Remove two-factor" in desk.get(page(organization)).content.decode()
    desk.post(act(organization, "remove-two-factor", owner), {"reason": "Called, knew the last invoice"})
    assert not two_factor.is_on(owner)
    again = desk.post(act(organization, "remove-two-factor", owner), {"reason": "once more"})
    assert "is not on" in again.content.decode()


def test_the_verification_is_sent_again_unless_it_is_confirmed(desk, organization, owner, monkeypatch):
    sent = []
    monkeypatch.setattr("accounts.services.send_verification", lambda *, user: sent.append(user))
    desk.post(act(organization, "send-verification", owner))
    assert sent == [owner]
    owner.email_verified_at = clock.now()
    owner.save()
    assert "confirmed already" in desk.post(act(organization, "send-verification", owner)).content.decode()


def test_a_stranger_s_row_is_no_subject(desk, organization, outsider):
    for name in ("sign-out", "revoke-grant", "grant-upgrade"):
        assert desk.get(act(organization, name, outsider)).status_code == 404
    assert desk.get(act(organization, "sign-out")).status_code == 404
    assert desk.get(act(organization, "explode")).status_code == 404


def test_only_a_superuser_acts_on_a_superuser(organization):
    boss = factories.superuser("boss")
    organization.memberships.create(user=boss, role="member")
    helper = staff("accounts.change_organization", "accounts.change_user")
    assert helper.post(act(organization, "sign-out", boss), {"reason": "x"}).status_code == 403


def test_each_act_is_in_the_admin_s_history(desk, organization):
    desk.post(act(organization, "grant"), {"units": "5", "reason": "launch day"})
    assert "Grant quota" in desk.get(f"{LIST}{organization.id}/history/").content.decode()


def test_names_and_messages_are_inert(desk, organization, owner):
    organization.name = EVIL
    organization.save()
    asked = upgrades.ask(organization=organization, user=owner, plan=Plan.objects.get(slug="pro"), message=EVIL)
    for url in (page(organization), act(organization, "decline-upgrade", asked)):
        assert EVIL not in desk.get(url).content.decode()
    assert UpgradeRequest.objects.get().state == "open"


def test_django_s_own_form_is_behind_edit(desk, organization):
    assert 'name="cache_ttl_s"' in desk.get(f"{LIST}{organization.id}/edit/").content.decode()
