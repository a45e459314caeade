"""Mails that a month's quota or budget is being used up: once for each threshold, to whom it was chosen."""

import time
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core import mail
from django.utils import timezone

from accounts import api_keys
from accounts.models import Membership, Role
from billing import alerts, months, subscriptions, tasks
from billing.models import UsageMonth
from billing.plan_models import Alert, AlertSettings
from billing.seeds import seed_plans
from helixflow.lib import errors
from helixflow.lib import tasks as queue
from tests import factories
from tests.billing.visits import signed_in, text_of

pytestmark = pytest.mark.django_db

ALERTS = "/dashboard/plan/alerts"


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture(autouse=True)
def _worker(monkeypatch):
    """Mails at once."""
    monkeypatch.setattr(queue, "send", lambda task, *args: task(*args) or True)


@pytest.fixture
def key(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def use(key, *, units=0, cost="0") -> None:
    """The month's sums so far."""
    month = months.first_day(months.of(time.time()))
    sums = {"units": units, "cost": Decimal(cost)}
    UsageMonth.objects.update_or_create(
        organization_id=key.organization_id, api_key_id=key.id, month=month, defaults=sums
    )


def subjects() -> list[str]:
    tasks.watch_alerts()
    found = [str(message.subject).removesuffix(" · HelixFlow") for message in mail.outbox]
    mail.outbox.clear()
    return found


def test_quota_is_told_at_80_and_100_percent_once_each(owner, key):
    use(key, units=7_999)
    assert subjects() == []
    use(key, units=8_000)
    assert subjects() == ["80% of this month's requests are used"]
    use(key, units=9_000)
    assert subjects() == []
    use(key, units=10_000)
    assert subjects() == ["This month's requests are used up"]
    assert subjects() == []


def test_budget_is_told_and_says_what_to_do(owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(20))
    use(key, cost="16.5")
    tasks.watch_alerts()
    [message] = mail.outbox
    assert "80% of this month's budget is spent" in message.subject
    assert "16.50 USD of 20.00 USD" in message.body
    assert "/dashboard/plan" in message.body
    assert "raise the budget" in message.body


def test_of_several_reached_at_once_the_highest_is_told(owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(10))
    use(key, units=10_000, cost="11")
    assert sorted(subjects()) == ["This month's budget is spent", "This month's requests are used up"]
    assert Alert.objects.filter(sent_at=None).count() == 0


def test_each_month_is_told_anew(owner, organization, key):
    use(key, units=9_000)
    assert len(subjects()) == 1
    with time_machine.travel(timezone.now() + timedelta(days=32)):
        assert subjects() == []
        use(key, units=9_000)
        assert len(subjects()) == 1


def test_owners_and_admins_are_told_and_members_are_not(owner, member, organization, key):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    use(key, units=9_000)
    tasks.watch_alerts()
    assert mail.outbox[0].to == [owner.email, admin.email]


def test_recipients_are_chosen_and_who_no_longer_manages_is_left_out(owner, organization, key):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    chosen: dict[str, list[int]] = {"quota_percents": [10], "budget_percents": []}
    alerts.change(organization=organization, user=owner, recipients=[admin.id], **chosen)
    assert alerts.addresses(organization) == [admin.email]
    Membership.objects.filter(user=admin).update(role=Role.MEMBER)
    assert alerts.addresses(organization) == [owner.email]


def test_a_mail_that_was_not_sent_is_queued_again_later(owner, key, monkeypatch):
    use(key, units=9_000)
    monkeypatch.setattr(queue, "send", lambda task, *args: False)
    assert subjects() == []
    monkeypatch.setattr(queue, "send", lambda task, *args: task(*args) or True)
    assert subjects() == []  # it may still be under way
    with time_machine.travel(timezone.now() + alerts.UNDER_WAY + timedelta(seconds=1)):
        tasks.watch_alerts()
    assert len(mail.outbox) == 1


def test_a_limit_of_zero_is_not_told(owner, organization, key):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(0))
    use(key, cost="1")
    assert subjects() == []


def test_many_organizations_cost_few_queries(owner, key, django_assert_max_num_queries, monkeypatch):
    monkeypatch.setattr(alerts, "AT_ONCE", 20)
    month = months.first_day(months.of(time.time()))
    UsageMonth.objects.bulk_create(
        UsageMonth(organization_id=uuid.uuid4(), api_key_id=uuid.uuid4(), month=month, units=1) for _ in range(50)
    )
    use(key, units=9_000)
    with django_assert_max_num_queries(20):
        assert alerts.watch() == 1


def test_an_owner_sets_them_on_the_page(owner, organization):
    client = signed_in(owner)
    assert 'value="80, 100"' in client.get(ALERTS).content.decode()
    data = {"quota_percents": "50 90%", "budget_percents": "", "recipients": [str(owner.id)]}
    assert client.post(ALERTS, data)["Location"] == "/dashboard/plan"
    saved = AlertSettings.objects.get()
    assert (saved.quota_percents, saved.budget_percents, saved.recipient_ids) == ([50, 90], [], None)
    assert 'value="50, 90"' in client.get(ALERTS).content.decode()


@pytest.mark.parametrize("wrong", [{"quota_percents": "150"}, {"quota_percents": "many"}, {"recipients": []}])
def test_what_makes_no_sense_comes_back(owner, organization, wrong):
    data = {"quota_percents": "50", "budget_percents": "80", "recipients": [str(owner.id)]}
    response = signed_in(owner).post(ALERTS, data | wrong)
    assert "Check the marked fields." in text_of(response)
    assert not AlertSettings.objects.exists()


def test_nobody_of_another_organization_can_be_chosen(owner, organization, outsider):
    chosen: dict[str, list[int]] = {"quota_percents": [50], "budget_percents": []}
    with pytest.raises(errors.InvalidRequest):
        alerts.change(organization=organization, user=owner, recipients=[outsider.id], **chosen)


def test_a_member_sees_them_without_a_form(member, organization):
    client = signed_in(member)
    assert "Of the requests 80%, 100% Of the budget 80%, 100%" in text_of(client.get("/dashboard/plan"))
    assert client.get(ALERTS).status_code == 403
