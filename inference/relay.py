"""From a validated request to an upstream's answer: tries deployments in order until one begins to answer.

Nothing is retried once a byte has gone to the caller; before that a failing deployment only costs time.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

from billing.events import Attempt
from helixflow.lib import errors
from inference.answers import BadAnswer, Throttled
from inference.calls import Assembler, Call, Reader
from inference.catalogue import Deployment
from inference.failures import BUSY, FAILURES, UNAVAILABLE, as_helix_error, clean, describe, outcome_of
from inference.health import Trial
from inference.providers.adapter import Blame, Operation, Unsupported, Wire
from inference.routing import Route
from inference.upstream import Response, UpstreamDisconnected, UpstreamError, UpstreamTimeout

logger = logging.getLogger(__name__)

MAX_ANSWER: Final = 32 * 1024 * 1024
QUICKLY_READ: Final = 512 * 1024  # more is read in a thread: vectors by the thousand take a tenth of a second
# Bytes of a stream that are read, and written, in one go: of what came at once the rest waits for a slow reader.
READ_AT_ONCE: Final = 32 * 1024
WRITE_AT_ONCE: Final = 32 * 1024
MAX_ERROR_BODY: Final = 64 * 1024
MAX_ERROR_S: Final = 2.0  # a status has said nearly all, and another deployment may be waiting to be asked
LINGER_S: Final = 0.2
RETRY_WITHIN_S: Final = 300.0  # then another deployment is no help any more, and the note would outlive its time
# What servers say where a model that only chats is asked for more, and in which words one that doesn't chat.
NOT_DONE: Final = frozenset({403, 404, 405, 501})
NO_CHAT: Final = re.compile("not a chat model|does not support chat", re.IGNORECASE)
DONE_FRAME: Final = b"data: [DONE]\n\n"
REPEATED: Final = "connection lost, sent again"  # by which an upstream may have seen the request twice

T = TypeVar("T")


class AttemptFailed(Exception):
    """This deployment did not begin to answer; the next may. ``error`` is for the caller if it was the last."""

    def __init__(self, outcome: str, error: errors.HelixError) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.error = error


class Stream:
    """A streamed answer that has begun: ``frames`` holds what is ready to go out."""

    def __init__(self, call: Call, deployment: Deployment, response: Response) -> None:
        self.deployment = deployment
        self._call = call
        self.frames = b""
        self.ended = False
        self._response = response
        self._reader = call.reader(deployment)
        self._rewriter = call.written = call.rewriter()
        self._accounted = False
        self._failure: Exception | None = None
        self._chunks: Iterator[Any] | None = None  # of the last read, not all of which are written yet
        self._over = False  # that was the end of the connection
        self.trial: Trial | None = None

    async def advance(self) -> None:
        """Wait for the upstream, and leave in ``frames`` what its last read makes; ``ended`` after the last frame.

        Raises what FAILURES lists, but never before everything good that came first has been in ``frames``.
        """
        if self._failure is not None:
            raise self._failure
        frames: list[bytes] = []
        try:
            await self._read(frames)
        except FAILURES as error:
            if not frames:
                raise
            self._failure = error
        self.frames = b"".join(frames)

    async def _read(self, frames: list[bytes]) -> None:
        reader, rewriter = self._reader, self._rewriter
        chunks = self._chunks
        if chunks is None:
            data = await self._response.chunks(READ_AT_ONCE)
            self._over = not data
            chunks = reader.feed(data) if data else reader.finish()
        size = 0
        for chunk in chunks:
            frame = rewriter.rewrite(chunk)
            if frame is not None:
                frames.append(frame)
                size += len(frame)
                if size > WRITE_AT_ONCE:
                    self._chunks = chunks
                    return
        self._chunks = None
        if reader.done:
            self.ended = True
        elif self._over:
            if not rewriter.finished:
                raise UpstreamDisconnected("the stream ended before the answer did", started=True)
            self.ended = True
        if self.ended:
            if not rewriter.started:
                raise BadAnswer("the stream has no choices")
            self._account()
            last = rewriter.finish()
            frames += [DONE_FRAME] if last is None else [last, DONE_FRAME]

    async def finish(self) -> None:
        """After the last event the end of the answer follows at once; waiting for it keeps the connection for the next
        call."""
        if self.trial is not None:
            self.trial.answered()
        if not self._response.complete:
            with suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._response.chunks()

    def broke(self, error: Exception) -> str:
        """Note that the stream failed, and return the reason, for operators."""
        reason = clean(describe(error), self.deployment.adapter.secrets)
        if self.trial is not None and not self._call.was_hurried(error):
            _blame(self.trial, error, reason)
        return reason

    def close(self) -> None:
        if self.trial is not None:
            self.trial.left()
        self._account()
        self._response.close()

    def _account(self) -> None:
        """What was produced, whole or cut off; said to a caller who asked."""
        if not self._accounted and self._rewriter.started:
            self._accounted = True
            self._call.account()
            self._rewriter.usage = self._call.usage


async def complete(call: Call, route: Route) -> tuple[Deployment, bytes]:
    """The whole answer as a chat.completion. Raises HelixError."""

    async def attempt(deployment: Deployment, trial: Trial) -> tuple[Deployment, bytes]:
        body = await _complete_at(call, deployment, trial)
        trial.answered()
        return deployment, body

    return await _first_success(call, route, attempt)


async def open_stream(call: Call, route: Route) -> Stream:
    """A stream whose first frames are there. Raises HelixError."""
    return await _first_success(call, route, lambda deployment, trial: _open_stream_at(call, deployment, trial))


async def _first_success(call: Call, route: Route, attempt: Callable[[Deployment, Trial], Awaitable[T]]) -> T:
    failure: AttemptFailed | None = None
    began = time.monotonic()
    while (deployment := route.next()) is not None:
        started = time.monotonic()
        if failure is not None and started - began > RETRY_WITHIN_S:
            break
        call.trying = deployment.name
        outcome, reason = "left", ""  # by the caller, or as the server stops
        trial = route.begin(deployment)
        try:
            call.on_attempt()
            answer = await attempt(deployment, trial)
            outcome = "ok"
            return answer
        except AttemptFailed as error:
            failure = error
            outcome = error.outcome
        except Unsupported as error:
            outcome = "not supported"
            failure = failure or AttemptFailed(outcome, errors.InvalidRequest(str(error), param=error.param))
        except FAILURES as error:
            outcome, reason = outcome_of(error), clean(describe(error), deployment.adapter.secrets)
            if call.was_hurried(error):
                failure = AttemptFailed(outcome, errors.UpstreamTimeout())
            else:
                failure = AttemptFailed(outcome, as_helix_error(error))
                _blame(trial, error, reason)
        except errors.InvalidRequest:
            outcome = "refused as invalid"
            raise
        finally:
            call.trying = ""
            call.attempts.append(Attempt(deployment.name, outcome, (time.monotonic() - started) * 1000))
            if outcome != "ok":
                trial.left()
        logger.warning("upstream %s failed: %s", deployment.name, reason or outcome)
        if call.is_late:
            break
    raise _last_word(failure, route)


def _last_word(failure: AttemptFailed | None, route: Route) -> errors.HelixError:
    told = failure.error if failure else errors.ServiceUnavailable(UNAVAILABLE)
    if isinstance(told, errors.InvalidRequest) and route.has_more:  # those could be asked that, but not now
        told = errors.ServiceUnavailable(UNAVAILABLE)
    if isinstance(told, errors.ServiceUnavailable):  # when the first of them can be asked again
        told.retry_after = route.retry_after_s
    return told


def _blame(trial: Trial, error: Exception, reason: str) -> None:
    if isinstance(error, Throttled):
        trial.limited()
    else:
        trial.failed(reason)


async def _complete_at(call: Call, deployment: Deployment, trial: Trial) -> bytes:
    stream = call.streams(deployment)
    response = await _post(call, deployment, trial, stream=stream)
    try:
        if stream:
            return call.assembled(await _assemble(response, call.reader(deployment), call.assembler(), trial))
        answer = await response.read(MAX_ANSWER)
    finally:
        response.close()
    if len(answer) > QUICKLY_READ:
        return await asyncio.to_thread(call.read, deployment, answer)
    return call.read(deployment, answer)


async def _assemble(response: Response, reader: Reader, assembler: Assembler, trial: Trial) -> Assembler:
    size = 0
    response.expect_token()
    while True:
        data = await response.chunks()
        size += len(data)
        if size > MAX_ANSWER:
            raise BadAnswer("the answer is too large")
        for chunk in reader.feed(data) if data else reader.finish():
            assembler.add(chunk)
            trial.first_token()
            response.token_came()
        if reader.done:
            return assembler
        if not data:
            if not assembler.finished:
                raise UpstreamDisconnected("the stream ended before the answer did", started=True)
            return assembler


async def _open_stream_at(call: Call, deployment: Deployment, trial: Trial) -> Stream:
    response = await _post(call, deployment, trial, stream=True)
    try:
        stream = Stream(call, deployment, response)
        response.expect_token()
        while not stream.frames and not stream.ended:
            await stream.advance()
        response.token_came()
    except BaseException:  # a caller who left included: the upstream must stop
        response.close()
        raise
    trial.first_token()
    stream.trial = trial
    return stream


async def _post(call: Call, deployment: Deployment, trial: Trial, *, stream: bool) -> Response:
    adapter = deployment.adapter
    wire = await _wire(call, deployment, stream=stream)
    started = time.monotonic()

    def repeated() -> None:
        call.attempts.append(Attempt(deployment.name, REPEATED, (time.monotonic() - started) * 1000))
        call.on_attempt()

    response = await call.client.post(
        adapter.origin, wire.path, wire.headers, wire.body, call.deadlines(deployment), on_repeat=repeated
    )
    if response.status == 200:
        return response
    try:
        await _refuse(call, deployment, response, trial)
    finally:
        response.close()
    raise AssertionError("unreachable")


async def _wire(call: Call, deployment: Deployment, *, stream: bool) -> Wire:
    """It may have to wait for a token, and does so no longer than the caller."""
    if call.until is None:
        return await call.wire(deployment, stream=stream)
    try:
        async with asyncio.timeout(call.until - time.monotonic()):
            return await call.wire(deployment, stream=stream)
    except TimeoutError:
        raise UpstreamTimeout("total") from None


async def _refuse(call: Call, deployment: Deployment, response: Response, trial: Trial) -> None:
    """Raises what an answer other than 200 means."""
    adapter = deployment.adapter
    try:
        async with asyncio.timeout(MAX_ERROR_S):
            body = await response.read(MAX_ERROR_BODY)
    except (UpstreamError, TimeoutError):
        body = b""
    refusal = adapter.refusal(response.status, response.header(b"retry-after"), body)
    message = clean(refusal.message, adapter.secrets)
    if _can_not(call.operation, response.status, message):
        raise Unsupported("model", f"This model does not do {call.operation}.")
    if refusal.blame is Blame.CALLER:
        trial.refused()
        raise errors.InvalidRequest(message or "The model's provider refused this request as invalid.")
    if refusal.blame is Blame.LIMIT:
        trial.limited(refusal.retry_after_s)
        raise AttemptFailed("rate limited", errors.ServiceUnavailable(BUSY))
    outcome = f"status {response.status}"
    trial.failed(f"{outcome}: {message}" if message else outcome, refusal.retry_after_s)
    raise AttemptFailed(outcome, errors.ServiceUnavailable(UNAVAILABLE))


def _can_not(operation: Operation, status: int, message: str) -> bool:
    """Whether it is asked for what it never does. That is no failure, or a few such requests would cut it off from
    those that it can answer."""
    return status in NOT_DONE and (operation is not Operation.CHAT or NO_CHAT.search(message) is not None)
