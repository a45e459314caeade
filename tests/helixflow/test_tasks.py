"""What is told of the broker to processes that can do without it."""

import os
import uuid
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from redis import Redis

from helixflow.lib import tasks
from webhooks.queue import DELIVER

QUEUE = "celery:webhooks"


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    tasks._crowded.clear()
    yield
    tasks._crowded.clear()


@pytest.fixture
def broker() -> Iterator[Redis]:
    """Where the messages lie."""
    with Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield client


def nudge(times: int) -> None:
    for _ in range(times):
        tasks.nudge(DELIVER, str(uuid.uuid4()), expires=60)


def test_nudges_that_no_worker_takes_fill_the_broker_up_to_a_bound(broker: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "CROWD", 5)
    monkeypatch.setattr(tasks, "COUNTED_FOR_S", 0)
    nudge(20)
    assert broker.llen(QUEUE) == 5
    broker.delete(QUEUE)  # a worker took them
    nudge(1)
    assert broker.llen(QUEUE) == 1


def test_messages_are_not_counted_for_every_nudge(broker: Redis, monkeypatch: pytest.MonkeyPatch):
    counted = Mock(wraps=tasks._waiting)
    monkeypatch.setattr(tasks, "COUNTED_FOR_S", 60)
    monkeypatch.setattr(tasks, "_waiting", counted)
    nudge(10)
    counted.assert_called_once_with("webhooks")
    assert broker.llen(QUEUE) == 10


def test_what_must_be_done_is_queued_behind_a_crowd(broker: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "CROWD", 0)
    assert tasks.send(DELIVER, str(uuid.uuid4()))
    assert broker.llen(QUEUE) == 1


def test_with_the_broker_away_it_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    asked = Mock(return_value=None)
    monkeypatch.setattr(tasks, "_away_until", 0.0)
    monkeypatch.setattr(tasks, "_waiting", asked)
    nudge(3)
    asked.assert_called_once_with("webhooks")
