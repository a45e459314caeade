"""Support looks at a dashboard: read-only, for half an hour, in the organization's audit log."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import impersonation
from accounts.models import AuditEvent, Organization, User
from billing.seeds import seed_plans
from tests import belongings, factories

pytestmark = pytest.mark.django_db

PLAN = "/dashboard/plan"
END = "/dashboard/support-view/end"


@pytest.fixture(autouse=True)
def _plans(db):
    seed_plans()


@pytest.fixture
def operator() -> User:
    operator = factories.superuser("operator")
    factories.organization(owner=operator, name="Support team")
    return operator


@pytest.fixture
def desk(operator) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def view(client: Client, organization: Organization, reason: str = "Ticket 7"):
    return client.post(f"/admin/accounts/organization/{organization.id}/act/view-as/", {"reason": reason})


def actions(organization) -> list[str]:
    events = AuditEvent.objects.filter(organization_id=organization.id, action__startswith="support.")
    return list(events.order_by("id").values_list("action", flat=True))


def test_the_dashboard_is_shown_as_its_owner_sees_it_under_a_banner(desk, organization):
    assert "Support team" in desk.get(PLAN).content.decode()
    assert view(desk, organization)["Location"] == "/dashboard"
    page = desk.get(PLAN).content.decode()
    assert "Acme in " in page
    assert "You are viewing <strong>Acme</strong> as support, read-only" in page
    assert "Ask for an upgrade" in page
    desk.post(END)
    page = desk.get(PLAN).content.decode()
    assert "Support team" in page
    assert "You are viewing" not in page


def test_start_and_end_are_in_the_audit_log_with_the_reason(desk, organization, operator):
    view(desk, organization)
    desk.post(END)
    desk.post(END)
    assert actions(organization) == ["support.view_started", "support.view_ended"]
    event = AuditEvent.objects.get(action="support.view_started")
    assert (event.user_id, event.is_staff) == (operator.id, True)
    assert "Ticket 7" in event.summary


def test_nothing_can_be_changed(desk, organization, owner):
    named = belongings.of(organization, owner)
    view(desk, organization)
    for path in (
        PLAN,
        "/dashboard/plan/upgrade",
        "/dashboard/settings",
        "/dashboard/api-keys/new",
        f"/dashboard/api-keys/{named['key_id']}/revoke",
        f"/dashboard/webhooks/{named['endpoint_id']}/delete",
        "/dashboard/organization",
        "/dashboard/playground",
    ):
        response = desk.post(path, {"name": "changed", "monthly_budget": "1"})
        assert (path, response.status_code) == (path, 403)
    for method in (desk.put, desk.patch, desk.delete):
        assert method(PLAN).status_code == 403
    assert b"looking as support" in desk.post(PLAN).content


@pytest.mark.parametrize("path", impersonation.CLOSED)
def test_what_is_not_the_organization_s_to_show_stays_closed(desk, organization, path):
    view(desk, organization)
    assert desk.get(path).status_code == 403


def test_nothing_is_downloaded(desk, organization):
    month = f"{timezone.now():%Y-%m}"
    assert desk.get(f"/dashboard/billing/{month}.csv").status_code == 200
    view(desk, organization)
    assert desk.get(f"/dashboard/billing/{month}").status_code == 200
    assert desk.get(f"/dashboard/billing/{month}.csv").status_code == 403


def test_it_ends_by_itself(desk, organization):
    view(desk, organization)
    with time_machine.travel(timezone.now() + timedelta(minutes=29)):
        assert "Acme in " in desk.get(PLAN).content.decode()
    with time_machine.travel(timezone.now() + timedelta(minutes=31)):
        assert "Support team in " in desk.get(PLAN).content.decode()
    assert actions(organization) == ["support.view_started", "support.view_ended"]


def test_it_ends_with_the_right_to_it(desk, organization, operator):
    view(desk, organization)
    User.objects.filter(id=operator.id).update(is_superuser=False)
    assert "Support team in " in desk.get(PLAN).content.decode()


def test_the_admin_site_stays_the_operator_s_own(desk, organization):
    view(desk, organization)
    other = factories.organization(owner=factories.user("other"), name="Other")
    assert view(desk, other).status_code == 302
    assert "Other in " in desk.get(PLAN).content.decode()
    assert actions(organization) == ["support.view_started", "support.view_ended"]


def test_logging_out_ends_it_in_the_audit_log_too(desk, organization):
    view(desk, organization)
    assert desk.post("/logout").status_code == 302
    assert actions(organization) == ["support.view_started", "support.view_ended"]


def test_a_reason_is_needed(desk, organization):
    assert view(desk, organization, " ").status_code == 200
    assert actions(organization) == []


def test_who_may_not_looks_at_nothing(organization, owner, outsider):
    helper = factories.user("helper")
    helper.is_staff = True
    helper.save()
    for user, status in ((owner, 302), (outsider, 302), (helper, 403)):
        client = Client()
        client.force_login(user)
        assert view(client, organization).status_code == status
        assert impersonation.KEY not in client.session
    assert actions(organization) == []


def test_an_ordinary_session_ends_nothing(owner, organization):
    client = Client()
    client.force_login(owner)
    assert client.post(END)["Location"] == "/dashboard"
    assert Client().post(END)["Location"].startswith("/login")


def test_a_deleted_organization_is_not_looked_at(desk, organization):
    view(desk, organization)
    organization.memberships.all().delete()
    organization.delete()
    assert "Support team in " in desk.get(PLAN).content.decode()
