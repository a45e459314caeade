"""Health for people (`/v1/health`) and for orchestrators (`/livez`, `/readyz`), as plain ASGI.

Not Django views: a probe names the host by its address, must not wait for a thread, and must answer when PostgreSQL
hangs. A crowd of monitors costs one check a second in each process.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from django.conf import settings

from helixflow.lib import errors, ids, redis
from helixflow.server import lifecycle

CHECK_S: Final = 1.5  # after which a service counts as down
FRESH_S: Final = 1.0  # how long a result is good
KNOWN_S: Final = 3.0  # and how long it is better than none, for who doesn't wait
READY_WAIT_S: Final = 0.25  # balancers ask often and don't wait: they get the last result


async def _database() -> None:
    """A connection of its own: one that the pages hold says nothing about whether new ones can be had."""
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as connection:
        await connection.execute("SELECT 1")


async def _redis() -> None:
    await redis.ping()


class Services:
    """What we depend on, checked at most once at a time and once a second."""

    def __init__(self, checks: dict[str, Callable[[], Awaitable[None]]]) -> None:
        self._checks = checks
        self._task: asyncio.Task[dict[str, str]] | None = None
        self._result: dict[str, str] | None = None
        self._checked_at = 0.0

    async def status(self, *, wait_s: float) -> dict[str, str]:
        """Name → "healthy" or "unhealthy". If a check takes longer than ``wait_s``: the last result, or "unknown"."""
        if self._result is not None and time.monotonic() - self._checked_at < FRESH_S:
            return self._result
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or task.done() or task.get_loop() is not loop:  # pages ask from loops of their own
            task = self._task = loop.create_task(self._check())
        done, _ = await asyncio.wait([task], timeout=wait_s)
        if done:
            return task.result()
        if self._result is None or time.monotonic() - self._checked_at > KNOWN_S:
            return dict.fromkeys(self._checks, "unknown")
        return self._result

    async def _check(self) -> dict[str, str]:
        answers = await asyncio.gather(*(self._answers(check) for check in self._checks.values()))
        self._result = {name: "healthy" if ok else "unhealthy" for name, ok in zip(self._checks, answers, strict=True)}
        self._checked_at = time.monotonic()
        return self._result

    @staticmethod
    async def _answers(check: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(CHECK_S):
                await check()
        except (psycopg.Error, redis.RedisError, OSError, TimeoutError):
            return False
        return True


services = Services({"database": _database, "redis": _redis})


async def health(scope: Any, receive: Any, send: Any) -> None:
    """As the reference prints it; 503 as soon as one service is down."""
    status = await services.status(wait_s=CHECK_S + 0.3)
    well = all(state == "healthy" for state in status.values())
    body = {
        "status": "healthy" if well else "unhealthy",
        "timestamp": int(time.time()),
        "version": settings.VERSION,
        "services": {name: "healthy" if state == "healthy" else "unhealthy" for name, state in status.items()},
    }
    await answer(scope, send, 200 if well else 503, body)


async def livez(scope: Any, receive: Any, send: Any) -> None:
    await answer(scope, send, 200, {"status": "alive"})


async def readyz(scope: Any, receive: Any, send: Any) -> None:
    """503 only while starting or draining. A service that is down is told, since warm keys go on being served."""
    phase = lifecycle.phase()
    status = await services.status(wait_s=READY_WAIT_S)
    await answer(scope, send, 200 if phase == "ready" else 503, {"status": phase, "services": status})


async def answer(scope: Any, send: Any, status: int, body: dict[str, Any]) -> None:
    request_id = ids.new_id(ids.REQUEST)
    extra: dict[str, str] = {}
    if scope["method"] not in {"GET", "HEAD"}:
        error = errors.MethodNotAllowed(allowed=("GET", "HEAD"))
        status, body, extra = error.status, error.body(request_id), error.headers()
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode()),
        *((name.lower().encode(), value.encode()) for name, value in extra.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
