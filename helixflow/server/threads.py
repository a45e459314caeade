"""Django's views in a bounded pool of threads: one hop a request, and connections that stay open.

Django's own ASGI handler starts a thread for every request and returns to the event loop between the middleware and
the view. Database connections belong to threads, so each request would also open one. Here a request goes to a thread
once, as under a threaded WSGI server, and what it needs of PostgreSQL is bounded by threads times processes. The views
are synchronous; an asynchronous one would run, but in a loop of its own.
"""

import asyncio
import contextvars
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import close_old_connections
from django.urls import set_script_prefix

from helixflow.lib import errors
from helixflow.server.cycle import render

logger = logging.getLogger(__name__)

THREADS: Final = 12
WAIT_S: Final = 3.0  # for a free thread
ANSWER_S: Final = 15.0  # for a view; its thread goes on, since nothing can stop it
LARGE: Final = 2  # bodies looked at at once, in threads of their own: a storage may take its time for them
LARGE_WAIT_S: Final = 60.0
LARGE_ANSWER_S: Final = 300.0
STREAMS: Final = 4  # sent at once, in threads of their own: whoever reads slowly takes none from the pages
STREAMS_OF_ONE: Final = 2  # of these for one organization, where the view has noted whose it is
STREAM_S: Final = 3600.0  # as long as an upload may take: 200 MB in it are half a megabit a second


class TooMany(Exception):
    """Of one organization's streams."""


class ThreadedDjango(ASGIHandler):
    def __init__(self, threads: int = THREADS) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self.pool = ThreadPoolExecutor(threads, "django")  # its threads start with the first requests, after any fork
        self.free = asyncio.Semaphore(threads)
        self.large = ThreadPoolExecutor(LARGE, "large")
        self.free_large = asyncio.Semaphore(LARGE)
        self.streams = ThreadPoolExecutor(STREAMS, "streams")
        self.free_streams = asyncio.Semaphore(STREAMS)
        self.streaming: Counter[object] = Counter()  # by organization

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        pool, free, wait_s, answer_s = self.pool, self.free, WAIT_S, ANSWER_S
        if scope.get("is_large"):  # by ``bodies``
            pool, free, wait_s, answer_s = self.large, self.free_large, LARGE_WAIT_S, LARGE_ANSWER_S
        try:
            async with asyncio.timeout(wait_s):
                await free.acquire()
            async with asyncio.timeout(answer_s):
                response = await asyncio.wrap_future(submit(pool, free, self.respond, with_length(scope, body), body))
        except TimeoutError:
            logger.error("no thread answered %r", scope["path"])  # noqa: TRY400  # nothing of ours to trace
            await busy(scope, send)
            return
        if response.streaming:
            await self.send_parts(response, scope, send)
        else:
            await self.send_response(response, send)

    async def send_parts(self, response: Any, scope: Any, send: Any) -> None:
        """For up to an hour: the server itself hangs up on who reads nothing. No organization has them all."""
        try:
            with self.counted(response):
                await self.send_counted(response, scope, send)
        except TooMany:
            await self.turn_away(response, scope, send)

    async def send_counted(self, response: Any, scope: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self.free_streams.acquire()
        except TimeoutError:
            logger.error("no thread sends %r", scope["path"])  # noqa: TRY400  # as above
            await self.turn_away(response, scope, send)
            return
        loop = asyncio.get_running_loop()
        await asyncio.wrap_future(submit(self.streams, self.free_streams, send_stream, response, send, loop))

    @contextmanager
    def counted(self, response: Any) -> Iterator[None]:
        """Raises TooMany."""
        owner = getattr(response, "organization_id", None)
        if owner is None:
            yield
            return
        if self.streaming[owner] >= STREAMS_OF_ONE:
            raise TooMany
        self.streaming[owner] += 1
        try:
            yield
        finally:
            self.streaming[owner] -= 1
            if not self.streaming[owner]:
                del self.streaming[owner]

    async def turn_away(self, response: Any, scope: Any, send: Any) -> None:
        await busy(scope, send)
        await asyncio.wrap_future(self.pool.submit(response.close))

    def respond(self, scope: Any, body: Any) -> Any:
        """In a thread: the whole of Django. Returns the response; one that streams is not closed."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = refusal if request is None else self.get_response(request)
        if response.streaming:
            close_old_connections()
        else:
            response.close()  # also tells request_finished, in the thread whose connections it looks after
        body.close()
        return response


def with_length(scope: Any, body: Any) -> Any:
    """``scope``, and for a body that came in chunks its length, without which Django takes it for an empty one."""
    headers = scope["headers"]
    if not any(name == b"transfer-encoding" for name, _ in headers):
        return scope
    body.seek(0, os.SEEK_END)
    length = body.tell()
    body.seek(0)
    return scope | {"headers": [*headers, (b"content-length", b"%d" % length)]}


def submit(pool: ThreadPoolExecutor, free: asyncio.Semaphore, work: Callable[..., Any], *args: Any) -> "Future[Any]":
    """``free`` was acquired, and is released once the work is done, whether or not somebody waits for it by then."""
    loop = asyncio.get_running_loop()

    def release(_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(free.release)

    job = pool.submit(contextvars.copy_context().run, work, *args)
    job.add_done_callback(release)
    return job


def send_stream(response: Any, send: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Part by part, each when the client has taken the one before. One that takes too long is cut, and not ended."""
    until = time.monotonic() + STREAM_S

    def put(message: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(send(message), loop).result()

    try:
        put({"type": "http.response.start", "status": response.status_code, "headers": list(head(response))})
        for part in response:
            if time.monotonic() > until:
                return
            put({"type": "http.response.body", "body": part, "more_body": True})
        put({"type": "http.response.body", "body": b""})
    finally:
        response.close()  # tells request_finished, as above


def head(response: Any) -> Iterable[tuple[bytes, bytes]]:
    for name, value in response.items():
        yield name.encode("ascii"), value.encode("latin-1")
    for cookie in response.cookies.values():
        yield b"Set-Cookie", cookie.output(header="").strip().encode("ascii")


async def busy(scope: Any, send: Any) -> None:
    """Without Django, whose threads are all taken: JSON under /v1, a plain page elsewhere."""
    error = errors.ServiceUnavailable("The site is busy or waits for its database. Try again.", retry_after=5)
    headers, body = render(error)
    if not scope["path"].startswith("/v1/"):
        body = f"<!doctype html><title>HelixFlow</title><h1>One moment, please</h1><p>{error.message}</p>".encode()
        own = {b"content-type": b"text/html; charset=utf-8", b"content-length": b"%d" % len(body)}
        headers = [(name, own.get(name, value)) for name, value in headers]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
