"""The audit log: what is kept of a change, and that nothing takes it back."""

import pytest
from django.db import Error, transaction

from accounts import audit
from accounts.models import AuditEvent
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner():
    return factories.user("owner")


@pytest.fixture
def organization(owner):
    return factories.organization(owner=owner)


def test_what_is_kept_of_a_change(owner, organization):
    with audit.calling_from("203.0.113.9", "Firefox\0"):
        audit.record(
            "plan.changed",
            organization=organization,
            user=owner,
            target=organization.public_id,
            summary="changed the plan",
            changes={"plan": ("Starter", "Pro"), "owner": (None, owner.id)},
        )
    event = AuditEvent.objects.get()
    assert (event.organization_id, event.user_id, event.actor) == (organization.id, owner.id, owner.email)
    assert event.changes == {"plan": ["Starter", "Pro"], "owner": [None, str(owner.id)]}
    assert (event.address, event.user_agent, event.is_staff) == ("203.0.113.9", "Firefox", False)


def test_outside_of_a_request_nobody_is_made_up(organization):
    audit.record("organization.deleted", organization=organization, user=None, summary="deleted the organization")
    event = AuditEvent.objects.get()
    assert (event.actor, event.user_id, event.address) == (audit.PLATFORM, None, None)


def test_an_operator_acts_as_support_elsewhere_and_as_a_member_at_home(organization):
    operator = factories.user("operator")
    operator.is_staff = True
    operator.save()
    audit.record("plan.changed", organization=organization, user=operator, summary="changed the plan")
    home = factories.organization(owner=operator, name="home")
    audit.record("plan.changed", organization=home, user=operator, summary="changed the plan")
    assert list(AuditEvent.objects.order_by("id").values_list("is_staff", flat=True)) == [True, False]


@pytest.mark.parametrize("act", [lambda rows: rows.update(summary="nothing"), lambda rows: rows.delete()])
def test_nothing_takes_it_back(owner, act):
    audit.record("two_factor.disabled", user=owner, summary="turned two-factor off")
    with pytest.raises(Error, match="append-only"), transaction.atomic():
        act(AuditEvent.objects.all())
    assert AuditEvent.objects.get().summary == "turned two-factor off"


def test_it_goes_with_its_organization_alone(owner, organization):
    other = factories.organization(owner=owner, name="other")
    for each in (organization, other):
        audit.record("plan.changed", organization=each, user=owner, summary="changed the plan")
    assert audit.purge(organization.id) == 1
    assert AuditEvent.objects.get().organization_id == other.id
    with pytest.raises(Error, match="append-only"), transaction.atomic():
        AuditEvent.objects.all().delete()
