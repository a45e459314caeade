import pytest
from django.test import Client
from django.urls import reverse

from tests import factories
from webhooks import services
from webhooks.models import Event, EventType

pytestmark = pytest.mark.django_db
LIST = "admin:webhooks_event_changelist"


@pytest.fixture
def admin(db) -> Client:
    client = Client()
    client.force_login(factories.superuser("root"))
    return client


@pytest.fixture
def event(organization) -> Event:
    made = services.publish(
        organization_id=organization.id, type=EventType.QUOTA_LOW, data={"threshold": 80}, dedupe_key="a-key"
    )
    assert made is not None
    return made


def test_events_are_found_by_their_ids_and_names(admin, organization, event):
    for term in (event.public_id, organization.public_id, "Acme", "a-key", ""):
        assert event.public_id in admin.get(reverse(LIST), {"q": term}).content.decode(), term
    for term in ("evt_" + "0" * 22, "nothing"):
        assert event.public_id not in admin.get(reverse(LIST), {"q": term}).content.decode(), term
    assert event.public_id in admin.get(reverse(LIST), {"type": "quota.low"}).content.decode()
    assert event.public_id not in admin.get(reverse(LIST), {"type": "completion.created"}).content.decode()


def test_an_event_can_only_be_looked_at(admin, event):
    page = reverse("admin:webhooks_event_change", args=[event.pk])
    assert "threshold" in admin.get(page).content.decode()
    assert admin.post(page, {"type": "quota.low"}).status_code == 403
    assert admin.post(reverse("admin:webhooks_event_delete", args=[event.pk]), {"post": "yes"}).status_code == 403
    assert admin.get(reverse("admin:webhooks_event_add")).status_code == 403


def test_the_admin_is_for_staff(client, owner, event):
    client.force_login(owner)
    assert client.get(reverse(LIST)).status_code == 302
