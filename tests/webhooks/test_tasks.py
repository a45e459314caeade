"""What a deliverer does with the messages that it was sent."""

import uuid
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from celery.signals import worker_shutting_down
from django.db import OperationalError

from webhooks import sending
from webhooks.tasks import deliver


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    """In place of a turn at an endpoint."""
    work = Mock(return_value=0)
    monkeypatch.setattr(sending, "work", work)
    yield work
    sending.stopping.clear()


def test_a_worker_that_is_to_end_begins_nothing(work: Mock) -> None:
    endpoint_id = uuid.uuid4()
    deliver(str(endpoint_id))
    work.assert_called_once_with(endpoint_id)
    worker_shutting_down.send(sender="deliverer")
    deliver(str(endpoint_id))
    work.assert_called_once()


@pytest.mark.django_db(transaction=True)
def test_without_postgresql_deliveries_wait(work: Mock) -> None:
    work.side_effect = OperationalError("the database system is shutting down")
    deliver(str(uuid.uuid4()))
    work.assert_called_once()
