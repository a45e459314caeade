"""Fixtures of the spool's tests (spooling.py)."""

import pytest

from billing.settling import spool
from billing.settling.spool import Spool
from tests.billing.spooling import Disk


@pytest.fixture
def spool_directory(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def disk(spool_directory, monkeypatch):
    return Disk(spool_directory, monkeypatch)


@pytest.fixture
def start_spool(spool_directory, monkeypatch):
    """Starts processes on the same directory."""
    monkeypatch.setattr(spool, "RETRY_S", 0.01)
    started = []

    def start_spool(name="web-1"):
        started.append(Spool(spool_directory, name))
        return started[-1]

    yield start_spool
    for process in started:
        process.close()
