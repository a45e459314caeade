"""The caller's side of an exchange: reads the body, writes the answer, and notices when the caller goes away."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

import msgspec

from helixflow.lib import errors, ids
from inference.keeping.kept import KeptAnswer, Recording

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY: Final = 10 * 1024 * 1024
BODY_S: Final = 300.0  # for all of it: who drips one must not outlive the request's note, and with it its unit
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
STREAM_HEADERS: Final = [
    (b"content-type", EVENT_STREAM.encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Departure(Protocol):
    """Our own server's quicker word that a client has left (``helixflow.server.cycle``)."""

    def watch(self, callback: Callable[[], None]) -> None: ...

    def forget(self) -> None: ...


class Responder:
    """``recording`` takes the answer down if it is to be kept; ``finishes_alone``: the answer is wanted even if its
    caller goes away."""

    __slots__ = (
        *("began", "finished", "finishes_alone", "gone", "headers", "public_id", "receive", "recording", "request_id"),
        *("departure", "scope", "send", "started", "task", "watcher"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.began = time.monotonic()
        self.request_id = ids.uuid7()
        self.public_id = ids.public_id(ids.REQUEST, self.request_id)
        self.headers: Headers = [(b"x-request-id", self.public_id.encode())]
        self.started = False  # the head of the answer has been sent
        self.finished = False  # so has its end
        self.gone = False  # the caller went away, and the exchange with it
        self.finishes_alone = False
        self.recording: Recording | None = None
        self.task: asyncio.Task[Any] | None = None
        self.departure: Departure | None = scope.get("departure")
        self.watcher: asyncio.Task[None] | None = None

    async def read_body(self, content_length: bytes) -> bytes:
        """Raises InvalidRequest, BodyTooLarge, and CancelledError where the caller has left."""
        if content_length.isdigit() and int(content_length[:20]) > MAX_BODY:
            raise errors.BodyTooLarge(f"The body may have at most {MAX_BODY} bytes.")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise asyncio.CancelledError
            part = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY:
                raise errors.BodyTooLarge(f"The body may have at most {MAX_BODY} bytes.")
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if time.monotonic() - self.began > BODY_S:
                raise errors.InvalidRequest(f"The body did not arrive within {BODY_S:.0f} seconds.")

    def watch(self) -> None:
        """From now on, once the body has been read."""
        if self.task is not None:
            return
        self.task = asyncio.current_task()
        if self.departure is not None:
            self.departure.watch(self._left)
        else:
            self.watcher = asyncio.create_task(self._watch())

    def let_go(self) -> None:
        """They refer to this exchange: it must not be left to the garbage collector."""
        if self.departure is not None:
            self.departure.forget()
        elif self.watcher is not None:
            self.watcher.cancel()
        self.task = self.watcher = None

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        """A caller who goes away cancels the exchange, and with it the upstream's work."""
        if not (self.finished or self.finishes_alone) and self.task is not None:
            self.gone = True
            self.task.cancel()

    async def send_whole(self, status: int, body: bytes, content_type: str = JSON) -> None:
        self.started = self.finished = True
        if self.recording is not None:
            self.recording.add(body)
        headers = [
            *self.headers,
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def begin_stream(self) -> None:
        self.started = True
        await self.send({"type": "http.response.start", "status": 200, "headers": self.headers + STREAM_HEADERS})

    async def send_frames(self, frames: bytes, *, more: bool) -> None:
        self.finished = not more
        if self.recording is not None:
            self.recording.add(frames)
        await self.send({"type": "http.response.body", "body": frames, "more_body": more})

    async def send_again(self, kept: KeptAnswer) -> None:
        self.headers.append((b"x-helixflow-upstream", kept.upstream.encode()))
        if kept.fallback_model:
            self.headers.append((b"x-helixflow-fallback-model", kept.fallback_model.encode()))
        if kept.streamed:
            await self.begin_stream()
            await self.send_frames(kept.body, more=False)
        else:
            await self.send_whole(200, kept.body, kept.content_type)

    async def send_error(self, error: errors.HelixError) -> None:
        """In the stream, if one has begun."""
        body = msgspec.json.encode(error.body(self.public_id))
        if self.started:
            await self.send_frames(b"data: %b\n\n" % body, more=False)
            return
        self.headers += [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
        await self.send_whole(error.status, body)

    def elapsed_ms(self) -> float:
        return round((time.monotonic() - self.began) * 1000, 3)
