"""Fixtures for every test. The same three people everywhere: owner, member, outsider (of another organization)."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import Client, TransactionTestCase
from redis import Redis

from accounts.models import Organization, User
from accounts.passwords import Argon2Hasher
from billing.admission import limits, snapshots
from billing.admission.breaker import Breaker
from helixflow.lib import tasks
from helixflow.server import live
from helixflow.server.health import services
from helixflow.status import history
from inference import catalogue
from inference.batch import rounds
from inference.keeping import room
from tests import emptying, factories
from tests.cluster import on_cluster, redis_cluster  # noqa: F401  # fixtures
from tests.fakes.upstream import Upstream
from tests.stack import Stack, running_stack
from webhooks import sending

REAL_COSTS = {"memory_cost": Argon2Hasher.memory_cost, "time_cost": Argon2Hasher.time_cost}
_whole = ExitStack()  # holds the ``stack``
LONG = ("tests/e2e/", "tests/sdks/", "tests/faults/", "tests/test_soak.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Once this worker is through with what takes long, HelixFlow as a whole ends: idle it takes a tenth of a core."""
    if not item.nodeid.startswith(LONG):
        _whole.close()


@pytest.fixture(scope="session")
def _redis() -> Redis:
    """More patient than the platform's own client: the machine may be busy."""
    return Redis.from_url(os.environ["REDIS_URL"], socket_timeout=20)


@pytest.fixture(autouse=True)
def _clean_redis(_redis: Redis) -> None:
    """Counters, generations and throttles of one test are not the next one's, nor is what it made of a lost Redis."""
    _redis.flushdb()
    limits.breaker = Breaker()
    room.breaker = Breaker()


@pytest.fixture(autouse=True)
def _clean_process() -> None:
    """What a process keeps for some seconds, of rows or of a server that was away, is not the next test's either."""
    catalogue.keeper.forget()
    history.keeper.forget()
    limits._ledger_failed_at = float("-inf")
    live._redis_away_until = 0.0
    services._result = None
    snapshots.cache.clear()
    tasks._away_until = 0.0
    tasks._crowded.clear()
    rounds.stopping.clear()
    sending.stopping.clear()


@pytest.fixture(autouse=True, scope="session")
def _quickly_emptied() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: emptying.empty_tables())
        yield


@pytest.fixture(autouse=True, scope="session")
def _cheap_hashes() -> Iterator[None]:
    """Argon2 as it is, but with next to no work: hundreds of tests sign somebody up or in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Argon2Hasher, "memory_cost", 8)
        patch.setattr(Argon2Hasher, "time_cost", 1)
        yield


@pytest.fixture
def real_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are in production."""
    for name, cost in REAL_COSTS.items():
        monkeypatch.setattr(Argon2Hasher, name, cost)


@pytest.fixture(autouse=True)
def _plain_static(settings: Any) -> None:
    """Pages name static files as they lie in the tree; test_pages.py tries the hashed names."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": storage}


@pytest.fixture
def owner(db: None) -> User:
    return factories.user("owner")


@pytest.fixture
def organization(owner: User) -> Organization:
    return factories.organization(owner=owner)


@pytest.fixture
def member(organization: Organization) -> User:
    return factories.user("member", organization=organization)


@pytest.fixture
def outsider(db: None) -> User:
    outsider = factories.user("outsider")
    factories.organization(owner=outsider)
    return outsider


@pytest.fixture
def client() -> Client:
    """Django's test client."""
    return Client()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An OpenAI-compatible server that misbehaves on command."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """All of HelixFlow, with the real embedded model, for every test of this worker. Webhooks are given up soon."""
    started = running_stack(HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK="true", HELIXFLOW_WEBHOOK_DELAYS_S="0,1")
    yield _whole.enter_context(started)
    _whole.close()
