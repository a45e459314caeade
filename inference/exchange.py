"""One request to the data plane and its answer, from the headers to the settlement.

Identify (header → snapshot) → admit (one Redis script) → read and validate the body → route → relay → settle (queued).
Identification comes before the body, so strangers cannot make us buffer, and 401 wins over 400. Whatever was admitted
is settled, however it ends.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from accounts import auth
from billing import events
from billing.admission import limits, notes
from billing.admission.snapshots import Snapshot
from billing.settling.settle import Settler
from billing.settling.settlement import Settlement
from helixflow.lib import errors, ids, log, metrics
from inference import asking, catalogue, health, relay
from inference.calls import Call, Request
from inference.failures import FAILURES, as_helix_error
from inference.routing import Route
from inference.upstream import UpstreamClient
from inference.usage import tokens

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY: Final = 10 * 1024 * 1024
BODY_S: Final = 300.0  # for all of it: who drips one must not outlive the request's note, and with it its unit
MARK_EVERY_S: Final = 1.0  # a stream that goes on: what it has produced is billed even if this process is killed
LEFT: Final = (499, "client_disconnected")
JSON: Final = (b"content-type", b"application/json")
EVENT_STREAM: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Shared(Protocol):
    """What a request has in common with the others of its process: ``inference.gateway.Gateway``."""

    client: UpstreamClient | None
    settler: Settler
    uses: dict[uuid.UUID, float]


class Exchange:
    """One request and its answer."""

    __slots__ = (
        *("answering", "asked", "began", "call", "deployment", "error", "fallback_model", "finished"),
        *(
            "first_token_ms",
            "gateway",
            "gone",
            "headers",
            "kind",
            "model",
            "organization_id",
            "public_id",
            "receive",
            "request",
            "request_id",
            "scope",
        ),
        *("send", "started", "status", "task", "verdict"),
    )

    def __init__(self, gateway: Shared, kind: type[Call], scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = gateway
        self.kind = kind
        self.scope = scope
        self.receive = receive
        self.send = send
        self.began = time.monotonic()
        self.request_id = ids.uuid7()
        self.public_id = ids.public_id(ids.REQUEST, self.request_id)
        self.headers: Headers = [(b"x-request-id", self.public_id.encode())]
        self.started = False  # the head of the answer has been sent
        self.finished = False  # so has its end
        self.gone = False  # the caller went away
        self.asked = asking.NOTHING
        self.task: asyncio.Task[Any] | None = None
        # What the ledger will be told
        self.verdict: limits.Verdict | None = None
        self.organization_id = uuid.UUID(int=0)
        self.request: Request | None = None
        self.model = ""  # of the catalogue
        self.call: Call | None = None
        self.fallback_model = ""  # that answered in its place
        self.deployment = ""
        self.answering = False  # something was produced for the caller
        self.first_token_ms: float | None = None
        self.status = 200
        self.error = ""

    async def run(self) -> None:
        log.request_id.set(self.public_id)
        metrics.in_flight(1)
        try:
            await self._answer()
        except errors.HelixError as error:
            await self._fail(error)
        except asyncio.CancelledError:
            if not self.gone:  # the server is going down and has waited long enough
                with suppress(asyncio.CancelledError):
                    await self._fail(errors.ServiceUnavailable("The server is restarting. Try again."))
        except Exception:
            logger.exception("a request for %s failed", self.kind.operation)
            await self._fail(errors.ServerError())
        finally:
            metrics.in_flight(-1)
            if self.verdict is not None:
                self._settle(self.verdict)
            self.call = self.task = None  # they refer to this: a request must not be left to the garbage collector

    async def _answer(self) -> None:
        if self.scope["method"] != "POST":
            raise errors.MethodNotAllowed("Use POST.", allowed=("POST",))
        asked = self.asked = asking.read(self.scope["headers"])
        snapshot = await self._admit(auth.bearer_token(asked.authorization))
        if not snapshot.enabled:
            raise errors.AuthorizationFailed("This organization is disabled. Write to support.")
        self.gateway.uses[snapshot.key_id] = time.time()

        asked.check()
        request = self.request = self.kind.parse(await self._read_body(asked.content_length))
        if snapshot.allowed_models is not None and request.model not in snapshot.allowed_models:
            raise errors.AuthorizationFailed("This API key may not use this model.", param="model")
        await self._relay(request, self._route(request, snapshot))

    def _route(self, request: Request, snapshot: Snapshot) -> Route:
        known, kind = catalogue.latest(), self.kind
        model = known.get(request.model, snapshot.organization_id)
        self.model = model.name
        models = [model]
        if model.fallbacks and self.asked.fallback and kind.falls_back:
            models += known.fallbacks(model, snapshot.organization_id, snapshot.allowed_models)
        if not any(kind.operation in each.adapter.operations for model in models for each in model.deployments):
            raise errors.InvalidRequest(f"This model does not do {kind.operation}.", param="model")
        return Route(models, kind.operation, health.board, stream=request.wants_stream)

    async def _admit(self, token: str) -> Snapshot:
        settler = self.gateway.settler
        try:
            verdict = await limits.admit(token, self.request_id, settler.process)
        except limits.Unheard as unheard:
            settler.cancel(unheard.verdict, self.request_id)
            raise unheard.refusal from None
        self.headers += verdict.headers()
        if not verdict.admitted:
            if verdict.uncertain:
                settler.cancel(verdict, self.request_id)
            settler.refused(verdict)
            raise verdict.error()
        self.verdict = verdict
        self.organization_id = verdict.snapshot.organization_id
        if verdict.local:
            lost = self._event(verdict, status=500, error="server_error")
            lost.settled_by = events.REAPER  # gives way to what comes of it, in whichever order the two arrive
            settler.admitted_here(Settlement.of(lost, leased=verdict.leased))
        return verdict.snapshot

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
            if time.monotonic() - self.began > BODY_S:
                raise errors.InvalidRequest(f"The body did not arrive within {BODY_S:.0f} seconds.")

    async def _relay(self, request: Request, route: Route) -> None:
        client = self.gateway.client
        assert client is not None  # noqa: S101  # started before any request
        answer_id = self.kind.id_prefix + self.public_id.removeprefix(ids.REQUEST)  # the two share one
        call = self.call = self.kind(request, answer_id, int(time.time()), client, self._touch, self._until())
        self.task = asyncio.current_task()
        watcher = asyncio.create_task(self._watch())
        try:
            if request.wants_stream:
                await self._stream(call, route)
            else:
                deployment, body = await relay.complete(call, route)
                self._answers(deployment, route)
                await self._send_whole(200, body)
        finally:
            watcher.cancel()

    def _answers(self, deployment: catalogue.Deployment, route: Route) -> None:
        self.answering = True
        self.deployment = deployment.name
        self.headers.append((b"x-helixflow-upstream", deployment.name.encode()))
        if route.model.name != self.model:
            self.fallback_model = route.model.name
            self.headers.append((b"x-helixflow-fallback-model", self.fallback_model.encode()))

    async def _watch(self) -> None:
        """A caller who goes away cancels the exchange, and with it the upstream's work."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.finished and self.task is not None:
            self.gone = True
            self.task.cancel()

    async def _stream(self, call: Call, route: Route) -> None:
        stream = await relay.open_stream(call, route)
        self.first_token_ms = self._elapsed_ms()
        self._answers(stream.deployment, route)
        self._touch()
        mark_at = time.monotonic() + MARK_EVERY_S
        try:
            self.started = True
            await self.send({"type": "http.response.start", "status": 200, "headers": self.headers + EVENT_STREAM})
            while not stream.ended:
                if time.monotonic() >= mark_at:
                    mark_at = time.monotonic() + MARK_EVERY_S
                    self._touch()
                if stream.frames:
                    await self.send({"type": "http.response.body", "body": stream.frames, "more_body": True})
                try:
                    await stream.advance()
                except FAILURES as error:
                    reason = stream.broke(error)
                    logger.warning("upstream %s broke its stream: %s", stream.deployment.name, reason)
                    call.attempts[-1] = events.Attempt(self.deployment, reason, self._elapsed_ms())
                    raise as_helix_error(error) from None
            self.finished = True
            await self.send({"type": "http.response.body", "body": stream.frames, "more_body": False})
            await stream.finish()
        finally:
            stream.close()

    async def _fail(self, error: errors.HelixError) -> None:
        if self.finished:
            return
        self.status, self.error = error.status, error.code
        body = msgspec.json.encode(error.body(self.public_id))
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

    def _elapsed_ms(self) -> float:
        return round((time.monotonic() - self.began) * 1000, 3)

    def _until(self) -> float | None:
        return None if self.asked.timeout_s is None else self.began + self.asked.timeout_s

    def _touch(self) -> None:
        self.gateway.settler.touch(self)

    def mark(self) -> notes.Mark:
        """How far it got, for its note."""
        call, request = self.call, self.request
        attempts = list(call.attempts) if call else []
        if call and call.trying:
            attempts.append(events.Attempt(call.trying, "under way", 0.0))
        if call:
            call.account()
        usage = call.usage if call else None
        return notes.Mark(
            model=request.model if request else "",
            streamed=request.wants_stream if request else False,
            end_user=(request.user or "") if request else "",
            fallback_model=self.fallback_model,
            deployment=self.deployment,
            attempts=attempts,
            answering=self.answering,
            tokens=tokens(usage) if usage else events.Tokens(),
            usage_source=_source(call) if call else events.NOTHING,
            first_token_ms=self.first_token_ms,
            elapsed_ms=self._elapsed_ms(),
        )

    def _settle(self, verdict: limits.Verdict) -> None:
        settler = self.gateway.settler
        settler.forget(self)
        status, error = LEFT if self.gone and not self.finished else (self.status, self.error)
        event = self._event(verdict, status=status, error=error)
        settler.settle(Settlement.of(event, leased=verdict.leased), spooled=verdict.local)
        metrics.observe(
            model=self.model,
            status=status,
            code=error,
            streamed=event.streamed,
            duration_ms=event.duration_ms,
            first_token_ms=event.first_token_ms,
            tokens=event.tokens.items(),
        )

    def _event(self, verdict: limits.Verdict, *, status: int, error: str) -> events.Usage:
        snapshot, call, request = verdict.snapshot, self.call, self.request
        event = events.Usage(
            id=self.request_id,
            organization_id=snapshot.organization_id,
            api_key_id=snapshot.key_id,
            user_id=snapshot.user_id,
            month=verdict.month,
            units=int(self.answering),
            status=status,
            duration_ms=self._elapsed_ms(),
            error_code=error,
            fallback_model=self.fallback_model,
            deployment=self.deployment,
            first_token_ms=self.first_token_ms,
        )
        if request is not None:
            event.model = request.model
            event.streamed = request.wants_stream
            event.end_user = request.user or ""
        if call is not None:
            event.attempts = call.attempts
            if call.usage is not None:
                event.usage_source = _source(call)
                event.tokens = tokens(call.usage)
        return event


def _source(call: Call) -> str:
    if call.usage is None:
        return events.NOTHING
    return events.PROVIDER if call.reported else events.ESTIMATED
