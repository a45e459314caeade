"""A fake OpenAI-compatible upstream: a real server on loopback, in a thread of its own, that misbehaves on command.

    with Upstream() as upstream:
        upstream.script("status-500", "normal")      # for the next requests, in order; or
        post(upstream.url + "/chat/completions", {"model": "cut-fin", …})

A request is answered by the next scripted behaviour; else by the one its model is named after; else normally. All are
in ``behaviours.BEHAVIOURS``; ``script`` also takes any ``async def behaviour(call)``. Needs neither pytest nor Django.
"""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.fakes.behaviours import BEHAVIOURS, Behaviour, Call, Received, normal, not_found

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


class Upstream:
    """``requests`` holds what came; ``disconnects`` the monotonic times at which a client left before its answer's end,
    and ``disconnected`` is set by the first of them. ``connections`` counts those open now, ``accepted`` all.
    ``trouble`` meets each request first, and whether it returns True decides if that was all."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.disconnects: list[float] = []
        self.disconnected = threading.Event()
        self.connections = 0
        self.accepted = 0
        self.sent_bytes = 0
        self.models = ["gpt-4o", "gpt-4o-mini"]
        self.trouble: Callable[[Call], Awaitable[bool]] | None = None
        self._scripted: deque[Behaviour] = deque()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="fake-upstream", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """The base URL, up to and including /v1."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def tls_mismatch_url(self) -> str:
        """The wrong scheme for this server."""
        return f"{'http' if self._tls else 'https'}://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def script(self, *behaviours: str | Behaviour) -> None:
        """What the next requests get, one each."""
        self._scripted.extend(BEHAVIOURS[each] if isinstance(each, str) else each for each in behaviours)

    def start(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fake upstream did not start")
        return self

    def stop(self) -> None:
        """Close the port and every connection. From now on the address refuses connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=self._listener, ssl=self._tls, limit=16 * 1024 * 1024)
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does it for its own listeners only
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.accepted += 1
        try:
            while (request := await _receive(reader)) is not None and not writer.is_closing():
                self.requests.append(request)
                await self._answer(Call(request, writer), reader)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left between two requests, or the server is being stopped
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.transport.abort() if self._loop.is_closed() else writer.close()

    async def _answer(self, call: Call, reader: asyncio.StreamReader) -> None:
        """Run the behaviour, and watch for the client leaving meanwhile."""
        answering = asyncio.ensure_future(self._behave(call))
        leaving = asyncio.ensure_future(_gone(reader))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            failed = answering.done() and isinstance(answering.exception(), ConnectionError)
            if failed or not answering.done():
                self.disconnects.append(time.monotonic())
                self.disconnected.set()
                raise ConnectionResetError
            answering.result()
        finally:
            for each in (answering, leaving):
                each.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _behave(self, call: Call) -> None:
        if self.trouble is None or not await self.trouble(call):
            await self._behaviour(call)(call)

    def _behaviour(self, call: Call) -> Behaviour:
        if call.request.method == "GET" and call.request.path == "/v1/models":
            return self._list_models
        if call.request.path not in PATHS:
            return not_found
        if self._scripted:
            return self._scripted.popleft()
        return BEHAVIOURS.get(call.body.get("model", ""), normal)

    async def _list_models(self, call: Call) -> None:
        data = [{"id": name, "object": "model", "created": 1677610602, "owned_by": "fake"} for name in self.models]
        await call.answer(json.dumps({"object": "list", "data": data}).encode())


async def _receive(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)


async def _gone(reader: asyncio.StreamReader) -> None:
    """Returns when the client has closed. It sends nothing while it waits for an answer (no pipelining)."""
    while not reader.at_eof() and reader.exception() is None:  # a read would eat the next request's bytes
        await asyncio.sleep(0.01)


def refused_url() -> str:
    """A base URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
