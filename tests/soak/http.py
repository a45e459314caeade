"""A client that can leave at any moment, and remembers everything that came."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httptools


@dataclass
class Answer:
    """What came back. ``status`` 0: nothing before the client left or the connection ended."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False
    left: bool = False  # by the client's own decision

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def repeated(self) -> bool:
        """It is what came of an earlier request, and cost nothing."""
        return "idempotent-replayed" in self.headers

    def payloads(self) -> list[str]:
        """The data of a stream's whole frames."""
        return [frame.removeprefix("data: ") for frame in self.body.decode().split("\n\n")[:-1]]


class _Parser:
    """httptools' callbacks, onto an Answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.answer.body += data

    def on_message_complete(self) -> None:
        self.answer.complete = True


class Client:
    """One keep-alive connection, opened again whenever it is gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, headers: dict[str, str], *, leave_after_s: float) -> Answer:
        """The answer, or as much of it as came within ``leave_after_s``; then the connection is reset."""
        answer = Answer()
        try:
            async with asyncio.timeout(leave_after_s):
                await self._exchange(answer, path, body, headers)
        except TimeoutError:
            answer.left = True
        except OSError:
            pass  # the server closed: the answer says how far it came
        if answer.left or not answer.complete or answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None

    async def _exchange(self, answer: Answer, path: str, body: bytes, headers: dict[str, str]) -> None:
        if self._connection is None or self._connection[0].at_eof():
            self._connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._connection
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        parser = _Parser(answer)
        while not answer.complete and (data := await reader.read(65536)):
            parser.feed(data)
