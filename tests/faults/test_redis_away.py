"""Redis is stopped, killed, flushed: calls go on within limits, and every one of them is in the ledger in the end."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest
import requests

from helixflow.lib import redis
from tests.billing.admitting import Account, drain
from tests.factories import deploy
from tests.faults.world import chat, check_books, environment, request_id, until_known
from tests.stack import wait_for
from tests.web import Web, running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account(valkey, db) -> Account:
    return Account.make(max_parallel=1_000)


@pytest.fixture
def web(account, upstream, data_dir) -> Iterator[Web]:
    deploy(upstream)
    with running_web(environment=environment(data_dir)) as running:
        until_known(account, {request_id(chat(running, account.key.token))})
        yield running


class Traffic:
    """Calls one after the other from some threads, until told to stop."""

    def __init__(self, web: Web, token: str) -> None:
        self.answers: list[requests.Response] = []
        self._web, self._token = web, token
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(3)]

    def _call(self, number: int) -> None:
        while not self._over.is_set():
            self.answers.append(chat(self._web, self._token, stream=number == 0))

    def wait_for_more(self, count: int) -> None:
        enough = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= enough)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def served(self) -> set[uuid.UUID]:
        assert {answer.status_code for answer in self.answers} <= {200, 429, 503}
        return {request_id(answer) for answer in self.answers if answer.status_code == 200}

    def counts(self) -> Counter[int]:
        return Counter(answer.status_code for answer in self.answers)


def check_each_is_recorded(account, web, traffic):
    records = check_books(account, web, traffic.served)
    upstream_calls = sum(len(record.attempts) for record in records.values())
    assert all(records[each].units == 1 and records[each].settled_by == "gateway" for each in traffic.served)
    return upstream_calls


def test_flushed(web, account, upstream):
    """A meter is never far behind; what it had not written yet is told again."""
    with Traffic(web, account.key.token) as traffic:
        for _ in range(3):
            traffic.wait_for_more(15)
            drain()
            traffic.wait_for_more(15)
            redis.sync_client().flushdb()
    assert check_each_is_recorded(account, web, traffic) == len(upstream.requests)


def test_killed_and_started_again(web, account, upstream, valkey):
    with Traffic(web, account.key.token) as traffic:
        for _ in range(2):
            traffic.wait_for_more(30)
            valkey.kill()
            traffic.wait_for_more(30)
            valkey.start()
        traffic.wait_for_more(30)
    assert traffic.counts()[200] > 100
    assert check_each_is_recorded(account, web, traffic) == len(upstream.requests)


def test_started_again_without_its_last_second(web, account, upstream, valkey):
    """Admissions and settlements that it has forgotten are told again by who made them."""
    before = {request_id(chat(web, account.key.token)) for _ in range(3)}
    until_known(account, before)
    since = valkey.written_bytes
    forgotten = {request_id(chat(web, account.key.token)) for _ in range(5)}
    until_known(account, before | forgotten)
    valkey.cut_power(since_bytes=since)
    valkey.start()
    records = check_books(account, web, before | forgotten)
    assert {records[each].settled_by for each in before | forgotten} == {"gateway"}
    assert sum(len(record.attempts) for record in records.values()) == len(upstream.requests)


def test_metered_and_then_forgotten_by_redis(web, account, valkey):
    """The ledger has what Redis knows no more: it is told again, and changes nothing."""
    since = valkey.written_bytes
    served = {request_id(chat(web, account.key.token)) for _ in range(5)}
    until_known(account, served)
    drain()
    metered = {record.id: record.recorded_at for record in account.records()}
    valkey.cut_power(since_bytes=since)
    valkey.start()
    wait_for(lambda: any(entry.late for entry in account.stream()))
    records = check_books(account, web, served)
    assert {each: records[each].recorded_at for each in metered} == metered


def test_stopped_and_going_on(web, account, upstream, valkey):
    """What it was asked meanwhile it does when it wakes, though nobody listens any more."""
    with Traffic(web, account.key.token) as traffic:
        for _ in range(2):
            traffic.wait_for_more(20)
            valkey.pause()
            traffic.wait_for_more(30)
            valkey.go_on()
        traffic.wait_for_more(20)
    assert traffic.counts()[200] > 80
    assert check_each_is_recorded(account, web, traffic) == len(upstream.requests)
    assert account.leases() == 0


@contextmanager
def one_of_four(data_dir):
    with running_web(environment=environment(data_dir, HELIXFLOW_WEB_PROCESSES="4")) as running:
        yield running


def test_away_each_process_serves_its_share(account, upstream, data_dir, valkey):
    """And the month is neither enforced nor told."""
    deploy(upstream)
    with one_of_four(data_dir) as web:
        until_known(account, {request_id(chat(web, account.key.token))})
        account.limit(requests_per_minute=16, requests_per_month=2)
        first = request_id(chat(web, account.key.token))
        until_known(account, {first})
        valkey.kill()
        answers = [chat(web, account.key.token) for _ in range(6)]
        codes = [answer.status_code for answer in answers]
        assert codes.count(429) >= 1
        resets = {answer.headers["x-ratelimit-reset"] for answer in answers}
        assert codes.count(200) == 4 or len(resets) > 1
        for answer in answers:
            assert answer.headers["x-ratelimit-limit"] == "16"
            assert "x-ratelimit-limit-month" not in answer.headers
            if answer.status_code == 429:
                assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        valkey.start()
        served = {request_id(answer) for answer in answers if answer.status_code == 200}
        until_known(account, {first} | served)
        account.limit()
        records = check_books(account, web, {first} | served)
        assert len(records) == len(upstream.requests)


def test_away_and_no_disk_either(web, account, upstream, valkey, data_dir):
    """What the disk does not take waits in memory."""
    (data_dir / "spool").write_text("a file where a folder should be")
    valkey.kill()
    served = {request_id(chat(web, account.key.token)) for _ in range(5)}
    valkey.start()
    records = check_books(account, web, served)
    assert {records[each].status for each in served} == {200}
    assert "spool cannot be written" in web.output()


def test_away_when_it_is_told_to_end(web, account, upstream, valkey, data_dir):
    """The next process finds its spool."""
    valkey.kill()
    served = {request_id(chat(web, account.key.token)) for _ in range(3)}
    web.process.terminate()
    assert web.process.wait(30) == 0
    valkey.start()
    with running_web(environment=environment(data_dir)) as second:
        records = check_books(account, second, served)
    assert {records[each].status for each in served} == {200}
