"""uvicorn's HTTP/1.1 protocol with the limits it lacks: sizes, deadlines, and answers in the contract's error shape.

uvicorn keeps one parser per connection and one cycle per request; this adds where the connection stands
(`Receiving`), since when, and `sweep`, which the server calls twice a second on every connection. No timer and no
task per request: a request costs a few assignments here. Deadlines and their reasons: docs/server.md.
"""

import asyncio
import socket
import struct
import sys
import urllib.parse
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from websockets.http11 import MAX_LINE_LENGTH

from helixflow.lib import errors
from helixflow.server.cycle import Allowance, Cycle, Http10Cycle, render

RESET = struct.pack("ii", 1, 0)  # linger for no time at all
LINE_BYTES = MAX_LINE_LENGTH - 64  # of a WebSocket's handshake: `websockets` does not answer longer ones
LENGTH_DIGITS = 20  # of a Content-Length, as many as 64 bits have: Python refuses to read thousands of zeros


@dataclass(frozen=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    header_s: float = 10  # from a request's first byte to the end of its headers; from connecting to the first byte
    body_s: float = 10  # a window in which at least `body_least` bytes of a body must come
    body_least: int = 2_560
    idle_s: float = 75  # between requests: longer than the 60 s of common balancers, so that they hang up first
    write_s: float = 60  # blocked on a reader
    linger_s: float = 2  # for the peer to read our refusal before we hang up
    header_bytes: int = 16 * 1024  # the request line included
    header_count: int = 100
    body_bytes: int = 10 * 1024 * 1024
    framing_bytes: int = 64 * 1024  # of a chunked body beyond eight bytes a byte: extensions, trailers
    pipeline: int = 32  # requests that wait behind the one being answered
    write_buffer: int = 64 * 1024  # per connection, before the application is made to wait

    @property
    def sweep_s(self) -> float:
        return min(self.header_s, self.body_s, self.idle_s, self.write_s) / 20


class HeadersTooLarge(errors.InvalidRequest):
    status = 431
    default_message = "The request's headers are too large."


class RequestTimeout(errors.InvalidRequest):
    status = 408
    default_message = "The request did not arrive in time."


def reset(transport: asyncio.Transport) -> None:
    """Hang up with a reset: else the kernel would go on offering the rest to a peer that does not read."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


class Receiving(Enum):
    """What the connection waits for from its peer."""

    NOTHING = 0  # no request has begun, or the last one has arrived whole
    HEADERS = 1
    BODY = 2
    REFUSED = 3  # we have answered for ourselves; whatever comes is thrown away until the peer hangs up


class Protocol(HttpToolsProtocol):
    limits: ClassVar[Limits] = Limits()
    max_connections: ClassVar[int] = sys.maxsize

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.receiving = Receiving.NOTHING
        self.since = self.loop.time()  # when `receiving` began, the last response ended, or the body's window opened
        self.begun = False  # whether the peer has sent anything of a request yet
        self.blocked_since = 0.0  # when writing was paused
        self.closing_since = 0.0  # when a sweep first saw the transport closing
        self.draining = False
        self.arrived = 0  # bytes of the message being received, the ones just fed included
        self.body_arrived = 0
        self.window_start = 0  # `body_arrived` when the window opened
        self.body_since = 0.0  # when the body began
        self.active: RequestResponseCycle | None = None  # the one being answered; `self.cycle` is the newest

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio's says BaseTransport
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self.limits.write_buffer)
        if len(self.connections) > self.max_connections:
            self.refuse(errors.ServiceUnavailable("Too many connections. Try again.", retry_after=5))

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in (self.active, *(waiting for waiting, _ in self.pipeline)):  # uvicorn tells the newest only
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
            if isinstance(cycle, Cycle):
                cycle.departure.happen()
        self.pipeline.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Draining: hang up if nothing is under way, else after the requests that have begun."""
        self.draining = True
        if self.answering():
            self.cycle.keep_alive = False
        elif self.receiving is Receiving.NOTHING:
            self.transport.close()

    def answering(self) -> bool:
        return self.active is not None and not self.active.response_complete

    def pause_writing(self) -> None:
        self.blocked_since = self.loop.time()
        super().pause_writing()

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        if self.receiving is Receiving.REFUSED:
            return
        self.arrived += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, errors.HelixError) else errors.InvalidRequest("This is not HTTP."))
        else:
            if self.receiving is Receiving.HEADERS and self.arrived > self.limits.header_bytes:
                self.refuse(HeadersTooLarge())
            elif self.receiving is Receiving.BODY and self.framing() > self.limits.framing_bytes:
                self.refuse(errors.InvalidRequest("The chunks of the body are not sensible."))

    def framing(self) -> int:
        return self.arrived - 8 * self.body_arrived

    def upgraded(self, rest: bytes) -> None:
        """Upgrades other than a WebSocket's handshake are ignored, as RFC 9110 allows.

        The parser takes what follows the headers for another protocol, but Java's client, for one, offers h2c with a
        body behind it: so the same request is parsed again, without its offer.
        """
        names = {name for name, _ in self.headers}
        if self.scope["method"] == "GET" and b"sec-websocket-key" in names and self._should_upgrade():
            self.begin_websocket(names, rest)
            return
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/", self.scope["http_version"].encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self.arrived = 0
        self.data_received(b"".join((*head, b"\r\n", rest)))

    def begin_websocket(self, names: set[bytes], rest: bytes) -> None:
        """Hand the connection over, if nothing else is under way on it: `helixflow.server.websocket`."""
        if self.draining:
            self.refuse(errors.ServiceUnavailable("The server is restarting. Try again."))
        elif self.answering() or self.pipeline or rest or names & {b"content-length", b"transfer-encoding"}:
            self.refuse(errors.InvalidRequest("A WebSocket begins with a request alone on its connection."))
        elif max(len(name) + len(value) for name, value in (*self.headers, (b"", self.url))) > LINE_BYTES:
            self.refuse(HeadersTooLarge("A header is too large for a WebSocket."))
        else:
            self.handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.receiving = Receiving.HEADERS
        self.since = self.loop.time()
        self.begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.receiving is Receiving.HEADERS:  # else it is a trailer, which a recipient may discard
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """uvicorn's own, with our checks, our cycle, and without its options we don't offer."""
        version = self.parser.get_http_version()
        self.check_headers(version)
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        if self.parser.should_upgrade():
            return  # to `upgraded`
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        waiting = self.cycle is not None and not self.cycle.response_complete
        self.cycle = (Cycle if version == "1.1" else Http10Cycle)(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            # A client that expects 100 and gets another answer may send its body or not: hang up to be sure.
            keep_alive=version == "1.1"
            and self.parser.should_keep_alive()
            and not self.expect_100_continue
            and not self.draining,
            on_response=self.on_response_complete,
        )
        self.receiving = Receiving.BODY
        self.since = self.body_since = self.loop.time()
        self.arrived = self.body_arrived = self.window_start = 0
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def check_headers(self, version: str) -> None:
        """Raises the error to answer with."""
        limits = self.limits
        if len(self.headers) > limits.header_count:
            raise HeadersTooLarge("The request has too many headers.")
        if self.arrived > limits.header_bytes:  # the chunk may hold a body too: count what is really there
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.header_bytes:
                raise HeadersTooLarge
        self.check_framing(version)
        if self.parser.get_method() == b"CONNECT":  # the parser hands over what follows, whatever the headers say
            raise errors.InvalidRequest("This is no proxy.")
        if not self.url.startswith(b"/") and b"://" not in self.url:  # OPTIONS *
            raise errors.InvalidRequest("The address must start with a slash.")
        if not self.url.isascii() or b"%00" in self.url:
            raise errors.InvalidRequest("The address holds characters that no address has.")
        if len(self.pipeline) >= limits.pipeline:
            raise errors.InvalidRequest("Too many requests wait on this connection.")

    def check_framing(self, version: str) -> None:
        """Stricter than the parser, which lets `gzip, chunked` through as if it were `chunked`."""
        hosts = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings += 1
                if value.strip().lower() != b"chunked":
                    raise errors.InvalidRequest("The only transfer coding taken here is chunked.")
            elif name == b"content-length" and len(value) > LENGTH_DIGITS:
                raise errors.InvalidRequest("The Content-Length is not sensible.")
        if hosts != 1 and (hosts or version == "1.1"):
            raise errors.InvalidRequest("A request has exactly one Host header.")
        if codings > 1 or (version != "1.1" and (version != "1.0" or codings)):
            raise errors.InvalidRequest("Speak HTTP/1.1.")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.active = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self.body_arrived += len(body)
        if self.body_arrived > self.limits.body_bytes:
            allowance = self.allowance()
            if allowance is None or self.body_arrived > allowance.body_bytes:
                raise errors.BodyTooLarge
        if not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()

    def allowance(self) -> Allowance | None:
        return self.cycle.departure.allowance if isinstance(self.cycle, Cycle) else None

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.receiving = Receiving.NOTHING
        self.since = self.loop.time()
        self.arrived = 0
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # What we answer

    def on_response_complete(self) -> None:
        """uvicorn's own without its timer: `sweep` ends idle connections."""
        self.server_state.total_requests += 1
        if self.receiving is Receiving.NOTHING:
            self.since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def refuse(self, error: errors.HelixError) -> None:
        """Answer for ourselves, read no more, and hang up once the peer had time to read the answer."""
        middle = self.receiving is Receiving.BODY  # of the newest request, which has a cycle
        self.receiving = Receiving.REFUSED
        self.since = self.loop.time()
        if self.answering() and not (middle and self.cycle is self.active):
            # Earlier requests are answered first; then the connection ends without a word about this one.
            if middle:
                self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self.active
            assert last is not None  # noqa: S101  # answering() has said so
            last.keep_alive = False
            return
        if self.answering():
            started = self.cycle.response_started
            self.cycle.disconnected = True  # the application hears that the client is gone
            self.cycle.message_event.set()
            if started:
                self.transport.close()
                return
        elif middle and self.cycle.response_complete:
            self.transport.close()  # this request has its answer already
            return
        self.write_error(error)

    def write_error(self, error: errors.HelixError) -> None:
        headers, body = render(error)
        lines = [STATUS_LINE[error.status]]
        for name, value in (*self.server_state.default_headers, *headers, (b"connection", b"close")):
            lines += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*lines, b"\r\n", body)))
        self.flow.resume_reading()  # unread bytes would turn our close into a reset, which loses the answer
        self.transport.write_eof()

    # Deadlines

    def cut(self) -> None:
        reset(self.transport)

    def sweep(self, now: float) -> str | None:
        """End what has lasted too long; returns what was ended, for the log."""
        limits = self.limits
        if self.flow.write_paused and now - self.blocked_since > limits.write_s:
            self.cut()
            return "slow reader"
        if self.transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > limits.write_s:
                self.cut()
                return "slow reader"
            return None
        waited = now - self.since
        if self.receiving is Receiving.HEADERS:
            if waited > limits.header_s:
                self.refuse(RequestTimeout())
                return "slow headers"
        elif self.receiving is Receiving.BODY:
            return self.sweep_body(now, waited)
        elif self.receiving is Receiving.REFUSED:
            if waited > limits.linger_s and not self.answering():
                self.cut()
        elif not self.answering() and waited > (limits.idle_s if self.begun else limits.header_s):
            self.transport.close()
            return "idle"
        return None

    def sweep_body(self, now: float, waited: float) -> str | None:
        """A body must keep coming, unless it is we who don't read it or have not asked for it."""
        allowance = self.allowance()
        if allowance is not None and now - self.body_since > allowance.within_s:
            self.refuse(RequestTimeout())
            return "slow body"
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self.since, self.window_start = now, self.body_arrived
        elif waited > self.limits.body_s:
            least = self.limits.body_least if allowance is None else allowance.body_least
            if self.body_arrived - self.window_start < least:
                self.refuse(RequestTimeout())
                return "slow body"
            self.since, self.window_start = now, self.body_arrived
        return None
