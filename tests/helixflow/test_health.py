"""Health for people and for orchestrators, also while what we depend on is down or hangs."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from helixflow.server import health
from tests.helixflow.serving import Served, get, started, wait_for

PATHS = ("/v1/health", "/health", "/livez", "/readyz")


def test_health_has_the_shape_of_the_reference(site):
    for path in ("/v1/health", "/health", "/v1/health/"):
        answer = site.get(path)
        assert answer.status == 200
        body = answer.json()
        assert list(body) == ["status", "timestamp", "version", "services"]
        assert body["status"] == "healthy"
        assert abs(body["timestamp"] - time.time()) < 5
        assert body["services"] == {"database": "healthy", "redis": "healthy"}


def test_live_and_ready(site):
    assert site.get("/livez").json() == {"status": "alive"}
    ready = site.get("/readyz")
    assert ready.status == 200
    assert ready.json()["status"] == "ready"


@pytest.mark.parametrize("path", PATHS)
def test_probes_need_no_host_and_no_credentials_and_are_not_cached(site, path):
    answer = site.ask(f"GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8000\r\n\r\n".encode())
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", PATHS)
def test_head_works_and_other_methods_do_not(site, path):
    with site.connect() as raw:
        raw.send(get(path, method="HEAD") + get(path))
        assert raw.answer(head_only=True).status == 200
        assert raw.answer().status == 200
    refused = site.ask(get(path, "Content-Length: 0", method="POST"))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.json()["error"]["code"] == "invalid_request"


@contextmanager
def hung_listener() -> Iterator[int]:
    """Takes connections and never says a word, as a stopped server does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def degraded(start_web) -> Iterator[Served]:
    """PostgreSQL hangs and Redis refuses, from the start."""
    with hung_listener() as port:
        yield start_web(
            DATABASE_URL=f"postgresql://nobody@127.0.0.1:{port}/none",
            REDIS_URL="redis://127.0.0.1:1/0",
        )


def test_services_that_are_down_are_named_within_two_seconds(degraded):
    start = time.monotonic()
    answer = degraded.get("/v1/health")
    assert time.monotonic() - start < 2.2
    assert answer.status == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["services"] == {"database": "unhealthy", "redis": "unhealthy"}


def test_degraded_is_alive_and_ready_at_once(degraded):
    for path in ("/livez", "/readyz"):
        start = time.monotonic()
        answer = degraded.get(path)
        assert time.monotonic() - start < 0.5
        assert answer.status == 200
    wait_for(lambda: degraded.get("/readyz").json()["services"]["database"] == "unhealthy", seconds=3)


def test_a_crowd_of_monitors_costs_one_check(degraded):
    with ThreadPoolExecutor(50) as crowd:
        start = time.monotonic()
        assert {future.result().status for future in [crowd.submit(degraded.get, "/health") for _ in range(200)]} == {
            503
        }
        assert time.monotonic() - start < 5
    tasks = len(os.listdir(f"/proc/{degraded.process.pid}/task"))  # noqa: PTH208  # Path has no listdir
    assert tasks < 20


def test_checks_run_once_at_a_time_and_once_a_second(monkeypatch):
    runs = 0

    async def check():
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.05)

    services = health.Services({"thing": check})

    async def ask() -> list[dict[str, str]]:
        return await asyncio.gather(*(services.status(wait_s=1) for _ in range(20)), services.status(wait_s=0.001))

    *waited, hurried = asyncio.run(ask())
    assert waited == [{"thing": "healthy"}] * 20
    assert hurried == {"thing": "unknown"}
    assert runs == 1
    monkeypatch.setattr(health, "FRESH_S", 0)
    assert asyncio.run(services.status(wait_s=1)) == {"thing": "healthy"}
    assert runs == 2


def test_draining_is_told_to_who_is_still_connected(stores):
    command = [sys.executable, "manage.py", "web", "--workers", "1", "--port", "0"]
    with started(command, stores | {"HELIXFLOW_SHUTDOWN_GRACE_S": "3"}) as web, web.connect() as raw:
        raw.send(get("/readyz")[:12])
        time.sleep(0.2)
        web.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        raw.send(get("/readyz")[12:])
        answer = raw.answer()
        assert (answer.status, answer.json()["status"]) == (503, "draining")
        try:
            assert web.process.wait(10) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("it did not end")
