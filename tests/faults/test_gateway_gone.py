"""A gateway that is killed, stopped, or told to end, with calls under way: each leaves one record."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from billing.settling import reaper
from helixflow.lib import redis
from tests.billing.admitting import Account, drain
from tests.factories import deploy
from tests.fakes import answers
from tests.faults.world import (
    PATIENT,
    Gate,
    Stream,
    chat,
    check_books,
    check_sums,
    environment,
    reap,
    request_id,
    until_known,
)
from tests.stack import wait_for
from tests.web import running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account(db: None) -> Account:
    return Account.make(max_parallel=50)


@pytest.fixture
def web(account, upstream, data_dir):
    deploy(upstream)
    with running_web(environment=environment(data_dir, HELIXFLOW_SHUTDOWN_GRACE_S="2") | PATIENT) as running:
        chat(running, account.key.token)  # warm
        yield running


def marks(account):
    return [note.mark for note in account.notes().values()]


def test_killed_within_a_stream(web, account, upstream):
    """What was sent has been paid for; what had sent nothing has not."""
    upstream.script("stall-in-the-middle", "stall-before-first")
    answering, silent = Stream(web, account.key.token), None
    answering.read_until(b"Hello")
    silent = Stream(web, account.key.token)
    wait_for(lambda: sorted(len(mark.attempts) + mark.answering for mark in marks(account)) == [1, 2])
    os.kill(web.process.pid, signal.SIGKILL)
    assert b"[DONE]" not in answering.read_to_its_end()
    silent.read_to_its_end()
    assert reap() == 2
    drain()
    records = {record.units: record for record in account.records() if record.settled_by == "reaper"}
    assert len(records) == 2
    for record in records.values():
        assert (record.status, record.error_code, record.streamed) == (500, "server_error", True)
        assert [attempt["deployment"] for attempt in record.attempts] == ["first"]
    assert (records[1].deployment, records[0].deployment) == ("first", "")
    assert {record.attempts[0]["outcome"] for record in records.values()} == {reaper.CUT_OFF}
    assert (records[1].usage_source, records[0].usage_source) == ("estimated", "none")
    assert records[1].completion_tokens > 0
    assert (account.notes(), account.leases(), account.used()) == ({}, 0, 2)
    check_sums()


def test_stopped_for_long_and_then_going_on(web, account, upstream):
    """It was given up, and its own word comes late: it takes the place of the reaper's."""
    gate = Gate()
    upstream.script(gate.behaviour)
    stream = Stream(web, account.key.token)
    stream.read_until(b"Hello")
    wait_for(lambda: any(mark.answering for mark in marks(account)))
    (stopped,) = account.notes()
    os.kill(web.process.pid, signal.SIGSTOP)
    try:
        assert reap() == 1
        drain()
        reaped = {record.id: record for record in account.records()}[stopped]
        assert (reaped.settled_by, reaped.units, reaped.status) == ("reaper", 1, 500)
    finally:
        os.kill(web.process.pid, signal.SIGCONT)
    gate.is_open = True
    assert b"[DONE]" in stream.read_to_its_end()
    wait_for(lambda: any(entry.late for entry in account.stream()))
    record = check_books(account, web, set())[stopped]
    assert (record.settled_by, record.units, record.status) == ("gateway", 1, 200)
    assert (record.input_tokens, record.output_tokens) == (
        answers.USAGE["prompt_tokens"],
        answers.USAGE["completion_tokens"],
    )


def test_told_to_end(web, account, upstream):
    """What ends within the grace is whole, the rest ends with an error, and all of it is settled."""
    gate = Gate()
    upstream.script(gate.behaviour, "stall-in-the-middle", "stall-before-head")
    streams = []
    for _ in range(2):
        streams.append(Stream(web, account.key.token))
        streams[-1].read_until(b"Hello")
    streams.append(Stream(web, account.key.token))
    wait_for(lambda: len(upstream.requests) == 4)
    web.process.send_signal(signal.SIGTERM)
    gate.is_open = True
    whole, cut, silent = (stream.read_to_its_end() for stream in streams)
    assert b"[DONE]" in whole
    assert b"service_unavailable" in cut
    assert b"[DONE]" not in cut
    assert b"503" in silent.split(b"\r\n")[0]
    assert web.process.wait(30) == 0
    drain()
    ended = sorted((record.status, record.error_code, record.units) for record in account.records())
    assert ended == [(200, "", 1), (200, "", 1), (503, "service_unavailable", 0), (503, "service_unavailable", 1)]
    assert {record.settled_by for record in account.records()} == {"gateway"}
    assert (account.notes(), account.leases(), account.used()) == ({}, 0, 3)
    client: Any = redis.sync_client()
    assert client.keys("gateway:*") == []
    check_sums()


def test_killed_while_redis_was_away(valkey, data_dir, account, upstream):
    """No note knew of its calls, but its spool did: the next process settles them."""
    deploy(upstream)
    upstream.script("normal", "normal", "stall-before-head")
    with running_web(environment=environment(data_dir)) as first:
        warm = request_id(chat(first, account.key.token))
        until_known(account, {warm})
        valkey.kill()
        served = request_id(chat(first, account.key.token))
        lost = Stream(first, account.key.token)
        wait_for(lambda: len(upstream.requests) == 3)
        wait_for(lambda: len(spooled(data_dir)) == 3, what="begun twice, ended once")
        os.kill(first.process.pid, signal.SIGKILL)
        lost.read_to_its_end()
    valkey.start()
    with running_web(environment=environment(data_dir)) as second:
        wait_for(lambda: len(account.stream()) == 3)
        records = check_books(account, second, {warm, served})
    assert (records[served].status, records[served].units) == (200, 1)
    (failed,) = [record for record in records.values() if record.status != 200]
    assert (failed.status, failed.error_code, failed.units) == (500, "server_error", 0)
    assert spooled(data_dir) == []


def spooled(data_dir: Path) -> list[bytes]:
    files = (data_dir / "spool").glob("*/*.log")
    return [line for path in files for line in path.read_bytes().splitlines()]
