"""Asking for another plan: from the page to the operator's answer, with the mails both ways."""

from typing import Any

import pytest
from django.core import mail

from accounts.models import AuditEvent, Role
from billing import mails, subscriptions, tasks, upgrades
from billing.models import Plan
from billing.plan_models import UpgradeRequest
from billing.seeds import seed_plans
from helixflow.lib import errors
from tests import factories
from tests.billing.visits import EVIL, signed_in, text_of

pytestmark = pytest.mark.django_db

PLAN = "/dashboard/plan"
UPGRADE = "/dashboard/plan/upgrade"
WITHDRAW = "/dashboard/plan/upgrade/withdraw"
WANTED = {"plan": "pro", "requests_per_month": "250000", "message": "We launch on Monday."}


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture
def operator():
    return factories.superuser("operator")


@pytest.fixture
def sent(monkeypatch, django_capture_on_commit_callbacks):
    """Mails at once, as a worker sends them."""
    monkeypatch.setattr(tasks, "enqueue", lambda task, *args: task(*args))
    return django_capture_on_commit_callbacks


def ask(organization, owner, **fields) -> UpgradeRequest:
    given: dict[str, Any] = {"plan": Plan.objects.get(slug="pro"), "message": "We launch on Monday."} | fields
    return upgrades.ask(organization=organization, user=owner, **given)


def test_an_owner_asks_and_support_is_written_to(owner, organization, sent, settings):
    client = signed_in(owner)
    with sent(execute=True):
        response = client.post(UPGRADE, WANTED)
    assert response["Location"] == PLAN
    [message] = mail.outbox
    assert message.to == [settings.SUPPORT_EMAIL]
    assert "Acme asks for Pro" in message.subject
    for text in (owner.email, "250000", "We launch on Monday.", f"/admin/accounts/organization/{organization.pk}/"):
        assert text in message.body
    text = text_of(client.get(PLAN))
    assert "Asked for Pro, 250,000 a month" in text.replace(" ,", ",")
    assert "Withdraw" in text
    assert AuditEvent.objects.get(action="plan.upgrade_requested").user_id == owner.id


def test_one_request_at_a_time(owner, organization):
    ask(organization, owner)
    with pytest.raises(errors.InvalidRequest, match="asked already"):
        ask(organization, owner)
    assert signed_in(owner).get(UPGRADE)["Location"] == PLAN


def test_it_can_be_withdrawn_and_made_anew(owner, organization, sent):
    ask(organization, owner)
    client = signed_in(owner)
    with sent(execute=True):
        client.post(WITHDRAW)
    assert "no longer asks" in mail.outbox[-1].subject
    assert "Asked for" not in text_of(client.get(PLAN))
    assert ask(organization, owner).state == "open"


def test_a_second_withdrawal_says_so(owner, organization):
    client = signed_in(owner)
    assert "no request to withdraw" in client.post(WITHDRAW, follow=True).content.decode()
    ask(organization, owner)
    client.post(WITHDRAW)
    assert "not open any more" in client.post(WITHDRAW, follow=True).content.decode()


def test_granting_changes_the_plan_and_writes_to_owners_and_who_asked(owner, organization, operator, sent):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    request = ask(organization, admin)
    with sent(execute=True):
        upgrades.grant(request=request, user=operator, note="Enjoy.", requests_per_month=200_000)
    subscription = subscriptions.of(organization)
    assert (subscription.plan.slug, subscription.requests_per_month) == ("pro", 200_000)
    [message] = mail.outbox
    assert sorted(message.to) == [admin.email, owner.email]
    assert "granted" in message.subject
    assert "Enjoy." in message.body
    assert "asked for Pro, and is on Pro now: 1,000 requests a minute, 200,000 a month" in message.body
    assert "Granted" in text_of(signed_in(owner).get(PLAN))
    with pytest.raises(errors.InvalidRequest, match="not open"):
        upgrades.decline(request=request, user=operator, note="no")


def test_declining_says_why(owner, organization, operator, sent):
    request = ask(organization, owner)
    with pytest.raises(errors.InvalidRequest, match="Say why"):
        upgrades.decline(request=request, user=operator, note=" ")
    with sent(execute=True):
        upgrades.decline(request=request, user=operator, note="Let us talk first.")
    assert "Let us talk first." in mail.outbox[-1].body
    assert "Let us talk first." in text_of(signed_in(owner).get(PLAN))
    assert not organization.subscription_changes.exists()
    assert AuditEvent.objects.get(action="plan.upgrade_declined").is_staff


def test_a_grant_that_cannot_be_leaves_the_request_open(owner, organization, operator):
    request = ask(organization, owner, plan=Plan.objects.get(slug="enterprise"))
    with pytest.raises(errors.InvalidRequest):
        upgrades.grant(request=request, user=operator)
    request.refresh_from_db()
    assert request.state == "open"


def test_a_mail_about_what_is_past_is_not_sent(owner, organization, operator):
    request = ask(organization, owner)
    mails.tell_owners_of_upgrade(request.id)
    upgrades.decline(request=request, user=operator, note="no")
    mails.tell_staff_of_upgrade(request.id)
    assert mail.outbox == []


@pytest.mark.parametrize("path", [UPGRADE, WITHDRAW, "/dashboard/plan/alerts"])
def test_members_only_look(member, organization, path):
    assert signed_in(member).post(path, WANTED).status_code == 403
    assert not UpgradeRequest.objects.exists()


@pytest.mark.parametrize("path", [UPGRADE, WITHDRAW, "/dashboard/plan/alerts"])
def test_a_login_is_required(client, path):
    assert client.post(path)["Location"].startswith("/login")


def test_an_outsider_withdraws_their_own_only(owner, organization, outsider):
    request = ask(organization, owner)
    signed_in(outsider).post(WITHDRAW)
    request.refresh_from_db()
    assert request.state == "open"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("plan", "gold", "Select a valid choice"),
        ("requests_per_minute", "many", "Enter a whole number"),
        ("requests_per_month", "0", "greater than or equal to 1"),
        ("message", "x" * 2_001, "at most 2000 characters"),
    ],
)
def test_a_bad_request_comes_back_with_its_error(owner, organization, field, value, said):
    assert said in text_of(signed_in(owner).post(UPGRADE, WANTED | {field: value}))
    assert not UpgradeRequest.objects.exists()


def test_what_is_there_already_needs_a_word(owner, organization):
    assert "You are on Starter already" in text_of(signed_in(owner).post(UPGRADE, {"plan": "starter"}))


def test_the_next_plan_is_offered(owner, organization):
    page = signed_in(owner).get(UPGRADE).content.decode()
    assert '<option value="pro" selected>' in page
    assert "10,000 a month (yours)</option>" in page


def test_a_message_is_inert(owner, organization, sent):
    with sent(execute=True):
        ask(organization, owner, message=EVIL)
    assert EVIL not in signed_in(owner).get(PLAN).content.decode()
    [message] = mail.outbox
    assert isinstance(message, mail.EmailMultiAlternatives)
    assert EVIL not in str(message.alternatives[0])
