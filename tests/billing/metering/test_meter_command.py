"""`manage.py meter` as a process: drained, stopped, killed."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from billing.management.commands import meter as command
from billing.management.commands.meter import Chore
from billing.metering.meter import Meter
from billing.metering.usage_streams import UsageStreams
from billing.models import UsageMonth, UsageRecord
from helixflow.lib import redis
from tests.billing.sent_events import left, many, pending, send
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_command_drains():
    send(*many(20))
    call_command("meter", "--drain")
    assert (UsageRecord.objects.count(), left()) == (20, 0)


def test_a_chore_goes_on_whatever_goes_wrong(caplog):
    outcomes = iter([OperationalError("away"), OperationalError("away"), RuntimeError("a mistake"), None, None])
    done = threading.Event()

    def act():
        outcome = next(outcomes, done)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is done:
            done.set()

    chore = Chore(act, every_s=0.001)
    chore.start()
    assert done.wait(20)
    chore.end()
    assert not chore.is_alive()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]  # what is away is said once


@contextmanager
def meter_process() -> Iterator["subprocess.Popen[bytes]"]:
    """The real thing, on the database of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {"DATABASE_URL": url.geturl()}
    process = subprocess.Popen([sys.executable, str(ROOT / "manage.py"), "meter"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def test_a_meter_process_ends_at_sigterm_with_its_batch_done():
    send(*many(500))
    with meter_process() as process:
        wait_for(UsageRecord.objects.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    waiting = left()
    assert UsageRecord.objects.count() == 500 - waiting
    assert sum(pending(name) for name in UsageStreams().names if redis.sync_client().exists(name)) == 0


def recorded_at_least(count):
    return UsageRecord.objects.count() >= count


def test_meter_processes_that_are_killed_at_random_lose_and_repeat_nothing():
    dice = random.Random(3)
    given = many(4_000)
    send(*given)
    for _ in range(3):
        goal = UsageRecord.objects.count() + dice.randrange(1, 600)
        with meter_process() as process:
            wait_for(partial(recorded_at_least, min(goal, len(given))))
            process.kill()
    Meter().drain()
    assert UsageRecord.objects.count() == len(given)
    assert sum(UsageMonth.objects.values_list("requests", flat=True)) == len(given)
    assert left() == 0


def test_a_redis_that_is_away_as_rejects_go_back_is_told_in_a_line(monkeypatch):
    def away():
        raise redis.RedisError("connection refused")

    monkeypatch.setattr(command, "put_rejects_back", away)
    with pytest.raises(CommandError, match=r"^Redis does not answer: connection refused$"):
        call_command("meter", "--retry-rejects", "--drain")
