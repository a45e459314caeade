"""Two gateways that share what they know: of deployments that fail, and of keys that were used."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
import requests

from inference.keeping.idempotency import LEASE_S
from tests.billing.admitting import Account, drain
from tests.factories import MODEL, deploy
from tests.fakes.behaviours import Call, status
from tests.fakes.upstream import Upstream
from tests.faults.world import (
    PATIENCE_S,
    PATIENT,
    Gate,
    Valkey,
    check_books,
    check_sums,
    environment,
    reap,
    request_id,
    served,
    until_known,
)
from tests.stack import wait_for
from tests.web import Web, running_web

pytestmark = pytest.mark.django_db(transaction=True)
BUSY_S = 10.0  # what a busy machine may take longer
ONCE = {"Idempotency-Key": "order-4711"}


@pytest.fixture
def account(valkey: Valkey, db: None) -> Account:
    return Account.make(max_parallel=50)


def ask(web: Web, account: Account, **headers: str) -> requests.Response:
    return requests.post(
        f"{web.url}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True},
        headers={"Authorization": f"Bearer {account.key.token}", "Connection": "close"} | headers,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def webs(account, upstream, second, data_dir) -> Iterator[list[Web]]:
    """Both warm."""
    deploy(upstream)
    deploy(second, name="second", priority=1)
    with ExitStack() as stack:
        started = [
            stack.enter_context(running_web(environment=environment(data_dir / name, **PATIENT)))
            for name in ("here", "there")
        ]
        until_known(account, {request_id(served(partial(ask, web, account))) for web in started})
        upstream.requests.clear()
        yield started


def test_what_one_has_cut_off_the_other_leaves_alone_within_a_second(webs, account, upstream, second):
    here, there = webs

    async def down(call: Call) -> bool:
        await status(503, "Out of order.", "Retry-After: 40")(call)
        return True

    upstream.trouble = down
    assert ask(here, account).headers["x-helixflow-upstream"] == "second"
    time.sleep(1.0)
    assert ask(there, account).headers["x-helixflow-upstream"] == "second"
    assert len(upstream.requests) == 1


def test_a_key_of_a_gateway_that_was_killed_is_free_when_its_lease_ends(webs, account, upstream):
    here, there = webs
    upstream.script("stall-in-the-middle")
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(ask, here, account, **ONCE)
        wait_for(lambda: upstream.requests)
        wait_for(lambda: any(note.mark.answering for note in account.notes().values()))
        os.kill(here.process.pid, signal.SIGKILL)
        with pytest.raises(requests.RequestException):
            lost.result()
    began = time.monotonic()
    answer = served(partial(ask, there, account, **ONCE))
    assert time.monotonic() - began < LEASE_S + BUSY_S
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert "idempotent-replayed" not in answer.headers
    assert served(partial(ask, there, account, **ONCE)).content == answer.content
    assert len(upstream.requests) == 2
    wait_for(lambda: len(account.notes()) == 1)
    assert reap() == 1
    drain()
    records = account.records()
    assert sorted((record.status, record.units, record.settled_by) for record in records) == [
        (200, 1, "gateway"),
        (200, 1, "gateway"),
        (200, 1, "gateway"),
        (500, 1, "reaper"),
    ]
    assert (account.notes(), account.leases(), account.used()) == ({}, 0, 4)
    check_sums()


def test_an_answer_that_ended_while_redis_was_away_is_had_from_others_afterwards(valkey, account, webs, upstream):
    here, there = webs
    gate = Gate()
    upstream.script(gate.behaviour)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, here, account, **ONCE)
        wait_for(lambda: upstream.requests)
        valkey.kill()
        gate.is_open = True
        answer = first.result()
    assert answer.content.endswith(b"data: [DONE]\n\n")
    again = ask(here, account, **ONCE)  # of which it still knows itself
    assert (again.headers["idempotent-replayed"], again.content) == ("true", answer.content)
    refused = ask(there, account, **ONCE)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    valkey.start()
    wait_for(lambda: ask(there, account, **ONCE).content == answer.content, seconds=LEASE_S)
    assert len(upstream.requests) == 1
    check_books(account, here, {request_id(answer)})
