"""Webhooks in the admin: found, looked at, and the few things that support does about them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from helixflow.lib import ids
from tests import factories
from tests.webhooks.rows import attempt, days_ago, delivery, lease
from webhooks import services
from webhooks.models import Delivery, DeliveryState, DisabledReason, Endpoint, Event, EventType

pytestmark = pytest.mark.django_db
EVENTS = "admin:webhooks_event_changelist"
ENDPOINTS = "admin:webhooks_endpoint_changelist"
DELIVERIES = "admin:webhooks_delivery_changelist"
URL = "https://hooks.example.com/in"
TOKEN = "token-of-the-receiver"


def staff(name: str, *verbs: str) -> User:
    made = factories.user(name)
    made.is_staff = True
    made.save()
    mine = Permission.objects.filter(content_type__app_label="webhooks")
    made.user_permissions.set([each for each in mine if each.codename.startswith(verbs)])
    return made


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def admin(db) -> Client:
    return signed_in(factories.superuser("root"))


@pytest.fixture
def support(db) -> Client:
    return signed_in(staff("support", "view_", "change_"))


@pytest.fixture
def clerk(db) -> Client:
    """May look and change nothing."""
    return signed_in(staff("clerk", "view_"))


@pytest.fixture
def hook(organization) -> Endpoint:
    return factories.endpoint(organization, url=f"{URL}?key={TOKEN}", description="Orders")


@pytest.fixture
def event(organization) -> Event:
    made = services.publish(
        organization_id=organization.id, type=EventType.QUOTA_LOW, data={"threshold": 80}, dedupe_key="a-key"
    )
    assert made is not None
    return made


def shown(client: Client, name: str, **query: str) -> str:
    page = client.get(reverse(name), query)
    assert page.status_code == 200
    return page.content.decode()


def change_page(row: Endpoint | Delivery | Event) -> str:
    return reverse(f"admin:webhooks_{row._meta.model_name}_change", args=[row.pk])


def act(client: Client, action: str, *rows: Endpoint):
    return client.post(
        reverse(ENDPOINTS), {"action": action, "_selected_action": [str(row.pk) for row in rows]}, follow=True
    )


def resend(client: Client, row: Delivery):
    return client.post(reverse("admin:webhooks_delivery_resend", args=[row.pk]), follow=True)


# Events


def test_events_are_found_by_their_ids_and_names(admin, organization, event):
    for term in (event.public_id, organization.public_id, "Acme", "a-key", ""):
        assert event.public_id in shown(admin, EVENTS, q=term), term
    for term in ("evt_" + "0" * 22, "nothing"):
        assert event.public_id not in shown(admin, EVENTS, q=term), term
    assert event.public_id in shown(admin, EVENTS, type="quota.low")
    assert event.public_id not in shown(admin, EVENTS, type="completion.created")


def test_an_event_leads_to_its_deliveries(admin, event):
    assert f"{reverse(DELIVERIES)}?q={event.public_id}" in admin.get(change_page(event)).content.decode()


# Endpoints


def test_endpoints_are_found_by_their_ids_and_words(admin, organization, hook):
    for term in (hook.public_id, organization.public_id, "hooks.example", "Orders", "Acme", ""):
        assert change_page(hook) in shown(admin, ENDPOINTS, q=term), term
    for term in ("whe_" + "0" * 22, "nothing"):
        assert change_page(hook) not in shown(admin, ENDPOINTS, q=term), term


@pytest.mark.parametrize(
    ("status", "words", "fields"),
    [
        ("enabled", "enabled", {}),
        ("failing", "enabled, but failing", {"failing_since": timezone.now()}),
        ("hand", "disabled by hand", {"disabled_at": timezone.now(), "disabled_reason": DisabledReason.MANUAL}),
        ("platform", "410 Gone", {"disabled_at": timezone.now(), "disabled_reason": DisabledReason.GONE}),
        ("platform", "failed for days", {"disabled_at": timezone.now(), "disabled_reason": DisabledReason.FAILING}),
        ("deleted", "deleted", {"deleted_at": timezone.now()}),
    ],
)
def test_endpoints_are_found_by_how_they_are(admin, hook, status, words, fields):
    Endpoint.objects.update(**fields)
    page = shown(admin, ENDPOINTS, status=status)
    assert change_page(hook) in page
    assert words in page.partition("<tbody>")[2]
    others = {"enabled", "failing", "hand", "platform", "deleted"} - {status, "enabled"}
    assert not [other for other in others if change_page(hook) in shown(admin, ENDPOINTS, status=other)]


def test_the_list_and_the_page_have_the_figures_of_the_last_day(admin, hook):
    for duration_ms, succeeded in ((10, True), (20, True), (30, False)):
        attempt(delivery(hook), duration_ms=duration_ms, succeeded=succeeded)
    attempt(delivery(hook), at=days_ago(2), succeeded=False)
    for page in (shown(admin, ENDPOINTS), admin.get(change_page(hook)).content.decode()):
        assert "2 of 3 attempts succeeded (66.7%)<br>p50 20 ms, p95 29 ms<br>4 waiting now" in page


def test_the_list_asks_as_often_for_many_endpoints_as_for_one(admin, hook, organization, django_assert_max_num_queries):
    for _ in range(5):
        factories.endpoint(organization)
    with django_assert_max_num_queries(8):
        shown(admin, ENDPOINTS)


def test_secrets_and_tokens_in_urls_are_not_shown(admin, hook):
    sent = delivery(hook)
    attempt(sent)
    pages = [shown(admin, ENDPOINTS), shown(admin, DELIVERIES)]
    pages += [admin.get(change_page(row)).content.decode() for row in (hook, sent, sent.event)]
    act(admin, "disable", hook)
    pages.append(admin.get(reverse("admin:webhooks_endpoint_history", args=[hook.pk])).content.decode())
    for page in pages:
        for secret in (factories.SECRET, hook.sealed_secret, TOKEN):
            assert secret not in page
    assert TOKEN not in LogEntry.objects.get().object_repr


def test_lists_show_the_beginning_of_a_long_url_and_the_endpoint_all_of_it(admin, organization):
    url = URL + "/" + "a" * 1900
    long = factories.endpoint(organization, url=url)
    sent = delivery(long)
    for page in (shown(admin, ENDPOINTS), shown(admin, DELIVERIES), admin.get(change_page(sent)).content.decode()):
        assert (URL in page, url in page) == (True, False)
    assert url in admin.get(change_page(long)).content.decode()


def test_support_disables_and_enables_and_the_log_says_who(support, hook, organization):
    other = factories.endpoint(organization)
    page = act(support, "disable", hook, other).content.decode()
    assert "Disabled: 2." in page
    hook.refresh_from_db()
    assert (hook.is_enabled, hook.disabled_reason) == (False, DisabledReason.MANUAL)
    assert "Disabled: 0." in act(support, "disable", hook).content.decode()
    assert "Enabled: 1." in act(support, "enable", hook).content.decode()
    hook.refresh_from_db()
    assert hook.is_enabled
    entries = LogEntry.objects.filter(object_id=str(hook.pk)).order_by("id")
    assert [(entry.user.email, entry.change_message) for entry in entries] == [
        ("support@example.com", "Disabled."),
        ("support@example.com", "Enabled."),
    ]


def test_support_finishes_a_rotation(support, hook):
    Endpoint.objects.update(rotation_ends_at=days_ago(-1), sealed_previous_secret="sealed")
    assert "rotation of the secret: 1." in act(support, "finish_rotation", hook).content.decode()
    hook.refresh_from_db()
    assert (hook.rotation_ends_at, hook.sealed_previous_secret) == (None, "")
    assert "rotation of the secret: 0." in act(support, "finish_rotation", hook).content.decode()


def test_a_deleted_endpoint_stays_as_it_is(support, hook):
    Endpoint.objects.update(deleted_at=timezone.now())
    for action in ("enable", "disable", "finish_rotation"):
        assert act(support, action, hook).status_code == 200
    hook.refresh_from_db()
    assert hook.is_enabled
    assert not LogEntry.objects.exists()


# Deliveries


def test_deliveries_are_found_by_ids_and_by_the_words_of_their_endpoint(admin, organization, hook, outsider):
    sent = delivery(hook)
    theirs = delivery(factories.endpoint(outsider.memberships.get().organization, url="https://other.example/in"))
    for term in (
        *(sent.public_id, sent.event.public_id, hook.public_id, organization.public_id),
        *("hooks.example", f" {sent.public_id} "),
    ):
        page = shown(admin, DELIVERIES, q=term)
        assert (sent.public_id in page, theirs.public_id in page) == (True, False), term
    for term in (ids.new_id(ids.DELIVERY), "nothing"):
        assert sent.public_id not in shown(admin, DELIVERIES, q=term), term
    page = shown(admin, DELIVERIES)
    assert sent.public_id in page
    assert theirs.public_id in page


def test_deliveries_are_found_by_their_state(admin, hook):
    failed = delivery(hook, state=DeliveryState.FAILED, last_status=503)
    waiting = delivery(hook)
    page = shown(admin, DELIVERIES, state__exact="failed")
    assert "503" in page
    assert (failed.public_id in page, waiting.public_id in page) == (True, False)


def test_a_delivery_shows_its_attempts_and_what_receivers_said_as_text(admin, hook):
    sent = delivery(hook)
    attempt(sent, succeeded=False, status=503, response_body="<script>alert(1)</script>\u202e" + "x" * 600)
    attempt(sent, succeeded=False, status=None, error_code="dns", error="No such name.", address=None)
    page = admin.get(change_page(sent)).content.decode()
    for words in ("503 Service Unavailable", "&lt;script&gt;", "&lt;U+202E&gt;", "Name not found", "No such name."):
        assert words in page
    assert "<script>alert(1)" not in page
    assert "x" * 501 not in page
    assert change_page(hook) in page
    assert change_page(sent.event) in page


def test_support_sends_a_delivery_again(support, hook):
    sent = delivery(hook, state=DeliveryState.FAILED, step=10, next_attempt_at=None)
    assert "Send again" in support.get(change_page(sent)).content.decode()
    assert "It is sent again" in resend(support, sent).content.decode()
    sent.refresh_from_db()
    assert (sent.state, sent.step) == (DeliveryState.PENDING, 0)
    entry = LogEntry.objects.get()
    assert (entry.user.email, entry.object_id, entry.change_message) == (
        "support@example.com",
        str(sent.pk),
        "Sent again.",
    )


def test_what_cannot_be_sent_again_says_why(support, hook):
    sent = delivery(hook)
    lease(sent, seconds=60)
    assert "being sent right now" in resend(support, sent).content.decode()
    assert not LogEntry.objects.exists()
    assert resend(support, Delivery(id=ids.uuid7())).status_code == 404


# Who may do what


def test_there_is_nothing_to_edit(admin, hook):
    sent = delivery(hook)
    for row in (hook, sent, sent.event):
        name = row._meta.model_name
        assert admin.get(change_page(row)).status_code == 200
        assert admin.post(change_page(row), {"url": "https://evil.example", "type": "quota.low"}).status_code == 403
        assert admin.post(reverse(f"admin:webhooks_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        assert admin.get(reverse(f"admin:webhooks_{name}_add")).status_code == 403
    hook.refresh_from_db()
    assert hook.url.startswith(URL)


def test_who_may_only_look_sees_all_of_it_and_changes_nothing(clerk, hook):
    sent = delivery(hook, state=DeliveryState.FAILED)
    attempt(sent, succeeded=False, status=503)
    page = clerk.get(change_page(sent)).content.decode()
    assert "503 Service Unavailable" in page
    assert "Send again" not in page
    assert resend(clerk, sent).status_code == 403
    assert 'value="disable"' not in shown(clerk, ENDPOINTS)
    act(clerk, "disable", hook)
    hook.refresh_from_db()
    sent.refresh_from_db()
    assert hook.is_enabled
    assert sent.state == DeliveryState.FAILED


def test_staff_without_the_permission_to_look_see_nothing(hook):
    sent = delivery(hook)
    stranger = signed_in(staff("stranger", "nothing"))
    for url in (reverse(ENDPOINTS), reverse(DELIVERIES), reverse(EVENTS), change_page(hook), change_page(sent)):
        assert stranger.get(url).status_code == 403
    assert resend(stranger, sent).status_code == 403


def test_the_admin_is_for_staff(client, owner, hook):
    sent = delivery(hook)
    client.force_login(owner)
    for url in (reverse(ENDPOINTS), reverse(DELIVERIES), reverse(EVENTS), change_page(hook), change_page(sent)):
        assert client.get(url).status_code == 302
    again = reverse("admin:webhooks_delivery_resend", args=[sent.pk])
    assert client.post(again).status_code == 302
    assert Client().post(again).status_code == 302
    assert signed_in(factories.superuser("root")).get(again).status_code == 405
