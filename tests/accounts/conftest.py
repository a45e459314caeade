"""What tests of accounts share: mails that arrive, and JSON calls."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client

from helixflow.celery import app
from helixflow.lib import tasks

Post = Callable[..., Any]  # Django's test response, with json()


@pytest.fixture(autouse=True)
def _one_throttle_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttle's window may end on the clock between two tries of a test; here it begins with the test."""
    began = int(time.time())
    monkeypatch.setattr("django_ratelimit.core._get_window", lambda value, period: began + period)


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmailMessage]]:
    """The mails sent: tasks and what waits for a commit run at once."""
    monkeypatch.setattr("django.db.transaction.on_commit", lambda function, *_, **__: function())
    app.loader.import_default_modules()  # tasks that are called by name
    app.conf.task_always_eager = True
    yield mail.outbox
    app.conf.task_always_eager = False


@pytest.fixture
def broker_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.db.transaction.on_commit", lambda function, *_, **__: function())
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://127.0.0.1:1/0")  # answers nobody
    monkeypatch.setattr(tasks, "_producers", tasks._producers.__wrapped__)  # nor do connections that were kept


@pytest.fixture
def post(client: Client) -> Post:
    """POST a JSON body, as text if it is to be malformed."""

    def post(url: str, body: object, **headers: str) -> Any:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return client.post(url, text, content_type="application/json", headers=headers)

    return post
