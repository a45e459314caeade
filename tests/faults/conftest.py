"""Servers that a test may break."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.core.management import call_command
from django.db import connection, connections

from billing.admission import limits, quota, snapshots, unsettled
from helixflow.stack import embedded
from tests import emptying
from tests.faults.world import Server, Valkey


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="helixflow-faults-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _forget_redis(settings: Any) -> Iterator[None]:
    """What is kept of one server is not for the next test's."""

    def forget() -> None:
        for scripts in (quota._script, quota._registered, limits._sync_script, unsettled._page_of):
            scripts.cache_clear()
        snapshots.cache.clear()

    forget()
    yield
    forget()


@pytest.fixture
def valkey(data_dir: Path, settings: Any) -> Iterator[Valkey]:
    """In place of the tests' own, for this process and those it starts."""
    server = Valkey(data_dir)
    server.start()
    settings.REDIS_URL = server.url
    yield server
    server.go_on()
    server.kill()


@pytest.fixture(scope="module")
def _postgresql(django_db_blocker: Any) -> Iterator[Server]:
    """For this process too. Migrated once: that takes longer than most tests."""
    known = dict(connection.settings_dict)
    with tempfile.TemporaryDirectory(prefix="helixflow-faults-", ignore_cleanup_errors=True) as folder:
        service = embedded.postgresql(Path(folder), port=embedded.free_port(), options=("shared_buffers=64MB",))
        server = Server(service)
        server.start()
        address = urlsplit(service.url)
        with django_db_blocker.unblock():
            connections.close_all()
            _forget_threads()
            connection.settings_dict.update(
                USER=address.username, PASSWORD=unquote(address.password or ""), HOST=address.hostname,
                PORT=address.port, NAME=address.path.lstrip("/"),
            )  # fmt: skip
            try:
                call_command("migrate", verbosity=0)
                yield server
            finally:
                connections.close_all()
                _forget_threads()
                connection.settings_dict.update(known)
        server.kill()


def _forget_threads() -> None:
    """Those that read for the data plane keep connections of their own, to the server before."""
    snapshots.cache._threads = ThreadPoolExecutor(4, "snapshots")
    limits._threads = ThreadPoolExecutor(limits.SEEDERS, "quota")


@pytest.fixture
def postgresql(_postgresql: Server) -> Iterator[Server]:
    """In place of the tests' own, with empty tables. For tests that have no other database."""
    yield _postgresql
    connection.close()
    if _postgresql.process.poll() is not None:
        _postgresql.start()
    emptying.empty_tables()
