"""The data plane: ``POST /v1/chat/completions`` as plain ASGI. No Django request, no middleware, no SQL when warm.

The path of a request: identify (header → snapshot) → admit (one Redis script) → read and validate the body → route →
relay. Identification comes before the body, so strangers cannot make us buffer, and 401 wins over 400.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db import close_old_connections

from accounts import api_keys, auth
from billing import limits
from helixflow.lib import errors, ids, log
from inference import catalogue, relay, schemas
from inference.upstream import UpstreamClient

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY: Final = 10 * 1024 * 1024
RECORD_USE_EVERY_S: Final = 10.0
JSON: Final = (b"content-type", b"application/json")
EVENT_STREAM: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Gateway:
    """What the requests of one process share. Started by the server's lifespan, or by the first request."""

    def __init__(self) -> None:
        self.client: UpstreamClient | None = None
        self.uses: dict[uuid.UUID, float] = {}  # API key → when it was last used, epoch seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1, "gateway")

    async def startup(self) -> None:
        self.client = UpstreamClient()
        await self._in_thread(catalogue.refresh_in_thread)
        self._tasks = [
            asyncio.create_task(self._every(catalogue.CHECK_EVERY_S, catalogue.refresh_in_thread)),
            asyncio.create_task(self._every(RECORD_USE_EVERY_S, self._record_uses)),
        ]

    async def shutdown(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._in_thread(self._record_uses)
        if self.client is not None:
            await self.client.close()
            self.client = None
        self._thread.shutdown(wait=False)

    async def chat_completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.client is None:
            await self.startup()
        await Exchange(self, scope, receive, send).run()

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _record_uses(self) -> None:
        uses, self.uses = self.uses, {}
        if not uses:
            return
        close_old_connections()
        try:
            api_keys.record_use({key: datetime.fromtimestamp(at, UTC) for key, at in uses.items()})
        except Exception:  # "last used" is told late rather than a request failed; the next use tells it again
            logger.exception("last use of %d API keys was not recorded", len(uses))


class Exchange:
    """One request and its answer."""

    __slots__ = ("finished", "gateway", "gone", "headers", "receive", "request_id", "scope", "send", "started", "task")

    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = gateway
        self.scope = scope
        self.receive = receive
        self.send = send
        self.request_id = ids.new_id(ids.REQUEST)
        self.headers: Headers = [(b"x-request-id", self.request_id.encode())]
        self.started = False  # the head of the answer has been sent
        self.finished = False  # so has its end
        self.gone = False  # the caller went away
        self.task: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        log.request_id.set(self.request_id)
        try:
            await self._answer()
        except errors.HelixError as error:
            await self._fail(error)
        except asyncio.CancelledError:
            if not self.gone:  # the server is going down and has waited long enough
                with suppress(asyncio.CancelledError):
                    await self._fail(errors.ServiceUnavailable("The server is restarting. Try again."))
        except Exception:
            logger.exception("a chat completion failed")
            await self._fail(errors.ServerError())

    async def _answer(self) -> None:
        if self.scope["method"] != "POST":
            raise errors.MethodNotAllowed("Use POST.", allowed=("POST",))
        authorization: list[bytes] = []
        content_type = content_length = b""
        encoded = False
        for name, value in self.scope["headers"]:
            if name == b"authorization":
                authorization.append(value)
            elif name == b"content-type":
                content_type = value
            elif name == b"content-length":
                content_length = value
            elif name == b"content-encoding":
                encoded = value.lower() != b"identity"
            elif name == b"x-request-id":
                log.client_request_id.set(log.clean_client_request_id(value.decode("latin-1")))

        snapshot, verdict = await limits.admit(auth.bearer_token(authorization))
        self.headers += [(name.lower().encode(), value.encode()) for name, value in verdict.headers().items()]
        if verdict.outcome == limits.LIMITED:
            raise verdict.error()
        if not snapshot.enabled:
            raise errors.AuthorizationFailed("This organization is disabled. Write to support.")
        self.gateway.uses[snapshot.key_id] = time.time()

        if encoded or content_type.partition(b";")[0].strip().lower() != b"application/json":
            raise errors.UnsupportedMediaType
        request = schemas.parse_chat_request(await self._read_body(content_length))
        if snapshot.allowed_models is not None and request.model not in snapshot.allowed_models:
            raise errors.AuthorizationFailed("This API key may not use this model.", param="model")
        model = catalogue.latest().get(request.model, snapshot.organization_id)
        await self._relay(request, model)

    async def _read_body(self, content_length: bytes) -> bytes:
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

    async def _relay(self, request: schemas.ChatRequest, model: catalogue.Model) -> None:
        client = self.gateway.client
        assert client is not None  # noqa: S101  # started before any request
        completion_id = ids.COMPLETION + self.request_id.removeprefix(ids.REQUEST)  # the same instant and randomness
        call = relay.Call(request, completion_id, int(time.time()), client)
        self.task = asyncio.current_task()
        watcher = asyncio.create_task(self._watch())
        try:
            if request.wants_stream:
                await self._stream(call, model)
            else:
                deployment, body, _ = await relay.complete(call, model.deployments)
                self.headers.append((b"x-helixflow-upstream", deployment.name.encode()))
                await self._send_whole(200, body)
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        """A caller who goes away cancels the exchange, and with it the upstream's work."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.finished and self.task is not None:
            self.gone = True
            self.task.cancel()

    async def _stream(self, call: relay.Call, model: catalogue.Model) -> None:
        stream = await relay.open_stream(call, model.deployments)
        self.headers.append((b"x-helixflow-upstream", stream.deployment.name.encode()))
        try:
            self.started = True
            await self.send({"type": "http.response.start", "status": 200, "headers": self.headers + EVENT_STREAM})
            while not stream.ended:
                if stream.frames:
                    await self.send({"type": "http.response.body", "body": stream.frames, "more_body": True})
                try:
                    await stream.advance()
                except relay.FAILURES as error:
                    reason = relay.clean(relay.describe(error), stream.deployment)
                    logger.warning("upstream %s broke its stream: %s", stream.deployment.name, reason)
                    raise relay.as_helix_error(error) from None
            self.finished = True
            await self.send({"type": "http.response.body", "body": stream.frames, "more_body": False})
            await stream.finish()
        finally:
            stream.close()

    async def _fail(self, error: errors.HelixError) -> None:
        if self.finished:
            return
        body = msgspec.json.encode(error.body(self.request_id))
        if self.started:
            self.finished = True
            await self.send({"type": "http.response.body", "body": b"data: %b\n\n" % body, "more_body": False})
            return
        self.headers += [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
        await self._send_whole(error.status, body)

    async def _send_whole(self, status: int, body: bytes) -> None:
        self.started = self.finished = True
        headers = [*self.headers, JSON, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


gateway = Gateway()
chat_completions = gateway.chat_completions
startup = gateway.startup
shutdown = gateway.shutdown
