"""An upstream that writes its chunks one by one, as models do: `python bench/paced.py PORT`."""

import asyncio
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench import nginx

EVERY_S = 0.01
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    sending: dict[asyncio.Transport, int] = {}  # noqa: RUF012  # all connections' own: how many frames each has had

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST "):  # its body may come by itself
            self.transport.write(HEAD)
            self.sending[self.transport] = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self.sending.pop(self.transport, None)


def frames() -> list[bytes]:
    """In chunks of HTTP's, the last with its end."""
    whole = [frame.encode() + b"\n\n" for frame in nginx.stream().split("\n\n") if frame]
    chunks = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in whole]
    return [*chunks[:-1], chunks[-1] + b"0\r\n\r\n"]


async def serve(port: int) -> None:
    loop, sending, written = asyncio.get_running_loop(), Upstream.sending, frames()
    await loop.create_server(Upstream, "127.0.0.1", port)
    due = loop.time()
    while True:
        due += EVERY_S
        await asyncio.sleep(due - loop.time())
        for transport, number in list(sending.items()):
            transport.write(written[number])
            if number + 1 == len(written):
                del sending[transport]
            else:
                sending[transport] = number + 1


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
