"""Health that processes share through Redis: told by one, known to all within two rounds, and to operators."""

import asyncio
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from billing.admission import limits
from helixflow.lib import redis
from inference import catalogue, health_shared
from inference.breaker import FAILURES_IN_A_ROW, State
from inference.health import Board, Trial
from inference.health_shared import DeploymentHealth
from inference.health_sync import HealthSync
from tests.factories import MODEL, deploy


class Process:
    """A gateway's view, with a clock of its own: monotonic clocks of processes have nothing in common."""

    def __init__(self, name: str, now: float) -> None:
        self.now = now
        self.id = name
        self.board = Board(clock=lambda: self.now, draw=lambda: 0.0)
        self.sync = HealthSync(self.board)

    def trial(self) -> Trial:
        standing = self.board.standing(self.id, MODEL, "first")
        return Trial(standing, self.board.budget(MODEL), self.board.clock, stream=True, paid=False)

    def fail(self, retry_after_s: float | None = None) -> None:
        for _ in range(FAILURES_IN_A_ROW):
            self.trial().failed("status 500", retry_after_s)

    def state(self) -> State:
        standing = self.board.standings.get(self.id)
        return State.CLOSED if standing is None else standing.breaker.state(self.now)


@pytest.fixture
def deployment_id(db) -> str:
    return deploy("http://127.0.0.1:9/v1").id.hex


@pytest.fixture
def here(deployment_id) -> Process:
    return Process(deployment_id, 1_000.0)


@pytest.fixture
def there(deployment_id) -> Process:
    return Process(deployment_id, 77.0)


def exchange(*processes: Process) -> None:
    async def rounds() -> None:
        for process in processes:
            await process.sync.exchange()

    asyncio.run(rounds())


def test_a_deployment_opened_in_one_process_is_open_in_the_other(here, there):
    there.trial().answered()
    here.fail(retry_after_s=40)
    exchange(here, there)
    assert (here.state(), there.state()) == (State.OPEN, State.OPEN)
    assert 39 < there.board.standings[there.id].breaker.wait_s(there.now) <= 40


def test_a_process_that_never_asked_it_knows_too(here, there):
    here.fail(retry_after_s=40)
    exchange(here, there)
    assert there.state() is State.OPEN


def test_a_probe_that_is_answered_in_one_process_closes_it_in_the_other(here, there):
    here.fail(retry_after_s=40)
    exchange(here, there)
    here.now += 41
    here.trial().answered()
    exchange(here, there)
    assert (here.state(), there.state()) == (State.CLOSED, State.CLOSED)


def test_a_probe_that_fails_elsewhere_lengthens_the_pause_here(here, there):
    here.fail()
    exchange(here, there)
    here.now += 3
    here.trial().failed("status 500")
    exchange(here, there)
    assert there.board.standings[there.id].breaker.level == 2
    assert there.board.standings[there.id].breaker.wait_s(there.now) > 3


def test_a_limit_met_by_one_process_is_respected_by_the_other(here, there):
    here.trial().limited(retry_after_s=20)
    exchange(here, there)
    assert there.state() is State.LIMITED
    there.now += 20
    assert there.state() is State.CLOSED


def test_what_one_process_adopted_it_does_not_tell_again(here, there):
    here.fail(retry_after_s=40)
    exchange(here, there)
    here.now += 41
    here.trial().answered()
    exchange(here, there, here)
    assert here.state() is State.CLOSED


def test_a_change_made_while_redis_is_away_is_told_when_it_is_back(here, there, settings):
    here.fail(retry_after_s=40)
    address, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:9/0"
    exchange(here, there)
    assert (here.state(), there.state()) == (State.OPEN, State.CLOSED)
    settings.REDIS_URL = address
    exchange(here, there)
    assert there.state() is State.OPEN


def test_redis_is_left_alone_while_its_breaker_is_open(here, monkeypatch):
    monkeypatch.setattr(limits, "breaker", SimpleNamespace(allows=lambda: False, is_open=False))
    here.fail()
    exchange(here)
    assert health_shared.shared() == {}


def test_versions_grow_over_a_flush(here, there):
    here.fail()
    exchange(here, there)
    redis.sync_client().flushdb()
    here.now += 3
    here.trial().failed("status 500", 50)
    exchange(here, there)
    assert there.board.standings[there.id].breaker.wait_s(there.now) > 45


def test_operators_see_the_state_and_the_numbers_of_all_processes_together(here, there):
    here.fail(retry_after_s=40)
    answered, under_way = there.trial(), there.trial()
    there.now += 0.25
    answered.first_token()
    answered.answered()
    exchange(here, there)
    found = health_shared.shared()[here.id]
    assert (found.state, found.reason) == (State.OPEN, "status 500")
    assert found.since is not None
    assert found.until is not None
    assert 38 < (found.until - datetime.now(UTC)).total_seconds() < 42
    assert (found.requests, found.failures, found.in_flight, found.latency_ms) == (FAILURES_IN_A_ROW + 2, 5, 1, 250.0)
    under_way.left()


def test_a_failure_is_told_though_it_cut_nothing_off(here):
    here.trial().failed("UpstreamTimeout: no first token\nin time")
    exchange(here)
    found = health_shared.shared()[here.id]
    assert (found.state, found.failures) == (State.CLOSED, 1)
    assert found.reason == "UpstreamTimeout: no first token in time"


def test_the_numbers_of_a_process_that_ended_are_gone_after_a_while(here):
    here.trial().answered()
    exchange(here)
    assert health_shared.shared()[here.id].requests == 1
    _, key = health_shared.KEYS
    client: Any = redis.sync_client()
    assert 0 < client.pttl(key) <= health_shared.LIFE_MS
    process, told = next(iter(client.hgetall(key).items()))
    at, _, numbers = told.partition(b" ")
    client.hset(key, process, b"%d %b" % (int(at) - health_shared.LIFE_MS - 1, numbers))
    assert health_shared.shared() == {}


def test_an_operator_closes_it_everywhere(here, there):
    here.fail(retry_after_s=300)
    exchange(here, there)
    assert health_shared.reset(uuid.UUID(here.id))
    assert health_shared.shared()[here.id].state is State.CLOSED
    exchange(here, there)
    assert (here.state(), there.state()) == (State.CLOSED, State.CLOSED)


def test_without_redis_nothing_is_known_and_nothing_raised(settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert health_shared.shared() == {}
    assert not health_shared.reset(uuid.uuid4())


def test_a_deployment_that_is_removed_is_forgotten(here):
    here.trial().answered()
    exchange(here)
    assert here.id in here.board.standings
    catalogue.keeper.catalogue = catalogue.Catalogue({})
    exchange(here)
    assert here.id not in here.board.standings


def test_health_is_exchanged_on_a_cluster(on_cluster, here, there):
    here.fail(retry_after_s=40)
    exchange(here, there)
    assert there.state() is State.OPEN
    assert health_shared.shared()[here.id].state is State.OPEN
    assert health_shared.reset(here.id)


def test_what_nothing_is_known_of_is_well():
    assert DeploymentHealth().state is State.CLOSED
