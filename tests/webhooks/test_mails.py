"""Whom it tells that an endpoint was disabled, of what, and that it does so whatever is down meanwhile."""

from datetime import UTC, datetime, timedelta
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone

from accounts.models import Role
from helixflow.lib import redis, tasks
from tests import factories
from tests.webhooks.rows import attempt, days_ago, delivery
from webhooks import mails
from webhooks import tasks as webhook_tasks
from webhooks.models import DeliveryState, DisabledReason, Endpoint

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
URL = "https://hooks.example.com/in/helixflow"


@pytest.fixture
def queued(monkeypatch) -> list[str]:
    """The endpoints that a mail was queued for."""
    told: list[str] = []

    def send(_: object, endpoint_id: str) -> bool:
        told.append(endpoint_id)
        return True

    monkeypatch.setattr(tasks, "send", send)
    return told


@pytest.fixture
def failing(organization) -> Endpoint:
    return factories.endpoint(
        organization,
        url=f"{URL}?token=secret-of-the-receiver",
        description="Orders <b>",
        disabled_at=timezone.now(),
        disabled_reason=DisabledReason.FAILING,
        failing_since=days_ago(5),
    )


def text_and_html(mailoutbox) -> tuple[str, str]:
    (mail,) = mailoutbox
    ((html, kind),) = mail.alternatives
    assert kind == "text/html"
    return mail.body, html


def before(*, hours: int) -> datetime:
    return NOON - timedelta(hours=hours)


def words(text: str) -> str:
    return " ".join(text.split())


# What it says


def test_owners_and_admins_are_told_in_one_mail(organization, owner, member, outsider, failing, mailoutbox):
    factories.user("admin", organization=organization, role=Role.ADMIN)
    gone = factories.user("gone", organization=organization, role=Role.ADMIN)
    gone.is_active = False
    gone.save()
    assert mails.send_disabled(failing.id)
    (mail,) = mailoutbox
    assert mail.to == ["owner@example.com", "admin@example.com"]
    assert mail.subject == "A webhook endpoint was disabled · HelixFlow"


def test_it_names_the_endpoint_what_was_wrong_what_waits_and_where_to_go(failing, mailoutbox, settings):
    with time_machine.travel(NOON, tick=False):
        Endpoint.objects.update(disabled_at=NOON, failing_since=NOON - timedelta(days=5))
        attempt(delivery(failing), at=before(hours=3), succeeded=False, status=None, error_code="dns")
        said = {"error_code": "status", "error": "The receiver answered 503. Any 2xx is a success."}
        attempt(delivery(failing), at=before(hours=2), succeeded=False, status=503, **said)
        test = delivery(failing, test=True, state=DeliveryState.FAILED)
        attempt(test, at=before(hours=1), succeeded=False, status=418, error_code="status")
        delivery(failing, state=DeliveryState.SUCCEEDED)
        mails.send_disabled(failing.id)
    text, html = text_and_html(mailoutbox)
    for body in (text, html):
        told = words(body)
        assert f"{URL}<" in told or f"{URL} " in told
        assert "of Acme:" in told
        assert "disabled on 2026-05-06 12:00:00 UTC" in told
        assert "failed since 2026-05-01 12:00:00 UTC" in told
        assert "Last error: The receiver answered 503. Any 2xx is a success." in told
        assert "2 deliveries wait" in told
        assert f"{settings.PUBLIC_URL}/dashboard/webhooks/{failing.public_id}" in told
    assert "Orders <b>" in text
    assert "Orders &lt;b&gt;" in html


def test_the_query_of_the_url_stays_out(failing, mailoutbox):
    mails.send_disabled(failing.id)
    assert "secret-of-the-receiver" not in "".join(text_and_html(mailoutbox))


def test_one_that_is_gone_said_so_itself(failing, mailoutbox):
    Endpoint.objects.update(disabled_reason=DisabledReason.GONE, failing_since=None)
    attempt(delivery(failing, state=DeliveryState.FAILED), succeeded=False, status=410, error_code="status")
    mails.send_disabled(failing.id)
    for body in text_and_html(mailoutbox):
        assert "410 Gone" in body
        assert "every attempt" not in body
        assert "wait" not in body


def test_without_an_attempt_in_the_log_it_is_told_all_the_same(failing, mailoutbox):
    delivery(failing)
    assert mails.send_disabled(failing.id)
    for body in text_and_html(mailoutbox):
        assert "1 delivery waits" in words(body)
        assert "Last error" not in body


# That it is told


def test_it_is_told_once(failing, queued, mailoutbox):
    for _ in range(3):
        mails.tell_owners()
    assert queued == [str(failing.id)]
    assert mails.send_disabled(failing.id)
    assert not mails.send_disabled(failing.id)
    failing.refresh_from_db()
    assert failing.owner_told_at is not None
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        mails.tell_owners()
    assert len(queued) == len(mailoutbox) == 1


def test_a_mail_that_never_left_is_queued_again_once_its_task_has_given_up(failing, monkeypatch, queued):
    def refuse(_: EmailMultiAlternatives) -> int:
        raise SMTPServerDisconnected("away")

    monkeypatch.setattr(EmailMultiAlternatives, "send", refuse)
    mails.tell_owners()
    with pytest.raises(SMTPServerDisconnected):
        mails.send_disabled(failing.id)
    failing.refresh_from_db()
    assert failing.owner_told_at is None
    mails.tell_owners()
    assert len(queued) == 1
    cache.clear()
    mails.tell_owners()
    assert queued == [str(failing.id)] * 2


def test_its_task_outlives_a_mail_server_that_is_away_for_a_while(failing, monkeypatch):
    tries = []

    def send(mail: EmailMultiAlternatives) -> int:
        tries.append(mail.to)
        if len(tries) < 3:
            raise ConnectionRefusedError
        return 1

    monkeypatch.setattr(EmailMultiAlternatives, "send", send)
    webhook_tasks.tell_owners.apply(args=(str(failing.id),), throw=False)
    assert len(tries) == 3
    failing.refresh_from_db()
    assert failing.owner_told_at is not None


def test_what_is_under_way_is_kept_longer_than_a_task_tries():
    task: Any = webhook_tasks.tell_owners  # its stub knows no retry_backoff_max
    longest_s = task.retry_backoff_max * task.max_retries + 15 * (task.max_retries + 1)  # and EMAIL_TIMEOUT
    assert longest_s <= mails.UNDER_WAY_S


def test_a_broker_that_is_away_costs_one_try_and_the_next_sweep_tells(failing, monkeypatch, organization, queued):
    factories.endpoint(organization, disabled_at=days_ago(1), disabled_reason=DisabledReason.GONE)
    asked = []
    working = tasks.send

    def refuse(_: object, endpoint_id: str) -> bool:
        asked.append(endpoint_id)
        return False

    monkeypatch.setattr(tasks, "send", refuse)
    assert mails.tell_owners() == 0
    assert len(asked) == 1
    monkeypatch.setattr(tasks, "send", working)
    assert mails.tell_owners() == 2
    assert len(queued) == 2


def test_a_cache_that_is_away_stops_no_sweep(failing, monkeypatch, queued, caplog):
    def away(*_: object, **__: object) -> bool:
        raise redis.RedisError("away")

    monkeypatch.setattr(cache, "add", away)
    assert mails.tell_owners() == 0
    assert not queued
    assert "wait: away" in caplog.text


def test_the_sweep_tells_and_its_task_sends(failing, monkeypatch, mailoutbox):
    monkeypatch.setattr(tasks, "send", lambda task, *args: bool(task.type.apply(args=args)))
    webhook_tasks.sweep()
    assert len(mailoutbox) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"disabled_reason": DisabledReason.MANUAL},
        {"disabled_reason": "", "disabled_at": None},
        {"deleted_at": NOON},
        {"owner_told_at": NOON},
    ],
)
def test_who_knows_or_need_not_know_is_not_told(failing, queued, mailoutbox, change):
    Endpoint.objects.update(**change)
    assert mails.tell_owners() == 0
    assert not mails.send_disabled(failing.id)
    assert not mailoutbox


def test_an_organization_without_anybody_to_tell_is_done_with(failing, organization, mailoutbox):
    organization.memberships.all().delete()
    assert not mails.send_disabled(failing.id)
    assert not mailoutbox
    failing.refresh_from_db()
    assert failing.owner_told_at is not None


def test_one_that_is_disabled_again_is_told_again(failing, queued, mailoutbox):
    mails.tell_owners()
    mails.send_disabled(failing.id)
    Endpoint.objects.update(disabled_at=timezone.now() + timedelta(seconds=1), owner_told_at=None)
    mails.tell_owners()
    assert len(queued) == 2
    assert mails.send_disabled(failing.id)


def test_after_days_in_vain_no_further_mail_is_queued(failing, queued):
    Endpoint.objects.update(disabled_at=days_ago(3.1))
    assert mails.tell_owners() == 0
    Endpoint.objects.update(disabled_at=days_ago(2.9))
    assert mails.tell_owners() == 1
