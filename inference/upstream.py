"""The upstream client: pools of keep-alive connections, one request at a time on each. The seam to every provider.

Written for one thing, posting JSON and reading the answer as it comes, because a general client costs half of the data
plane's throughput (docs/architecture.md). No redirects, no cookies, no proxies, no compression, nothing from the
environment.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import Self
from urllib.parse import urlsplit

import certifi

from inference.connection import (
    READ_BYTES,
    Connection,
    Deadlines,
    Response,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
)

__all__ = [
    "Deadlines",
    "Origin",
    "Response",
    "UpstreamClient",
    "UpstreamConnectError",
    "UpstreamDisconnected",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeout",
    "UpstreamTooLarge",
    "header_lines",
]

SWEEP_S = 0.25
STALE_S = 1.0

_VISIBLE = re.compile(r"[!-~]*\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+\Z")
_HEADER_VALUE = re.compile(r"[ -~]*\Z")


def header_lines(headers: dict[str, str]) -> bytes:
    """Headers as ``UpstreamClient.post`` takes them. A ValueError for one that can't be sent doesn't hold its value."""
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError(f"The header {name!r} holds characters that headers can't.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


@cache
def _verifying_context() -> ssl.SSLContext:
    """Certificates are checked against the system's authorities and certifi's (slim images have none of their own)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Origin:
    """Where a base URL points to, taken apart once."""

    __slots__ = ("_heads", "address", "host", "host_header", "key", "port", "prefix", "scheme", "ssl_context")

    def __init__(self, *, scheme: str, host: str, port: int, prefix: str, ssl_context: ssl.SSLContext | None) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.prefix = prefix
        self.ssl_context = ssl_context
        self.key = (host, port, ssl_context)  # connections are shared by all origins with this key
        self.address = _is_address(host)
        bracketed = f"[{host}]" if ":" in host else host
        default = 443 if scheme == "https" else 80
        self.host_header = (bracketed if port == default else f"{bracketed}:{port}").encode()
        self._heads: dict[str, bytes] = {}

    @classmethod
    def parse(cls, base_url: str, *, ssl_context: ssl.SSLContext | None = None) -> Self:
        """Raises ValueError, whose message doesn't repeat the URL: it can hold credentials."""
        try:
            parts = urlsplit(base_url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = (parts.hostname or "").encode("idna").decode()
        except ValueError:
            raise ValueError("The base URL's host or port is not valid.") from None
        if parts.scheme not in {"http", "https"} or not host:
            raise ValueError("The base URL must start with http:// or https:// and a host.")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("The base URL must have no credentials, query or fragment.")
        if not _VISIBLE.match(parts.path) or not _VISIBLE.match(host):
            raise ValueError("The base URL holds characters that a URL can't.")
        context = (ssl_context or _verifying_context()) if parts.scheme == "https" else None
        return cls(scheme=parts.scheme, host=host, port=port, prefix=parts.path.rstrip("/"), ssl_context=context)

    def head(self, path: str) -> bytes:
        """A POST's first lines, kept by path: there are a handful of paths, all ours."""
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self.first_lines("POST", path) + b"Content-Type: application/json\r\n"
        return head

    def first_lines(self, method: str, path: str) -> bytes:
        if not _VISIBLE.match(path):
            raise ValueError("The path holds characters that a request can't.")
        return (
            b"%b %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: HelixFlow\r\n"
            b"Accept: application/json, text/event-stream\r\nAccept-Encoding: identity\r\n"
        ) % (method.encode(), (self.prefix + path).encode(), self.host_header)


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str]:
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


class UpstreamClient:
    """Connections to every upstream, for one event loop.

    Deadlines cost no timer of their own: while any connection is open, one sweep every 250 ms ends those whose time has
    come. So they fire up to that much late, never early.
    """

    def __init__(self, *, max_idle_per_origin: int = 64, max_idle_s: float = 30.0) -> None:
        self._max_idle = max_idle_per_origin
        self._max_idle_s = max_idle_s
        self._idle: dict[object, list[Connection]] = {}
        self._keys: dict[Connection, object] = {}  # every open connection, with its origin's key
        self._resolving: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._view = memoryview(bytearray(READ_BYTES))
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self,
        origin: Origin,
        path: str,
        headers: bytes,
        body: bytes,
        deadlines: Deadlines,
        *,
        on_repeat: Callable[[], None] | None = None,
    ) -> Response:
        """Send ``POST {prefix}{path}`` and return once the head of the answer is there, whatever its status.

        ``headers`` are whole lines, made once by ``header_lines``.

        An idle connection can be closed by the upstream in the moment we write to it. So a request on a *reused*
        connection that ends within a second, before any byte of an answer, is sent once more on a fresh one. The
        upstream may in theory have begun on the first: a completion changes nothing there, at worst it is computed
        twice. One that worked for longer before it broke off is not such a race and not repeated. ``on_repeat`` is told
        before it is sent again.
        """
        request = b"".join((origin.head(path), headers, b"Content-Length: %d\r\n\r\n" % len(body), body))
        return await self._send(origin, request, deadlines, on_repeat)

    async def get(self, origin: Origin, path: str, headers: bytes, deadlines: Deadlines) -> Response:
        """As ``post``, without a body."""
        request = b"".join((origin.first_lines("GET", path), headers, b"\r\n"))
        return await self._send(origin, request, deadlines, None)

    async def _send(
        self, origin: Origin, request: bytes, deadlines: Deadlines, on_repeat: Callable[[], None] | None
    ) -> Response:
        if self._closed:
            raise RuntimeError("this client is closed")
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        connection = self._reuse(origin)
        if connection is not None:
            try:
                return await connection.exchange(request, deadlines, started_at)
            except UpstreamDisconnected as error:
                if error.started or loop.time() - started_at > STALE_S:
                    raise
                if on_repeat is not None:
                    on_repeat()
        connection = await self._connect(loop, origin, deadlines.connect_s)
        return await connection.exchange(request, deadlines, started_at)

    async def close(self) -> None:
        """Cut every connection, exchanges under way included."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._keys):
            connection.fail(UpstreamDisconnected("the client was closed", started=True))
        await asyncio.sleep(0)  # for the transports to let go

    def _reuse(self, origin: Origin) -> Connection | None:
        """The most recently used one: the rest can age out."""
        idle = self._idle.get(origin.key)
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, origin: Origin, connect_s: float) -> Connection:
        """Try the host's addresses in order, each for its share of the time: a dead one can't eat it all."""
        give_up_at = loop.time() + connect_s
        try:
            async with asyncio.timeout_at(give_up_at):
                addresses = await self._resolve(loop, origin)
                for number, address in enumerate(addresses):
                    share = (give_up_at - loop.time()) / (len(addresses) - number)
                    try:
                        async with asyncio.timeout(share):
                            return await self._dial(loop, origin, address)
                    except OSError:  # timeouts and TLS failures are OSErrors too
                        if number == len(addresses) - 1:
                            raise
        except OSError as error:
            raise UpstreamConnectError(f"{type(error).__name__}: {error}") from error
        raise UpstreamConnectError("the host has no address")

    async def _resolve(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> list[str]:
        """A literal address needs no thread, so a hanging name server can't hold it up.

        Each name is asked for once at a time, whoever waits or gives up: the loop has few threads for it, and those of
        one name that hangs must not take them from all others.
        """
        if origin.address:
            return [origin.host]
        name = (origin.host, origin.port)
        resolving = self._resolving.get(name)
        if resolving is None:
            resolving = self._resolving[name] = asyncio.ensure_future(_addresses(loop, *name))
            resolving.add_done_callback(lambda done: self._resolved(name, done))
        return await asyncio.shield(resolving)

    def _resolved(self, name: tuple[str, int], done: "asyncio.Future[list[str]]") -> None:
        del self._resolving[name]
        if not done.cancelled():
            done.exception()  # whoever waited has it; nobody may have

    async def _dial(self, loop: asyncio.AbstractEventLoop, origin: Origin, address: str) -> Connection:
        connection = Connection(loop, self._view, on_idle=self._keep, on_lost=self._forget)
        context = origin.ssl_context
        name = origin.host if context else None
        try:
            await loop.create_connection(lambda: connection, address, origin.port, ssl=context, server_hostname=name)
        except BaseException:
            connection.abort()
            raise
        if self._closed or not connection.usable():  # it can be lost again before we get here
            connection.abort()
            raise ConnectionResetError("closed as soon as it was made")
        self._keys[connection] = origin.key
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)
        return connection

    def _keep(self, connection: Connection) -> None:
        idle = self._idle.setdefault(self._keys[connection], [])
        if self._closed or len(idle) >= self._max_idle:
            connection.abort()
            return
        connection.expires_at = asyncio.get_running_loop().time() + self._max_idle_s
        idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        key = self._keys.pop(connection, None)
        idle = self._idle.get(key, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(key, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in [connection for connection in self._keys if connection.expires_at <= now]:
            connection.expire(now)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop) if self._keys else None
