"""A connection that has become a WebSocket: uvicorn's protocol, swept, ended and kept small like the others.

The request that asks for it is read and bounded by ``helixflow.server.protocol``, which hands the connection over. From
then on uvicorn's pings end peers that have gone, and this those that don't read.
"""

import contextlib
import logging
from asyncio.transports import BaseTransport
from typing import Any, ClassVar, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from helixflow.lib import errors
from helixflow.server.cycle import render
from helixflow.server.protocol import Limits, reset

logger = logging.getLogger(__name__)
logger.setLevel(logging.WARNING)  # uvicorn has a line for each that opens

MESSAGE_BYTES: Final = 256  # from a peer; ours says "ping"
PING_S: Final = 20.0
CLOSE_S: Final = 2.0  # for a peer to answer our goodbye


class WebSocket(WebSocketsSansIOProtocol):
    limits: ClassVar[Limits] = Limits()

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = logger
        self.close_timeout = CLOSE_S
        self.since = self.loop.time()
        self.blocked_since = 0.0
        self.closing_since = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()

    def pause_writing(self) -> None:
        self.blocked_since = self.loop.time()
        super().pause_writing()

    def shutdown(self) -> None:
        """Draining: 1012, upon which browsers come back, to another process. Never raises, or others would stay."""
        if not self.transport.is_closing():
            with contextlib.suppress(InvalidState):  # its peer is just saying goodbye
                super().shutdown()

    def cut(self) -> None:
        reset(self.transport)

    def sweep(self, now: float) -> str | None:
        """End what has lasted too long; returns what was ended, for the log."""
        limits = self.limits
        if not self.writable.is_set() and now - self.blocked_since > limits.write_s:
            self.cut()
            return "slow reader"
        if self.transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > limits.write_s:
                self.cut()
                return "slow reader"
        elif not self.handshake_complete and now - self.since > limits.header_s:
            self.cut()
            return "slow handshake"
        return None


async def refuse(error: errors.HelixError, scope: Any, send: Any) -> None:
    """Instead of a WebSocket. Browsers see no more than that it failed."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    headers, body = render(error)
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
