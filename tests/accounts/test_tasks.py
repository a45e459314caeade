from datetime import timedelta

import pytest
from django import db
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.utils import timezone

from accounts import sessions, tasks
from accounts.models import TokenSession, User, WebSession
from helixflow.celery import app

pytestmark = pytest.mark.django_db


def test_expired_sessions_are_cleared_and_live_ones_stay(owner: User) -> None:
    now = timezone.now()
    for age in (timedelta(days=31), timedelta(days=29), timedelta(days=-1)):
        session = sessions.start(user=owner)
        TokenSession.objects.filter(id=session.id).update(expires_at=now - age)
    for _ in range(2):
        Client().force_login(owner)
    expired = WebSession.objects.first()
    assert expired is not None
    WebSession.objects.filter(pk=expired.pk).update(expire_date=now - timedelta(seconds=1))
    tasks.clear_expired_sessions()
    assert TokenSession.objects.count() == 2
    assert WebSession.objects.count() == 1
    assert not WebSession.objects.filter(pk=expired.pk).exists()


def test_the_schedule_names_tasks_that_exist(settings) -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


@pytest.mark.parametrize("trouble", [ConnectionRefusedError, db.OperationalError])
def test_what_a_mail_needs_and_is_down_is_tried_again(
    owner: User, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    tries = []

    def send(message: EmailMultiAlternatives) -> int:
        tries.append(message.to)
        if len(tries) < 3:
            raise trouble
        return 1

    monkeypatch.setattr(EmailMultiAlternatives, "send", send)
    tasks.send_verification_mail.apply(args=(str(owner.id),), throw=False)
    assert tries == [["owner@example.com"]] * 3


def test_a_verified_or_vanished_user_gets_no_mail(owner: User, mailoutbox) -> None:
    User.objects.update(email_verified_at=timezone.now())
    tasks.send_verification_mail(str(owner.id))
    owner_id = str(owner.id)
    owner.delete()
    tasks.send_verification_mail(owner_id)
    assert not mailoutbox
