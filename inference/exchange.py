"""One request to the data plane and its answer, from the headers to the settlement.

Identify (header → snapshot) → admit (one Redis script) → read and validate the body → route → relay → settle (queued).
Identification comes before the body, so strangers cannot make us buffer, and 401 wins over 400. Whatever was admitted
is settled, however it ends. Under an Idempotency-Key the body comes before admission: what has been answered already
costs nothing.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from accounts import auth
from billing import events
from billing.admission import limits, notes, snapshots
from billing.admission.snapshots import Snapshot
from billing.settling.settle import Settler
from billing.settling.settlement import Settlement
from helixflow.lib import errors, ids, log, metrics
from inference import asking, catalogue, health, relay
from inference.calls import Call, Request
from inference.failures import FAILURES, as_helix_error, outcome_of
from inference.keeping import idempotency, response_cache
from inference.keeping.contents import Contents
from inference.keeping.idempotency import Claims, Lease
from inference.keeping.kept import KeptAnswer, Recording
from inference.keeping.over_limit import OverLimit
from inference.responder import EVENT_STREAM, JSON, Receive, Responder, Scope, Send
from inference.routing import Route
from inference.upstream import UpstreamClient
from inference.usage import tokens

logger = logging.getLogger(__name__)

MARK_EVERY_S: Final = 1.0  # a stream that goes on: what it has produced is billed even if this process is killed
LEFT: Final = (499, "client_disconnected")
CACHE: Final = "cache"  # in place of a deployment

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Shared(Protocol):
    """What a request has in common with the others of its process: ``inference.gateway.Gateway``."""

    client: UpstreamClient | None
    settler: Settler
    claims: Claims
    contents: Contents
    uses: dict[uuid.UUID, float]
    over_limit: OverLimit

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background."""


class Exchange(Responder):
    """One request and its answer."""

    __slots__ = (
        *("answering", "asked", "body_bytes", "call", "deployment", "error", "fallback_model", "first_token_ms"),
        *("gateway", "kind", "model", "organization_id", "request", "status", "upstream", "verdict"),
    )

    def __init__(self, gateway: Shared, kind: type[Call], scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.gateway = gateway
        self.kind = kind
        self.asked = asking.NOTHING
        # What the ledger will be told
        self.verdict: limits.Verdict | None = None
        self.organization_id = uuid.UUID(int=0)
        self.request: Request | None = None
        self.body_bytes = 0
        self.model = ""  # of the catalogue
        self.call: Call | None = None
        self.fallback_model = ""  # that answered in its place
        self.deployment = ""
        self.upstream = ""  # the deployment, of a cached answer too
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
            self.let_go()
            self.call = None

    async def _answer(self) -> None:
        if self.scope["method"] != "POST":
            raise errors.MethodNotAllowed("Use POST.", allowed=("POST",))
        asked = self.asked = asking.read(self.scope["headers"])
        token = auth.bearer_token(asked.authorization)
        if asked.idempotency_key is not None:
            await self._answer_once(token, asked.idempotency_key)
            return
        snapshot = await self._admit(token)
        await self._respond(await self._read(), snapshot)

    async def _answer_once(self, token: str, key: str) -> None:
        """Who sends a request again under its Idempotency-Key has the first one's answer, which costs nothing."""
        snapshot, counted = await snapshots.cache.get(token), None
        if snapshot.key_id in self.gateway.over_limit:
            counted = await limits.admit_repeat(token)
            if not counted.admitted:
                self._permit_repeat(counted)
        try:
            request = await self._read()
        except errors.HelixError:
            await self._admit(token)  # it costs what it costs without a key
            raise
        self.watch()
        try:
            claimed = await self.gateway.claims.claim(
                organization_id=snapshot.organization_id,
                api_key_id=snapshot.key_id,
                key=key,
                fingerprint=idempotency.fingerprint(self.kind.operation, _encode(request)),
                wait_until=self._until(),
            )
        except errors.HelixError:
            self._permit_repeat(counted or await limits.admit_repeat(token))
            raise
        self.let_go()  # until the relay begins: who is cancelled while Redis admits them would be settled by nobody
        if isinstance(claimed, KeptAnswer):
            self._permit_repeat(counted or await limits.admit_repeat(token), request.model)
            self.headers += claimed.said_again()
            await self.send_again(claimed)
        elif claimed is None:  # Redis is away, and nobody insists
            await self._respond(request, await self._admit(token))
        else:
            await self._answer_first(token, request, claimed)

    async def _answer_first(self, token: str, request: Request, lease: Lease) -> None:
        try:
            snapshot = await self._admit(token)
            self.recording = Recording()
            self.finishes_alone = True
            await self._respond(request, snapshot)
            await lease.finish(self._recorded(self.recording))
        finally:
            await lease.release()  # of one that was not finished: nothing whole came of it

    def _permit_repeat(self, verdict: limits.Verdict, model: str | None = None) -> None:
        """``model`` is what the answer came from: it may have been taken from the caller since."""
        self.headers += verdict.headers()
        if not verdict.admitted:
            raise verdict.error()
        self._check(verdict.snapshot)
        if model is not None:
            verdict.snapshot.check_model(model)
            catalogue.latest().check_offer(model, verdict.snapshot.organization_id)

    async def _read(self) -> Request:
        self.asked.check()
        body = await self.read_body(self.asked.content_length)
        self.body_bytes = len(body)
        self.request = self.kind.parse(body)
        return self.request

    async def _respond(self, request: Request, snapshot: Snapshot) -> None:
        if snapshot.stores_contents:
            self.recording = Recording(head=True)
        snapshot.check_model(request.model)
        route = self._route(request, snapshot)
        if snapshot.cache_ttl_s is not None and response_cache.cacheable(request):
            await self._respond_cached(request, route, snapshot.organization_id, snapshot.cache_ttl_s)
        else:
            await self._relay(request, route)

    async def _respond_cached(self, request: Request, route: Route, organization_id: uuid.UUID, ttl_s: int) -> None:
        entry = response_cache.Entry(organization_id, self.kind.operation, request)
        directives = response_cache.Directives.parse(self.asked.cache_control)
        known = await entry.get(directives, ttl_s)
        if known is not None:
            self.headers.append((b"x-helixflow-cache", b"hit"))
            self.answering = True
            self.deployment, self.upstream = CACHE, known.upstream
            await self.send_again(known.renamed(self._answer_id(), int(time.time())))
            return
        if directives.writes:
            self.headers.append((b"x-helixflow-cache", b"miss"))
            self.recording = self.recording or Recording()
        await self._relay(request, route)
        if directives.writes and self.recording is not None and not self.fallback_model:
            answer = self._recorded(self.recording)
            if answer is not None:
                self.gateway.later(entry.put(answer, directives, ttl_s))

    def _recorded(self, recording: Recording) -> KeptAnswer | None:
        body, call = recording.body(), self.call
        if body is None:
            return None
        streamed = self.request is not None and self.request.wants_stream
        return KeptAnswer(
            body=body,
            content_type=EVENT_STREAM if streamed else JSON,
            upstream=self.upstream,
            fallback_model=self.fallback_model,
            id=call.id if call else "",
            created=call.created if call else 0,
            request_id=self.public_id,
            cached=self.deployment == CACHE,
        )

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
            self.gateway.over_limit.add(verdict)
            raise verdict.error()
        self.verdict = verdict
        self.organization_id = verdict.snapshot.organization_id
        if verdict.local:
            lost = self._event(verdict, status=500, error="server_error")
            lost.settled_by = events.REAPER  # gives way to what comes of it, in whichever order the two arrive
            settler.admitted_here(Settlement.of(lost, leased=verdict.leased))
        self._check(verdict.snapshot)
        return verdict.snapshot

    def _check(self, snapshot: Snapshot) -> None:
        if not snapshot.enabled:
            raise errors.AuthorizationFailed("This organization is disabled, or is to be deleted: see its dashboard.")
        self.gateway.uses[snapshot.key_id] = time.time()

    async def _relay(self, request: Request, route: Route) -> None:
        client = self.gateway.client
        assert client is not None  # noqa: S101  # started before any request
        call = self.call = self.kind(request, self._answer_id(), int(time.time()), client, self._touch, self._until())
        self.watch()
        if request.wants_stream:
            await self._stream(call, route)
        else:
            deployment, body = await relay.complete(call, route)
            self._answers(deployment, route)
            await self.send_whole(200, body)

    def _answer_id(self) -> str:
        """It shares its part after the prefix with the request's."""
        return self.kind.id_prefix + self.public_id.removeprefix(ids.REQUEST)

    def _answers(self, deployment: catalogue.Deployment, route: Route) -> None:
        self.answering = True
        self.deployment = self.upstream = deployment.name
        self.headers.append((b"x-helixflow-upstream", deployment.name.encode()))
        if route.model.name != self.model:
            self.fallback_model = route.model.name
            self.headers.append((b"x-helixflow-fallback-model", self.fallback_model.encode()))

    async def _stream(self, call: Call, route: Route) -> None:
        stream = await relay.open_stream(call, route)
        self.first_token_ms = self.elapsed_ms()
        self._answers(stream.deployment, route)
        self._touch()
        mark_at = time.monotonic() + MARK_EVERY_S
        try:
            await self.begin_stream()
            while not stream.ended:
                if time.monotonic() >= mark_at:
                    mark_at = time.monotonic() + MARK_EVERY_S
                    self._touch()
                if stream.frames:
                    await self.send_frames(stream.frames, more=True)
                try:
                    await stream.advance()
                except FAILURES as error:
                    reason = stream.broke(error)
                    logger.warning("upstream %s broke its stream: %s", stream.deployment.name, reason)
                    call.attempts[-1] = events.Attempt(self.deployment, outcome_of(error), self.elapsed_ms())
                    raise as_helix_error(error) from None
            await self.send_frames(stream.frames, more=False)
            await stream.finish()
        finally:
            stream.close()

    async def _fail(self, error: errors.HelixError) -> None:
        if not self.finished:
            self.status, self.error = error.status, error.code
            await self.send_error(error)

    def _until(self) -> float | None:
        return None if self.asked.timeout_s is None else self.began + self.asked.timeout_s

    def _operation(self) -> str:
        """As the ledger names it: the path, with dots."""
        return self.kind.operation.replace(" ", ".")

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
            operation=self._operation(),
            fallback_model=self.fallback_model,
            deployment=self.deployment,
            attempts=attempts,
            answering=self.answering,
            tokens=tokens(usage) if usage else events.Tokens(),
            usage_source=call.usage_source if call else events.NOTHING,
            first_token_ms=self.first_token_ms,
            elapsed_ms=self.elapsed_ms(),
        )

    def _settle(self, verdict: limits.Verdict) -> None:
        settler = self.gateway.settler
        settler.forget(self)
        status, error = LEFT if self.gone and not self.finished else (self.status, self.error)
        event = self._event(verdict, status=status, error=error)
        settler.settle(Settlement.of(event, leased=verdict.leased), spooled=verdict.local)
        if verdict.snapshot.stores_contents and self.request is not None:
            self.gateway.contents.keep(self)
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
            duration_ms=self.elapsed_ms(),
            error_code=error,
            operation=self._operation(),
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
                event.usage_source = call.usage_source
                event.tokens = tokens(call.usage)
        return event
