"""One request and its response, as uvicorn runs it, with every failure answered in the contract's shape."""

import asyncio
import json
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from helixflow.lib import errors, ids

logger = logging.getLogger(__name__)


class Cycle(RequestResponseCycle):
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
