"""A webhook receiver that answers 200 at once, in a process of its own: `python bench/receiver.py PORT`.

`GET /log` tells when which body came since the last time it was asked: `[[monotonic seconds, body], …]`. That clock is
the machine's, the same in every process (Linux). `GET /count` tells how many, and when the first and the last came.
"""

import asyncio
import json
import sys
import time
from typing import Final

import uvloop

FINE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Receiver(asyncio.Protocol):
    came: list[tuple[float, bytes]] = []  # noqa: RUF012  # of all connections

    def __init__(self) -> None:
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is one, unsaid

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, separator, rest = self._read.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET "):
            self._tell(head.split(b" ", 2)[1])
            self._read = rest
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) >= length:
            self.came.append((time.monotonic(), rest[:length]))
            self._transport.write(FINE)
            self._read = rest[length:]

    def _tell(self, path: bytes) -> None:
        if path == b"/count":
            first, last = (self.came[0][0], self.came[-1][0]) if self.came else (0.0, 0.0)
            told = json.dumps([len(self.came), first, last])
        else:
            told = json.dumps([[at, body.decode()] for at, body in self.came])
            self.came.clear()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told.encode()))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
