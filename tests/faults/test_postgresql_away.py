"""PostgreSQL is killed: who is known goes on being served, and the meter writes everything once, later."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from billing import months
from billing.admission import redis_keys
from billing.models import UsageRecord
from billing.settling.settlement import Settlement
from helixflow.lib import ids, redis
from tests.billing.admitting import Account, drain, settle, usage_of
from tests.factories import deploy
from tests.faults.world import (
    PATIENT,
    Server,
    chat,
    check_books,
    check_sums,
    environment,
    request_id,
    run_meter,
    running_meter,
)
from tests.stack import wait_for
from tests.web import Web, running_web

EVENTS = 6_000


@pytest.fixture
def account(postgresql, valkey) -> Account:
    return Account.make()


@pytest.fixture
def web(account, upstream, data_dir) -> Iterator[Web]:
    deploy(upstream)
    with running_web(environment=environment(data_dir) | PATIENT) as running:
        yield running


def test_who_is_known_is_served_and_metered_later(web, account, postgresql: Server, data_dir):
    cold = account.new_key()
    with running_meter(data_dir):
        served = {request_id(chat(web, account.key.token))}
        wait_for(lambda: UsageRecord.objects.count() == 1)
        connection.close()
        postgresql.kill()
        for _ in range(5):
            answer = chat(web, account.key.token)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining-month"]
            served.add(request_id(answer))
        refused = chat(web, cold.token)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "service_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        wait_for(lambda: len(account.stream()) == 5)
        postgresql.start()
        wait_for(lambda: UsageRecord.objects.count() == 6)
        wait_for(lambda: chat(web, cold.token).status_code == 200)
        wait_for(lambda: not account.stream())
    assert {record.id for record in account.records()} >= served
    check_books(account, web, served)


def test_a_month_that_nobody_can_count_waits(web, account, postgresql: Server):
    """Its counter is lost while the ledger is away: the minute still holds, and the truth is found again."""
    account.limit(requests_per_month=3)
    served = {request_id(chat(web, account.key.token)) for _ in range(2)}
    wait_for(lambda: len(account.stream()) == 2)
    drain()
    connection.close()
    postgresql.kill()
    redis.sync_client().delete(redis_keys.month(account.id, months.of(time.time())))
    answers = [chat(web, account.key.token) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    served |= {request_id(answer) for answer in answers}
    postgresql.start()
    wait_for(lambda: chat(web, account.key.token).status_code == 429)
    records = {record.id for record in account.records()}
    account.limit()
    assert set(check_books(account, web, served)) > records


@pytest.fixture
def backlog(account) -> int:
    """Settled and not metered."""
    first = ids.uuid7()
    verdict = account.admit(first)
    batch = [Settlement.of(usage_of(verdict, each)) for each in (first, *(ids.uuid7() for _ in range(EVENTS - 1)))]
    settle(*batch)
    return len(batch)


def test_a_meter_that_is_killed_over_and_over_writes_each_event_once(account, backlog, data_dir):
    for _ in range(4):
        before = pending(account)
        with running_meter(data_dir) as meter:
            wait_for(partial(is_at_work, account, before))
            os.kill(meter.pid, signal.SIGKILL)
    finish(account, backlog, data_dir)


def test_a_postgresql_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    account, backlog, postgresql: Server, data_dir
):
    with running_meter(data_dir) as meter:
        for _ in range(2):
            before = records()
            wait_for(partial(has_written_more, before))
            connection.close()
            postgresql.kill()
            postgresql.start()
        wait_for(lambda: records() == backlog)
        assert meter.poll() is None
    finish(account, backlog, data_dir)


def is_at_work(account: Account, before: int) -> bool:
    return pending(account) > before or waiting(account) == 0


def has_written_more(before: int) -> bool:
    return records() > before or before == EVENTS


def pending(account: Account) -> int:
    """Given to some meter, and not forgotten."""
    return _group(account).get("pending", 0)


def waiting(account: Account) -> int:
    """Given to no meter yet."""
    return _group(account).get("lag", 1)


def _group(account: Account) -> dict[str, int]:
    client: Any = redis.sync_client()
    groups = client.xinfo_groups(redis_keys.usage_stream(account.tag))
    return groups[0] if groups else {}


def finish(account: Account, backlog: int, data_dir: Path) -> None:
    """What dead meters were given is taken over at once."""
    run_meter(data_dir, "--drain")
    assert account.stream() == []
    assert UsageRecord.objects.count() == backlog
    check_sums()


def records() -> int:
    try:
        return UsageRecord.objects.count()
    except Exception as error:
        connection.close()
        if isinstance(error.__cause__, psycopg.Error):
            return 0
        raise
