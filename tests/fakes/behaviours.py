"""What the fake upstream can do with a request: answer it well, badly, late or never. All by name in BEHAVIOURS."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import answers

LEAKY_KEY = "sk-fake-0123456789abcdefghijklmnop"
LEAKY_ADDRESS = "http://10.1.2.3:8080/v1/internal"


@dataclass
class Received:
    """A request as it came. ``json`` is its body, decoded; ``at`` is monotonic."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Call:
    """One request and the means to answer it, well or badly."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.writer = writer
        self.body: dict[str, Any] = request.json if request.body else {}
        self.stream = self.body.get("stream") is True

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, *headers: str, content_type: str = "application/json") -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {content_type}", *headers]
        await self.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode())

    async def answer(
        self, body: bytes, status: int = 200, *headers: str, content_type: str = "application/json"
    ) -> None:
        await self.head(status, f"Content-Length: {len(body)}", *headers, content_type=content_type)
        await self.send(body)

    async def error(self, status: int, message: str, *headers: str, code: str | None = None) -> None:
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
        await self.answer(json.dumps(body).encode(), status, *headers)

    async def begin_stream(self) -> None:
        await self.head(200, "Transfer-Encoding: chunked", "Cache-Control: no-cache", content_type="text/event-stream")

    async def part(self, data: bytes) -> None:
        """One HTTP chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Close with RST, as a crashed machine's kernel does."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Call], Awaitable[None]]


async def normal(call: Call) -> None:
    """A right answer, as asked for: streamed or not, n choices, tool calls where tools are offered."""
    if not call.stream:
        await call.answer(json.dumps(answers.completion(call.body), ensure_ascii=False).encode())
        return
    await call.begin_stream()
    for frame in answers.frames(call.body):
        await call.part(frame)
    await call.end_stream()


async def not_found(call: Call) -> None:
    await call.error(404, f"Unknown path {call.request.path}")


def status(code: int, message: str = "The fake upstream says no.", *headers: str) -> Behaviour:
    """An OpenAI-shaped error."""

    async def behaviour(call: Call) -> None:
        await call.error(code, message, *headers)

    return behaviour


def raw(*parts: bytes, close: bool = True, pause_s: float = 0.0) -> Behaviour:
    """Exactly these bytes, head and all; then, unless told otherwise, the connection is closed."""

    async def behaviour(call: Call) -> None:
        for part in parts:
            await call.send(part)
            await asyncio.sleep(pause_s)
        if close:
            call.writer.close()

    return behaviour


def body(data: bytes, *, code: int = 200, content_type: str = "application/json") -> Behaviour:
    async def behaviour(call: Call) -> None:
        await call.answer(data, code, content_type=content_type)

    return behaviour


def stream(*parts: bytes, end: bool = True) -> Behaviour:
    """These bytes as an event stream, an HTTP chunk each. Without ``end`` the connection is cut instead (FIN)."""

    async def behaviour(call: Call) -> None:
        await call.begin_stream()
        for part in parts:
            await call.part(part)
        if end:
            await call.end_stream()
        else:
            call.writer.close()

    return behaviour


def reshaped(reshape: Callable[[list[bytes]], list[bytes]], *, pause_s: float = 0.0) -> Behaviour:
    """The right stream with its frames, ``data: …`` and blank line each, cut or changed by ``reshape``."""

    async def behaviour(call: Call) -> None:
        await call.begin_stream()
        for part in reshape(answers.frames(call.body)):
            await call.part(part)
            if pause_s:
                await asyncio.sleep(pause_s)
        await call.end_stream()

    return behaviour


def stall(*, after_frames: int | None) -> Behaviour:
    """Silence: before the head (None), before the first frame (0), or after some."""

    async def behaviour(call: Call) -> None:
        if after_frames is not None:
            await call.begin_stream()
            for frame in answers.frames(call.body)[:after_frames]:
                await call.part(frame)
        await asyncio.sleep(3600)

    return behaviour


def cut(*, after_frames: int | None, reset: bool = False) -> Behaviour:
    """The connection ends before the answer does, by FIN or RST: before the head (None) or after some frames."""

    async def behaviour(call: Call) -> None:
        if after_frames is not None:
            await call.begin_stream()
            for frame in answers.frames(call.body)[:after_frames]:
                await call.part(frame)
        await asyncio.sleep(0.05)  # let what was sent arrive: an RST overtakes it
        call.reset() if reset else call.writer.close()

    return behaviour


def length_lie(difference: int) -> Behaviour:
    """A right answer whose Content-Length claims this many bytes more (or fewer) than come."""

    async def behaviour(call: Call) -> None:
        data = json.dumps(answers.completion(call.body)).encode()
        await call.head(200, f"Content-Length: {len(data) + difference}")
        await call.send(data)
        call.writer.close()

    return behaviour


def endless(part: bytes, *, total_bytes: int = 2 * 1024**3, first: bytes = b"", event_stream: bool = True) -> Behaviour:
    """``first``, then ``part`` again and again, 2 GB of it."""

    async def behaviour(call: Call) -> None:
        await call.head(
            200, "Transfer-Encoding: chunked", content_type="text/event-stream" if event_stream else "application/json"
        )
        if first:
            await call.part(first)
        block = b"%x\r\n%b\r\n" % (len(part), part)
        for _ in range(total_bytes // len(part)):
            await call.send(block)
            await asyncio.sleep(0)  # drain() alone never lets others run while the client keeps up
        await call.end_stream()

    return behaviour


def _bytewise(frames: list[bytes]) -> list[bytes]:
    return [bytes([byte]) for byte in b"".join(frames)]


def _with_comments(frames: list[bytes]) -> list[bytes]:
    return [b": keep-alive\n\n", *(b"event: message\nid: 7\nretry: 10\n" + frame for frame in frames), b":\n\n"]


def _with_garbage(frames: list[bytes]) -> list[bytes]:
    return [*frames[:2], b"data: {not json\n\n", *frames[2:]]


def _with_error(frames: list[bytes]) -> list[bytes]:
    error = {"message": f"CUDA out of memory at {LEAKY_ADDRESS} with {LEAKY_KEY}", "type": "server_error", "code": 500}
    return [*frames[:2], b"data: " + json.dumps({"error": error}).encode() + b"\n\n"]


LEAKY_MESSAGE = f"Invalid value for 'temperature' (from {LEAKY_ADDRESS}, key {LEAKY_KEY})."

BEHAVIOURS: dict[str, Behaviour] = {
    "normal": normal,
    # Streams that mean what the normal one means
    "one-read": reshaped(lambda frames: [b"".join(frames)]),
    "bytewise": reshaped(_bytewise),
    "crlf": reshaped(lambda frames: [frame.replace(b"\n", b"\r\n") for frame in frames]),
    "cr": reshaped(lambda frames: [frame.replace(b"\n", b"\r") for frame in frames]),
    "comments": reshaped(_with_comments),
    "no-space": reshaped(lambda frames: [frame.replace(b"data: ", b"data:") for frame in frames]),
    "drip": reshaped(lambda frames: frames, pause_s=0.1),
    # Streams that don't
    "no-done": reshaped(lambda frames: frames[:-1]),
    "no-last-blank-line": reshaped(lambda frames: [*frames[:-1], b"data: [DONE]"]),
    "garbage-frame": reshaped(_with_garbage),
    "error-frame": reshaped(_with_error),
    "empty-stream": stream(),
    "only-done": stream(b"data: [DONE]\n\n"),
    "endless-line": endless(b"x" * 16384, first=b'data: {"choices":[{"delta":{"content":"'),
    "endless-comment": endless(b": keep-alive\n\n" * 1000),
    "endless-answer": endless(b" " * 16384, event_stream=False),
    # Answers that make no sense
    "not-json": body(b"I am fine, thank you."),
    "not-a-completion": body(b'{"hello": ["world"]}'),
    "truncated-json": body(b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess'),
    "html-200": body(b"<html>It works!</html>", content_type="text/html"),
    "empty": body(b""),
    "not-http": raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "huge-head": raw(
        b"HTTP/1.1 200 OK\r\n" + b"X-Padding: %b\r\n" % (b"x" * 8000) * 4 + b"Content-Length: 2\r\n\r\n{}"
    ),
    "bad-chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
    "compressed": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"),
    "length-short": length_lie(-10),
    "length-long": length_lie(10),
    # Refusals
    "redirect": raw(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
    "status-400": status(400, LEAKY_MESSAGE),
    "status-401": status(401, f"Incorrect API key provided: {LEAKY_KEY}."),
    "status-403": status(403),
    "status-404": status(404, "The model does not exist."),
    "status-429": status(429, "Rate limit reached for the organization org-fake.", "Retry-After: 7"),
    "status-500": status(500),
    "status-503": status(503, "Overloaded", "Retry-After: 3"),
    "html-502": body(b"<html><h1>502 Bad Gateway</h1><p>nginx</p></html>", code=502, content_type="text/html"),
    # Silent ones and those that break off
    "stall-before-head": stall(after_frames=None),
    "stall-before-first": stall(after_frames=0),
    "stall-in-the-middle": stall(after_frames=2),
    "close-before-head": cut(after_frames=None),
    "reset-before-head": cut(after_frames=None, reset=True),
    "cut-before-first": cut(after_frames=0),
    "cut-fin": cut(after_frames=2),
    "cut-reset": cut(after_frames=2, reset=True),
}
