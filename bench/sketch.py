"""A relay that only relays: what uvicorn, uvloop and httptools cost before anything of HelixFlow's is added.

No keys, no limits, no ledger, no deadlines, one upstream, and its bytes go out as they came. `make bench` runs it as
`python -m bench.sketch PORT UPSTREAM_PORT` on the core that HelixFlow has in its turn.
"""

import asyncio
import sys
from typing import Any

import httptools
import uvicorn


class Upstream(asyncio.Protocol):
    """A kept connection; one exchange at a time."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def post(self, path: bytes, body: bytes) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.ended = False
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        head = b"POST %b HTTP/1.1\r\nHost: upstream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % (path, len(body)) + body)

    async def read(self) -> bytes:
        """What has come since the last call, or the next that comes."""
        if not self.parts and not self.ended:
            await self.arrived
            self.arrived = asyncio.get_running_loop().create_future()
        parts, self.parts = self.parts, []
        return b"".join(parts)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if not self.arrived.done():
            self.arrived.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in {b"content-type", b"content-length"}:
            self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        self.ended = True


class Relay:
    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.idle: list[Upstream] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        upstream = self.idle.pop() if self.idle else await self.connect()
        upstream.post(scope["raw_path"], body)
        part = await upstream.read()
        await send({"type": "http.response.start", "status": 200, "headers": upstream.headers})
        while not upstream.ended:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = await upstream.read()
        await send({"type": "http.response.body", "body": part})
        self.idle.append(upstream)

    async def connect(self) -> Upstream:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(Upstream, "127.0.0.1", self.upstream_port)
        return upstream


if __name__ == "__main__":
    port, upstream_port = map(int, sys.argv[1:])
    relay = Relay(upstream_port)
    uvicorn.run(relay, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error")
