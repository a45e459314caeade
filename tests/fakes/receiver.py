"""A fake webhook receiver: a real HTTP server in a thread of its own, that misbehaves on command.

    with Receiver() as receiver:
        receiver.script(status(500), close(), hang())    # for the next calls, in order; afterwards
        receiver.answer = lambda call: status(204)       # decides for each (a plain 200 unless set)
        deliver_to(receiver.url)
        receiver.wait_for(4)

An answer is any ``async def behaviour(exchange)``; the functions below make the usual ones. Needs neither pytest nor
Django. Holds thousands of calls that hang.
"""

import asyncio
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """A call as it came; ``headers`` have lower-case names. ``arrived_at`` is monotonic."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    arrived_at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event_id(self) -> str:
        return self.headers.get("webhook-id", "")


class Exchange:
    """One call and the means to answer it, well or badly."""

    def __init__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        self.call = call
        self.writer = writer

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, as a crashed machine's kernel does."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def head(code: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A status line and headers, without the blank line."""
    lines = [f"HTTP/1.1 {code} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def status(code: int = 200, body: bytes = b"ok", headers: Mapping[str, str] | None = None) -> Behaviour:
    length = {} if code in {204, 304} else {"Content-Length": str(len(body))}
    data = head(code, {**length, **(headers or {})}) + b"\r\n" + (body if length else b"")

    async def behaviour(exchange: Exchange) -> None:
        await exchange.send(data)

    return behaviour


def redirect(url: str, code: int = 302) -> Behaviour:
    return status(code, b"", {"Location": url})


def raw(*parts: bytes, pause_s: float = 0.0, finish: bool = True) -> Behaviour:
    """Exactly these bytes, status line and all; then the connection is closed, or held for ever."""

    async def behaviour(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)
            await asyncio.sleep(pause_s)
        if not finish:
            await asyncio.sleep(3600)
        exchange.writer.close()

    return behaviour


def hang() -> Behaviour:
    """Never a word."""
    return raw(finish=False)


def close() -> Behaviour:
    """The connection ends without a word."""
    return raw()


def reset() -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        exchange.reset()

    return behaviour


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    """The same, later."""

    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await behaviour(exchange)

    return late


def repeat(first: bytes, part: bytes, pause_s: float = 0.0) -> Behaviour:
    """``first``, then ``part`` again and again until the caller leaves."""

    async def behaviour(exchange: Exchange) -> None:
        await exchange.send(first)
        while True:
            await exchange.send(part)
            await asyncio.sleep(pause_s)

    return behaviour


def drip_body(code: int = 200, pause_s: float = 0.2) -> Behaviour:
    """A byte of the body every ``pause_s``, for ever."""
    return repeat(head(code, {"Content-Length": str(2**40)}) + b"\r\n", b".", pause_s)


def drip_head(pause_s: float = 0.2) -> Behaviour:
    """A byte of a header every ``pause_s``, for ever."""
    return repeat(head() + b"X-Slow: ", b".", pause_s)


def flood(code: int = 200) -> Behaviour:
    """An endless body as fast as the caller takes it."""
    return repeat(head(code, {"Content-Length": str(2**40)}) + b"\r\n", b"flood..." * 8192)


def at_random(
    seed: int, *, failing: float = 0.3, failures: tuple[Behaviour, ...] | None = None
) -> Callable[[Call], Behaviour]:
    """For ``receiver.answer``: a share of the calls fails (by default 500, 503 or a lost connection), the rest get 200.

    The dice are thrown in the order of arrival, so a seed repeats what a single caller meets.
    """
    dice = random.Random(seed)
    choices = failures or (status(500, b"no luck"), status(503, b"busy"), close())
    fine = status()

    def answer(call: Call) -> Behaviour:
        return dice.choice(choices) if dice.random() < failing else fine

    return answer


_FINE = status()


class Receiver:
    """``calls`` holds what came, ``open`` how many connections there are now, ``accepted`` all there ever were.

    ``answer`` runs in the receiver's thread. ``restart`` after ``stop`` listens on the same port again.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, path: str = "/hook", tls: ssl.SSLContext | None = None
    ) -> None:
        self.calls: list[Call] = []
        self.open = 0
        self.accepted = 0
        self.answer: Callable[[Call], Behaviour] = lambda call: _FINE
        self.host = host
        self.port = port
        self.path = path
        self._tls = tls
        self._scripted: deque[Behaviour] = deque()
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{self.path}"

    def script(self, *behaviours: Behaviour) -> None:
        """What the next calls get, one each, before ``answer`` is asked again."""
        self._scripted.extend(behaviours)

    def wait_for(self, number: int, *, seconds: float = 10.0) -> list[Call]:
        """The calls, once there are that many; TimeoutError if they don't come."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.calls) >= number, seconds):
                raise TimeoutError(f"{len(self.calls)} calls came within {seconds} s, not {number}")
            return list(self.calls)

    def forget(self) -> None:
        """Start counting calls anew."""
        with self._arrived:
            self.calls.clear()

    def start(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self.port), family=family, backlog=4096)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit it
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="fake-receiver", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fake receiver did not start")
        return self

    def stop(self) -> None:
        """Close the port and every connection. From now on the address refuses connections."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    restart = start

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(self._protocol, sock=listener, ssl=self._tls, backlog=4096)
        )
        ready.set()
        self._loop.run_forever()
        server.close()
        for task, writer in self._serving.items():
            task.cancel()
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.gather(*self._serving, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(_Reader(limit=4 * 1024 * 1024, loop=self._loop), self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        self.open += 1
        self.accepted += 1
        try:
            while (call := await _receive(reader)) is not None and not writer.is_closing():
                reader.when_left = task.cancel
                await self._behave(Exchange(call, writer))
                reader.when_left = None
                if reader.at_eof():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller left, or the receiver is being stopped
        finally:
            self.open -= 1
            del self._serving[task]
            writer.close()

    async def _behave(self, exchange: Exchange) -> None:
        behaviour = self._scripted.popleft() if self._scripted else self.answer(exchange.call)
        with self._arrived:
            self.calls.append(exchange.call)
            self._arrived.notify_all()
        await behaviour(exchange)


class _Reader(asyncio.StreamReader):
    """Tells at once when the caller has left, without a task for each call that hangs."""

    when_left: Callable[[], object] | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        if self.when_left is not None:
            self.when_left()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        if self.when_left is not None:
            self.when_left()


async def _receive(reader: asyncio.StreamReader) -> Call | None:
    try:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Call(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
