"""From a validated request to an upstream's answer: tries deployments in order until one begins to answer.

Nothing is retried once a byte has gone to the caller; before that a failing deployment only costs time.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from billing.events import Attempt
from helixflow.lib import errors
from inference import completions, routing, schemas, sse, usage
from inference.assembly import Assembler
from inference.catalogue import Deployment
from inference.completions import BadAnswer, ChunkRewriter, UpstreamStreamError, Usage
from inference.upstream import (
    Deadlines,
    Response,
    UpstreamClient,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
)

logger = logging.getLogger(__name__)

PATH: Final = "/chat/completions"
DEADLINES: Final = Deadlines()
MAX_ANSWER: Final = 32 * 1024 * 1024
MAX_ERROR_BODY: Final = 64 * 1024
LINGER_S: Final = 0.2
RETRY_WITHIN_S: Final = 300.0  # then another deployment is no help any more, and the note would outlive its time
DONE: Final = b"[DONE]"
DONE_FRAME: Final = b"data: [DONE]\n\n"
BUSY: Final = "The model is busy. Try again after the time in Retry-After."
UNAVAILABLE: Final = "The model is unavailable for a moment. Try again."
REPEATED: Final = "connection lost, sent again"  # by which an upstream may have seen the request twice
# What an upstream refuses because of what the caller wrote; all else it refuses because of us.
CALLERS_MISTAKES: Final = frozenset({400, 413, 422})

# How an upstream can fail, beside answering with a status that says so.
FAILURES: Final = (UpstreamError, BadAnswer, UpstreamStreamError, sse.LineTooLong)

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """What one request asks, whichever deployment answers, and what came of the tries.

    ``on_attempt`` is told when one begins. ``usage`` is there once something was produced; ``reported`` says whether
    by the provider, or estimated.
    """

    request: schemas.ChatRequest
    id: str
    created: int
    client: UpstreamClient
    on_attempt: Callable[[], None] = lambda: None
    attempts: list[Attempt] = field(default_factory=list)
    trying: str = ""  # the deployment of the attempt under way
    usage: Usage | None = None
    reported: bool = False
    written: ChunkRewriter | None = None  # of the stream under way

    def encode(self, deployment: Deployment, *, stream: bool) -> bytes:
        return schemas.encode_chat_request(
            self.request,
            upstream_model=deployment.upstream_model,
            stream=stream,
            renames_max_tokens=deployment.renames_max_tokens,
        )

    def estimate(self, completion_chars: int) -> Usage:
        return usage.estimate(self.request, completion_chars)

    def account(self) -> None:
        """Bring ``usage`` up to what the stream has produced so far."""
        written = self.written
        if written is not None and written.started:
            usage = written.usage
            if usage is None or (usage.completion_tokens == 0 and written.completion_chars):  # a count that never ran
                usage = self.estimate(written.completion_chars)
            self.reported = usage is written.usage
            self.usage = usage

    def rewriter(self) -> ChunkRewriter:
        return ChunkRewriter(
            id=self.id, created=self.created, model=self.request.model, include_usage=self.request.wants_usage_chunk
        )


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
        self._rewriter = call.written = call.rewriter()
        self._accounted = False
        self._decoder = sse.Decoder()
        self._failure: Exception | None = None

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
        data = await self._response.chunks()
        for payload in self._decoder.feed(data) if data else self._decoder.finish():
            if payload == DONE:
                self.ended = True
                break
            frame = self._rewriter.rewrite(payload)
            if frame is not None:
                frames.append(frame)
        if not data and not self.ended:
            if not self._rewriter.finished:
                raise UpstreamDisconnected("the stream ended without [DONE] or a finish_reason", started=True)
            self.ended = True
        if self.ended:
            self._account()
            last = self._rewriter.finish()
            frames += [DONE_FRAME] if last is None else [last, DONE_FRAME]

    async def finish(self) -> None:
        """After [DONE] the end of the answer follows at once; waiting for it keeps the connection for the next call."""
        if not self._response.complete:
            with suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._response.chunks()

    def close(self) -> None:
        self._account()
        self._response.close()

    def _account(self) -> None:
        """What was produced, whole or cut off; said to a caller who asked."""
        if not self._accounted and self._rewriter.started:
            self._accounted = True
            self._call.account()
            self._rewriter.usage = self._call.usage


async def complete(call: Call, deployments: Iterable[Deployment]) -> tuple[Deployment, bytes]:
    """The whole answer as a chat.completion. Raises HelixError."""
    return await _first_success(call, deployments, lambda deployment: _complete_at(call, deployment))


async def open_stream(call: Call, deployments: Iterable[Deployment]) -> Stream:
    """A stream whose first frames are there. Raises HelixError."""
    return await _first_success(call, deployments, lambda deployment: _open_stream_at(call, deployment))


async def _first_success(
    call: Call, deployments: Iterable[Deployment], attempt: Callable[[Deployment], Awaitable[T]]
) -> T:
    failure: AttemptFailed | None = None
    began = time.monotonic()
    for deployment in routing.order(deployments):
        started = time.monotonic()
        if failure is not None and started - began > RETRY_WITHIN_S:
            break
        call.trying = deployment.name
        outcome = "left"  # by the caller, or as the server stops
        call.on_attempt()
        try:
            answer = await attempt(deployment)
            outcome = "ok"
            return answer
        except AttemptFailed as error:
            failure = error
            outcome = error.outcome
        except FAILURES as error:
            failure = AttemptFailed(describe(error), as_helix_error(error))
            outcome = clean(failure.outcome, deployment)
        except errors.InvalidRequest:
            outcome = "refused as invalid"
            raise
        finally:
            call.trying = ""
            call.attempts.append(Attempt(deployment.name, outcome, (time.monotonic() - started) * 1000))
        logger.warning("upstream %s failed: %s", deployment.name, clean(outcome, deployment))
    raise failure.error if failure else errors.ServiceUnavailable


async def _complete_at(call: Call, deployment: Deployment) -> tuple[Deployment, bytes]:
    stream = deployment.stream_always
    response = await _post(call, deployment, stream=stream)
    try:
        if stream:
            assembler = await _assemble(response)
            body, call.usage, call.reported = assembler.result(
                id=call.id, created=call.created, model=call.request.model, estimate=call.estimate
            )
        else:
            answer = await response.read(MAX_ANSWER)
            body, call.usage, call.reported = completions.rewrite_completion(
                answer, id=call.id, created=call.created, model=call.request.model, estimate=call.estimate
            )
    finally:
        response.close()
    return deployment, body


async def _assemble(response: Response) -> Assembler:
    assembler = Assembler()
    decoder = sse.Decoder()
    size = 0
    while True:
        data = await response.chunks()
        size += len(data)
        if size > MAX_ANSWER:
            raise BadAnswer("the answer is too large")
        for payload in decoder.feed(data) if data else decoder.finish():
            if payload == DONE:
                return assembler
            assembler.add(payload)
        if not data:
            if not assembler.finished:
                raise UpstreamDisconnected("the stream ended without [DONE] or a finish_reason", started=True)
            return assembler


async def _open_stream_at(call: Call, deployment: Deployment) -> Stream:
    response = await _post(call, deployment, stream=True)
    stream = Stream(call, deployment, response)
    try:
        while not stream.frames and not stream.ended:
            await stream.advance()
    except BaseException:  # a caller who left included: the upstream must stop
        stream.close()
        raise
    return stream


async def _post(call: Call, deployment: Deployment, *, stream: bool) -> Response:
    body = call.encode(deployment, stream=stream)
    started = time.monotonic()

    def repeated() -> None:
        call.attempts.append(Attempt(deployment.name, REPEATED, (time.monotonic() - started) * 1000))
        call.on_attempt()

    response = await call.client.post(deployment.origin, PATH, deployment.headers, body, DEADLINES, on_repeat=repeated)
    if response.status == 200:
        return response
    try:
        await _refuse(deployment, response)
    finally:
        response.close()
    raise AssertionError("unreachable")


async def _refuse(deployment: Deployment, response: Response) -> None:
    """Raises what an answer other than 200 means."""
    status = response.status
    if status in CALLERS_MISTAKES:
        try:
            text = _message(await response.read(MAX_ERROR_BODY))
        except UpstreamError:
            text = ""
        raise errors.InvalidRequest(clean(text, deployment) or "The model's provider refused this request as invalid.")
    if status == 429:
        wait = _retry_after(response.header(b"retry-after"))
        raise AttemptFailed("rate limited", errors.ServiceUnavailable(BUSY, retry_after=wait))
    raise AttemptFailed(f"status {status}", errors.ServiceUnavailable(UNAVAILABLE))


def as_helix_error(error: Exception) -> errors.HelixError:
    """What a caller is told of an upstream's failure, before or after the first byte."""
    match error:
        case UpstreamTimeout():
            return errors.UpstreamTimeout()
        case UpstreamConnectError() | UpstreamDisconnected() | UpstreamStreamError():
            return errors.ServiceUnavailable(UNAVAILABLE)
    return errors.ServerError("The model's provider sent an answer that makes no sense. Try again.")


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _retry_after(value: bytes | None) -> int:
    try:
        return min(max(int(value or b"1"), 1), 3600)
    except ValueError:
        return 1


class _ErrorBody(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")
    message: str | None = None
    detail: str | None = None


class _ErrorObject(msgspec.Struct):
    message: str = ""


def _message(body: bytes) -> str:
    """The message of an error body, as the usual servers write it; empty if there is none."""
    try:
        parsed = msgspec.json.decode(body, type=_ErrorBody)
        found = msgspec.json.decode(parsed.error, type=_ErrorObject | str | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if isinstance(found, _ErrorObject):
        return found.message
    return found or parsed.message or parsed.detail or ""


# Each begins where its run of characters does, so that a long text without any costs one pass: callers can have what
# they wrote repeated to them.
_ADDRESSES: Final = re.compile(
    r"""(?<![a-z0-9+.-])[a-z0-9+.-]+://[^\s"'<>]+   # URLs
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b          # IPv4, with a port
      | \[[0-9a-f:.]{3,}\](?::\d+)?                   # [IPv6]
      | (?<![a-z0-9.-])[a-z0-9.-]*\.[a-z]{2,}:\d+\b  # host:port
      | \blocalhost(?::\d+)?\b
      | (?<![\w/])(?:/[\w.-]+){2,}                    # file paths
    """,
    re.IGNORECASE | re.VERBOSE,
)
_KEYS: Final = re.compile(
    r"\b(?:bearer\s+\S+|(?:sk|pk|gsk|key|hflow|xai|api[-_]?key)[-_][\w*.-]{6,})|\b[A-Za-z0-9_-]{32,}\b", re.IGNORECASE
)


def clean(text: str, deployment: Deployment) -> str:
    """An upstream's message without addresses, paths and keys, at most 500 characters."""
    if deployment.secret:
        text = text.replace(deployment.secret, "[key]")
    text = _KEYS.sub("[key]", _ADDRESSES.sub("[address]", text))
    return "".join(char if char.isprintable() else " " for char in text).strip()[:500]
