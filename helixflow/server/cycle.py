"""One request and its response, as uvicorn runs it, with every failure answered in the contract's shape."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from helixflow.lib import errors, ids

logger = logging.getLogger(__name__)

CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != 0x09)
MAX_NAMES = 1_000
_names: set[bytes] = set()


def _learn(name: bytes) -> None:
    """Raises RuntimeError for what is no name of a header. Applications use a few dozen."""
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    if len(_names) < MAX_NAMES:
        _names.add(name)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one request's body may be beyond ``protocol.Limits``."""

    body_bytes: int
    body_least: int  # that must come in each window of ``Limits.body_s``
    within_s: float  # for all of it


class Departure:
    """Tells an application at once that its client has left, in ``scope["departure"]``.

    ASGI's own way is a task that waits in ``receive``; making and cancelling one costs as much as all of routing.

    The other way round an application that knows whose request it is puts an ``allowance`` here, before it receives
    anything: routers copy the scope, so there the server would not see it.
    """

    __slots__ = ("_callback", "_flow", "_happened", "allowance")

    def __init__(self, flow: FlowControl) -> None:
        self._flow = flow
        self._happened = False
        self._callback: Callable[[], None] | None = None
        self.allowance: Allowance | None = None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the client leaves, at once if it has. For when the whole body has been received."""
        self._callback = callback
        self._flow.resume_reading()  # a large body may have stopped it, and then nobody hears a client leave
        if self._happened:
            callback()

    def forget(self) -> None:
        self._callback = None

    def happen(self) -> None:
        self._happened = True
        if self._callback is not None:
            self._callback()


class Cycle(RequestResponseCycle):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.departure = self.scope["departure"] = Departure(self.flow)  # type: ignore[typeddict-unknown-key]  # ours

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        """No coroutine around uvicorn's: a stream sends thousands of messages."""
        if self.response_started or message["type"] != "http.response.start":
            return super().send(message)
        return self._begin(message)

    async def _begin(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            self._send_head(message["status"], message.get("headers", ()))

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """As uvicorn does, but looks for characters that a head can't hold in all of it at once: the data plane's have
        a dozen lines. Raises RuntimeError, and has sent nothing then."""
        length: int | None = None
        chunked, keep_alive = self.chunked_encoding, self.keep_alive
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            lower = name.lower()
            if lower == b"content-length" and chunked is None:
                length, chunked = int(value), False
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                length, chunked = 0, True
            elif lower == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
                keep_alive = False
                continue
            elif lower not in _names:
                _learn(lower)
            lines.append(b"%b: %b\r\n" % (lower, value))
        if not keep_alive:
            lines.append(b"connection: close\r\n")
        if chunked is None and self.scope["method"] != "HEAD" and status not in {204, 304}:
            chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        # Each line ends with CRLF, and no other control character but tabs is there.
        if len(head.translate(None, CONTROLS)) != len(head) - 2 * len(lines):
            raise RuntimeError("Invalid HTTP header value.")
        self.keep_alive, self.chunked_encoding, self.expected_content_length = keep_alive, chunked, length or 0
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(head)

    async def run_asgi(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:  # the time for a graceful shutdown is over
            await self.fail(errors.ServiceUnavailable("The server is restarting. Try again."))
        except Exception:
            logger.exception("the application failed")
            await self.fail(errors.ServerError())
        else:
            if not self.response_complete and not self.disconnected:
                logger.error("the application ended without a complete response")
                await self.fail(errors.ServerError())
        finally:
            self.on_response = lambda: None  # breaks the reference cycle with the protocol

    async def fail(self, error: errors.HelixError) -> None:
        """Answer with ``error``, or hang up if a response has begun: a cut one must not look whole."""
        if self.response_started:
            if not self.response_complete:
                self.transport.close()
            return
        headers, body = render(error)
        self.keep_alive = False
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Http10Cycle(Cycle):
    """HTTP/1.0 knows no chunks: a body without a Content-Length ends with the connection."""

    until_close = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if not any(name.lower() == b"content-length" for name, _ in message.get("headers", ())):
                self.until_close = True
                self.chunked_encoding = False
        elif self.until_close:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def render(error: errors.HelixError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and body of an error that no application answered."""
    request_id = ids.new_id(ids.REQUEST)
    body = json.dumps(error.body(request_id)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers().items()),
    ]
    return headers, body
