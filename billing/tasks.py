"""Mails about plan, quota and budget. Arguments are JSON: ids of rows, which the worker reads."""

import uuid
from typing import Any

from celery import shared_task
from celery.app.task import Task

from billing import alerts, mails
from helixflow.lib import tasks


def enqueue(task: "Task[..., Any]", *args: str) -> bool:
    """Hand a mail to the worker; False with the broker down: the pages tell the same."""
    return tasks.send(task, *args)


@shared_task
def watch_alerts() -> None:
    """Every minute."""
    alerts.watch()
    for alert_id in alerts.due():
        if not tasks.send(send_alert, str(alert_id)):
            break  # found again once it must have been given up


@tasks.mail_task
def send_alert(alert_id: str) -> None:
    mails.send_alert(uuid.UUID(alert_id))


@tasks.mail_task
def tell_staff_of_upgrade(request_id: str) -> None:
    mails.tell_staff_of_upgrade(uuid.UUID(request_id))


@tasks.mail_task
def tell_owners_of_upgrade(request_id: str) -> None:
    mails.tell_owners_of_upgrade(uuid.UUID(request_id))


@tasks.mail_task
def tell_owners_of_grant(grant_id: str) -> None:
    mails.tell_owners_of_grant(uuid.UUID(grant_id))
