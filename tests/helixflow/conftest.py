"""The whole application behind the real server, on the tests' database."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.db import connection

from tests.helixflow.serving import Served, started

Web = Callable[..., Served]


@pytest.fixture(scope="session")
def stores(django_db_setup: None) -> dict[str, str]:
    """The environment of a process that uses this run's PostgreSQL and Redis."""
    base, _, _ = settings.DATABASE_URL.rpartition("/")
    return {"DATABASE_URL": f"{base}/{connection.settings_dict['NAME']}", "REDIS_URL": settings.REDIS_URL}


@pytest.fixture(scope="module")
def start_web(stores: dict[str, str]) -> Iterator[Web]:
    """``manage.py web`` with one worker and more environment."""
    with ExitStack() as running:
        yield lambda **env: running.enter_context(
            started([sys.executable, "manage.py", "web", "--workers", "1", "--port", "0"], stores | env)
        )


@pytest.fixture(scope="module")
def site(start_web: Web) -> Served:
    return start_web()
