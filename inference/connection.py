"""One HTTP/1.1 connection to an upstream, on ``asyncio.BufferedProtocol`` and httptools, and the answer it carries.

A connection carries one exchange at a time and belongs to the pool in ``inference.upstream``. It leaves the exchange
as soon as the last byte of the answer is here, so what a caller has not read yet never holds a connection.

    UpstreamError
    ├── UpstreamConnectError    refused, DNS, TLS, connect timeout: nothing was sent
    ├── UpstreamTimeout         .phase: first_byte, gap or total
    ├── UpstreamDisconnected    the peer closed before a complete answer; .started: had any of it come?
    ├── UpstreamProtocolError   not HTTP, bad chunking, too large a head, a compressed answer
    └── UpstreamTooLarge        a body past the reader's limit

Their messages are for the log: they can hold an upstream's address.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, cast

import httptools

MAX_HEAD_BYTES = 16 * 1024
HIGH_WATER_BYTES = 64 * 1024  # unread: past this the upstream is not read from
READ_BYTES = 64 * 1024

Phase = Literal["first_byte", "gap", "total"]


class UpstreamError(Exception):
    pass


class UpstreamConnectError(UpstreamError):
    pass


class UpstreamTimeout(UpstreamError):
    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        super().__init__(f"the upstream's {phase} deadline passed")


class UpstreamDisconnected(UpstreamError):
    def __init__(self, message: str, *, started: bool) -> None:
        self.started = started
        super().__init__(message)


class UpstreamProtocolError(UpstreamError):
    pass


class UpstreamTooLarge(UpstreamError):
    pass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """``first_byte_s`` runs until the first byte of the body, not of the head: a head alone is no progress. Of a stream
    it runs until the first token (``Response.expect_token``): signs of life are none either."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    gap_s: float = 60.0
    total_s: float = 600.0

    def within(self, seconds: float) -> Self:
        """None of them longer than ``seconds``. Raises UpstreamTimeout if that is nothing."""
        if seconds <= 0:
            raise UpstreamTimeout("total")
        return type(self)(
            min(self.connect_s, seconds),
            min(self.first_byte_s, seconds),
            min(self.gap_s, seconds),
            min(self.total_s, seconds),
        )


class Response:
    """An answer whose head is here. Read the body with ``read`` or ``chunks``, by one task, then ``close`` it.

    ``framed`` is false for an answer that ends with its connection: its clean end proves less.
    """

    __slots__ = ("_buffer", "_buffered", "_connection", "_error", "_headers", "_loop", "_waiter", "framed", "status")

    def __init__(self, connection: "Connection", loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.framed = True
        self._headers: dict[bytes, bytes] = {}
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._connection: Connection | None = connection  # None once nothing more can come
        self._error: UpstreamError | None = None
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """By lower-case name; repeated headers are joined by a comma."""
        return self._headers.get(name)

    async def read(self, limit: int) -> bytes:
        """The whole body. Past ``limit`` bytes the upstream is cut off and UpstreamTooLarge raised."""
        length = self._headers.get(b"content-length")
        parts: list[bytes] = []
        size = 0
        while length is None or int(length) <= limit:
            part = await self.chunks()
            if not part:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            size += len(part)
            if size > limit:
                break
            parts.append(part)
        self.close()
        raise UpstreamTooLarge(f"the answer has more than {limit} bytes")

    async def chunks(self, at_most: int | None = None) -> bytes:
        """The body bytes that have come since the last call, or the next ones; ``b""`` at a clean end.

        What came before a failure is handed out before it is raised. A cancelled call ends the exchange.
        """
        while not self._buffer:
            if self._error is not None:
                raise self._error
            if self._connection is None:
                return b""
            await self._wait()
        buffer, self._buffer, self._buffered = self._buffer, [], 0
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        if at_most is not None and len(data) > at_most:
            self._buffer, data = [data[at_most:]], data[:at_most]
            self._buffered = len(self._buffer[0])
        if self._connection is not None and not self.overfull():
            self._connection.resume()
        return data

    @property
    def complete(self) -> bool:
        """Whether the last byte of the answer is here."""
        return self._connection is None

    def expect_token(self) -> None:
        """Whatever comes is no progress until ``token_came``."""
        if self._connection is not None:
            self._connection.wait_for_token(True)

    def token_came(self) -> None:
        if self._connection is not None:
            self._connection.wait_for_token(False)

    def close(self) -> None:
        """Done with it. An answer still under way is cut off at once, which is how a departed caller stops the work."""
        if self._connection is not None:
            self._connection.fail(UpstreamDisconnected("closed on our side", started=True))

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    # What follows is called by the connection.

    def take_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def forget_headers(self) -> None:
        self._headers.clear()

    def take_body(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)

    def overfull(self) -> bool:
        return self._buffered > HIGH_WATER_BYTES

    def end(self, error: UpstreamError | None) -> None:
        self._connection = None
        self._error = error
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.BufferedProtocol):
    """``expires_at`` is when the pool's sweep shall call ``expire``, on the loop's clock, busy or idle.

    ``view`` is what the loop reads into. All connections of a pool share one, since selector loops and uvloop hand
    what they read over in the same step (Windows' proactor loop does not).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        view: memoryview,
        *,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self.expires_at = float("inf")
        self._loop = loop
        self._view = view
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._paused = False

    # Called by the pool.

    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, deadlines: Deadlines, started_at: float) -> Response:
        """Send one request and wait for its answer's head. ``started_at`` is where the total deadline counts from."""
        assert self._transport is not None and self._response is None  # noqa: PT018, S101  # the pool's promise
        self._response = response = Response(self, self._loop)
        self._gap_s = deadlines.gap_s
        self._total_at = started_at + deadlines.total_s
        self.expires_at = self._first_at = min(self._loop.time() + deadlines.first_byte_s, self._total_at)
        self._awaits_token = False
        self._started = self._head_done = self._complete = self._interim = self._reusable = False
        self._head_bytes = self._idle_bytes = self._body_reads = 0
        self._refusal: str | None = None
        self._transport.write(request)
        await response.head()
        return response

    def expire(self, now: float) -> None:
        if self._response is None:
            self.abort()
        elif now >= self._total_at:
            self.fail(UpstreamTimeout("total"))
        else:
            self.fail(UpstreamTimeout("gap" if self._body_reads and not self._awaits_token else "first_byte"))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # Called by the response.

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            self._extend()

    def wait_for_token(self, awaits: bool) -> None:
        if awaits != self._awaits_token:
            self._awaits_token = awaits
            if self._body_reads and not self._paused:
                self._extend()

    def fail(self, error: UpstreamError) -> None:
        """End the exchange, and the connection with it."""
        self.abort()
        self._detach(error)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        limit = getattr(transport, "set_read_buffer_limits", None)
        if limit is not None:  # TLS transports read ahead, up to 256 KiB unless told otherwise
            limit(high=HIGH_WATER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)
        if self._response is not None:
            reason = f"the upstream closed the connection ({type(exc).__name__ if exc else 'EOF'})"
            self._detach(UpstreamDisconnected(reason, started=self._started))
        del self._parser  # they refer to each other

    def eof_received(self) -> None:
        """An answer with neither length nor chunks ends here; any other is broken off, as connection_lost tells."""
        if self._response is not None and self._head_done and not self._response.framed:
            self._detach(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        response = self._response
        if response is None:  # idle: nobody asked for anything
            self.abort()
            return
        self._started = True
        before = self._body_reads
        try:
            self._parser.feed_data(self._view[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self.fail(UpstreamProtocolError(self._refusal or f"not HTTP as we know it: {error}"))
                return
            self._reusable = False  # bytes past the end of the answer: whose would they be?
        if self._complete:
            self._finish()
            return
        if self._body_reads != before:
            self._idle_bytes = 0
            self._extend()
        else:
            self._idle_bytes += nbytes
            if self._idle_bytes > MAX_HEAD_BYTES:  # a head, chunk extension or trailer without end
                self.fail(UpstreamProtocolError("too many bytes that are no body"))
                return
        if response.overfull() and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            self.expires_at = self._total_at  # it's our reader who is slow
        if self._head_done:
            response.wake()

    # Called by the parser, within buffer_updated.

    def on_message_begin(self) -> None:
        if self._complete:
            self._refuse("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("the head is too large")
        if not self._head_done and self._response is not None:  # trailers are of no use to us
            self._response.take_header(name, value)

    def on_headers_complete(self) -> None:
        response = self._response
        assert response is not None  # noqa: S101  # buffer_updated has looked
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            response.forget_headers()
            return
        coding = response.header(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            self._refuse("an unknown transfer coding")
        if (response.header(b"content-encoding") or b"identity").strip().lower() not in {b"identity", b""}:
            self._refuse("a compressed answer, although we asked for none")
        response.framed = coding is not None or response.header(b"content-length") is not None or status in {204, 304}
        response.status = status
        self._reusable = self._parser.should_keep_alive()
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._body_reads += 1
        if self._response is not None:
            self._response.take_body(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self._complete = True

    def _refuse(self, reason: str) -> None:
        """Stop the parser, which wraps what is raised here."""
        self._refusal = reason
        raise ValueError(reason)

    def _extend(self) -> None:
        """The upstream has shown progress, or may again."""
        self.expires_at = self._first_at if self._awaits_token else min(self._loop.time() + self._gap_s, self._total_at)

    def _finish(self) -> None:
        """The answer is complete: on to the next one, unless the two sides could disagree on where they are."""
        transport = self._transport
        self.resume()
        if self._reusable and transport is not None and transport.get_write_buffer_size() == 0 and self.usable():
            self._detach(None)
            self._on_idle(self)
        else:
            self.abort()
            self._detach(None)

    def _detach(self, error: UpstreamError | None) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.end(error)
