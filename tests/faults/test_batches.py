"""What becomes of batches while the processes that work on them end, and their servers go away."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection

from helixflow.lib import redis
from tests.billing.admitting import Account
from tests.factories import deploy
from tests.faults import batch_world
from tests.inference.batch import engine
from tests.web import running_web
from tests.webhooks import workers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Processes entered here end with the test."""
    with ExitStack() as stack:
        yield stack


def test_killed_workers_lose_nothing_and_repeat_nothing(upstream, data_dir, running):
    deploy(upstream)
    account = Account.make()
    batch_world.slow(upstream, 0.02)
    web = running.enter_context(running_web())
    worker = running.enter_context(batch_world.batcher(data_dir, web))
    batch = engine.make(account.key.row, 500)
    seen = []
    for reached in (50, 200, 350):
        seen += batch_world.until_settled(batch, reached)
        worker.kill()
        worker.start()
    seen += batch_world.until_ended(batch)
    assert seen == sorted(seen)
    assert batch.status == "completed"
    batch_world.check(batch, upstream, completed=500)
    batch_world.check_books(batch, account, completed=500)


def test_servers_go_and_come_back(postgresql, valkey, upstream, data_dir, running):
    """Valkey is flushed, a gateway killed, then PostgreSQL and Valkey. What a killed gateway had may be asked again."""
    running.enter_context(workers.broker(valkey.url))
    deploy(upstream)
    account = Account.make()
    batch_world.slow(upstream, 0.02)
    web = running.enter_context(running_web(workers=2, environment={"HELIXFLOW_REDIS_BUDGET_MS": "2000"}))
    running.enter_context(batch_world.batcher(data_dir, web))
    batch = engine.make(account.key.row, 300)
    batch_world.until_settled(batch, 20)
    client: Any = redis.sync_client()
    client.flushall()  # the broker's messages and queues too
    batch_world.until_settled(batch, 60)
    batch_world.kill_one_gateway(web)
    batch_world.until_settled(batch, 120)
    postgresql.kill()
    connection.close()
    postgresql.start()
    batch_world.until_settled(batch, 200)
    valkey.kill()
    valkey.start()
    batch_world.until_ended(batch)
    assert batch.status == "completed"
    batch_world.check(batch, upstream, completed=300, repeats=8)


def fall_asleep(process) -> None:
    """Outside a transaction: what that has locked would keep everybody waiting until it wakes."""
    for _ in range(20):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '300 ms'"
            )
            if cursor.fetchone() == (0,):
                return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)


def test_a_worker_that_sleeps_beyond_its_lease_repeats_nothing_and_a_small_batch_is_not_behind(
    upstream, data_dir, running
):
    deploy(upstream)
    account, other = Account.make(), Account.make("other")
    batch_world.slow(upstream, 0.2)
    web = running.enter_context(running_web())
    sleeper = running.enter_context(batch_world.batcher(data_dir, web, "sleeper", threads=1))
    batch = engine.make(account.key.row, 300)
    batch_world.until_settled(batch, 20)
    small = engine.make(other.key.row, 10)
    batch_world.until_ended(small)
    batch.refresh_from_db()
    assert batch.is_open
    fall_asleep(sleeper.process)
    running.enter_context(batch_world.batcher(data_dir, web, "another"))
    batch_world.until_settled(batch, batch.settled + 50)
    sleeper.process.send_signal(signal.SIGCONT)
    batch_world.until_ended(batch)
    assert batch.status == "completed"
    assert (small.completed, batch.completed) == (10, 300)
    assert len(upstream.requests) == 310
    assert batch_world.numbers(batch) == list(range(300))
