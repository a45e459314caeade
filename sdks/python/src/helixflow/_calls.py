"""One call, without its input and output: what is sent, what an answer means, whether to try again.

``exchange`` is a generator. It yields what is to be done, Send or Pause, and is sent what came of it; the clients,
sync and async, do nothing else but that.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Callable, Generator, Mapping, NamedTuple

from helixflow import errors
from helixflow._retries import backoff_s, wait_s

if TYPE_CHECKING:
    from helixflow._objects import Object
    from helixflow._settings import Settings

OPTIONS = ("timeout", "max_retries", "idempotency_key", "extra_headers", "extra_query", "extra_body")
CACHEABLE = frozenset({"/chat/completions", "/completions", "/embeddings"})


class Call:
    """``path`` is below the base URL. ``read`` makes the result of an answer's content and headers.

    ``options`` are those of types.CallOptions. ``chunk`` is the class of what is streamed, if anything is.
    ``idempotent``: all its tries carry one Idempotency-Key.
    """

    __slots__ = ("body", "chunk", "files", "idempotent", "method", "options", "path", "query", "read")

    def __init__(
        self,
        method: str,
        path: str,
        read: Callable[[bytes, Mapping[str, str]], Any],
        *,
        body: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        chunk: type[Object] | None = None,
        idempotent: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.read = read
        self.body = body
        self.files = files
        self.query = query
        self.options = options or {}
        self.chunk = chunk
        self.idempotent = idempotent


class Send:
    """To be answered with a Reply, or an APIConnectionError to be thrown."""

    __slots__ = ("connect_timeout", "content", "files", "form", "headers", "method", "stream", "timeout", "url")

    def __init__(self, call: Call, settings: Settings, content: bytes | None, timeout: float | None) -> None:
        self.method = call.method
        self.url = settings.base_url + call.path + _query(call)
        self.headers = dict(settings.headers)  # with the key: never shown
        if content is not None:
            self.headers["content-type"] = "application/json"
        self.content = content
        self.files = call.files
        self.form = call.body if call.files else None
        self.stream = call.chunk is not None
        self.timeout = timeout
        self.connect_timeout = settings.connect_timeout if timeout is None else min(settings.connect_timeout, timeout)


class Pause(NamedTuple):
    seconds: float


class Reply(NamedTuple):
    """``response`` is httpx's, still open, of a stream; else ``content`` is all there was."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    response: Any = None


class OpenStream(NamedTuple):
    """A result that is yet to be read: the clients make a Stream of it."""

    response: Any
    chunk: type[Object]
    record: StreamRecord


class Attempt(NamedTuple):
    """What the hook ``on_attempt`` is told after each try: nothing of what was asked or answered, and never the key.

    ``attempt`` counts from 1; ``status`` is None without an answer; ``retry_in_s`` is None for the last one. ``usage``
    is as on the wire. Of a stream it is told when the stream has ended or was left.
    """

    method: str
    path: str
    attempt: int
    duration_s: float
    status: int | None = None
    request_id: str | None = None
    model: str | None = None
    usage: Mapping[str, Any] | None = None
    error: str | None = None
    retry_in_s: float | None = None
    first_chunk_s: float | None = None
    cached: bool = False


class Recorder:
    """Tells log and hook of the attempts of one call."""

    def __init__(self, call: Call, settings: Settings) -> None:
        self._call = call
        self._settings = settings
        self.attempt = 0
        self._started = 0.0

    def hide(self, content: bytes) -> bytes:
        """What is going to be shown as an error, without the key, should the other side repeat it."""
        return content.replace(self._settings.api_key.encode(), b"[the key]")

    def begin(self) -> None:
        self.attempt += 1
        self._started = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def end(self, *, status: int | None, headers: Mapping[str, str], **facts: Any) -> None:
        import logging  # slow to load, and a client is often made long before its first call

        log = logging.getLogger("helixflow")
        hook = self._settings.on_attempt
        if hook is None and not log.isEnabledFor(logging.DEBUG):
            return
        model = self._call.body.get("model") if self._call.body else None
        told = Attempt(
            method=self._call.method,
            path=self._settings.base_path + self._call.path,
            attempt=self.attempt,
            duration_s=self.elapsed(),
            status=status,
            request_id=headers.get("x-request-id"),
            model=model if isinstance(model, str) else None,
            **facts,
        )
        log.debug("%s", told)
        if hook is not None:
            try:
                hook(told)
            except Exception:  # a broken metric must not break, or repeat, what has been paid for
                log.exception("The hook on_attempt failed")


class StreamRecord:
    """Of the attempt that became a stream: told once, when it has ended or was left."""

    def __init__(self, recorder: Recorder, status: int, headers: Mapping[str, str]) -> None:
        self._recorder: Recorder | None = recorder
        self._status = status
        self._headers = headers
        self._first_chunk_s: float | None = None
        self._usage: Mapping[str, Any] | None = None
        self.hide = recorder.hide

    def saw(self, chunk: Mapping[str, Any]) -> None:
        if self._first_chunk_s is None and self._recorder is not None:
            self._first_chunk_s = self._recorder.elapsed()
        self._usage = chunk.get("usage") or self._usage

    def ended(self, error: str | None = None) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.end(
                status=self._status,
                headers=self._headers,
                error=error,
                usage=self._usage,
                first_chunk_s=self._first_chunk_s,
            )


def exchange(call: Call, settings: Settings) -> Generator[Send | Pause, Any, Any]:
    """The whole of a call: its tries, its waits, its result. Raises errors.APIError."""
    content = encode(_body(call)) if call.body is not None and not call.files else None
    send = Send(call, settings, content, call.options.get("timeout", settings.timeout))
    _add_headers(send, call)
    recorder = Recorder(call, settings)
    cache = settings.cache if call.chunk is None and call.path in CACHEABLE else None
    entry = cache.entry(settings, call.path, content or b"") if cache is not None else ""
    if cache is not None and (stored := cache.get(entry)) is not None:
        recorder.begin()
        recorder.end(status=200, headers=stored[1], cached=True)
        return call.read(*stored)
    retries = int(call.options.get("max_retries", settings.max_retries))
    while True:
        recorder.begin()
        tries_left = recorder.attempt <= retries
        error: errors.APIError
        try:
            reply: Reply = yield send
        except errors.APIConnectionError as failure:
            error = failure
            wait = backoff_s(recorder.attempt - 1) if tries_left else None
            recorder.end(status=None, headers={}, error=type(error).__name__, retry_in_s=wait)
        else:
            if 200 <= reply.status < 300:
                break
            error = errors.from_answer(reply.status, reply.headers, recorder.hide(reply.content))
            wait = wait_s(recorder.attempt - 1, reply.status, reply.headers) if tries_left else None
            recorder.end(status=reply.status, headers=reply.headers, error=type(error).__name__, retry_in_s=wait)
        if wait is None:
            raise error
        yield Pause(wait)
    if call.chunk is not None:
        return OpenStream(reply.response, call.chunk, StreamRecord(recorder, reply.status, reply.headers))
    try:
        result = call.read(reply.content, reply.headers)
    except errors.APIError as problem:
        recorder.end(status=reply.status, headers=reply.headers, error=type(problem).__name__)
        raise
    usage = result.get("usage") if call.path in CACHEABLE else None
    recorder.end(status=reply.status, headers=reply.headers, usage=usage)
    if cache is not None:
        cache.put(entry, (reply.content, reply.headers))
    return result


def encode(body: Any) -> bytes:
    """As JSON. Raises ValueError for NaN and TypeError for what JSON has no word for."""
    try:
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it can be written as an escape only
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _body(call: Call) -> Mapping[str, Any]:
    extra = call.options.get("extra_body")
    return {**(call.body or {}), **extra} if extra else call.body or {}


def _query(call: Call) -> str:
    given = {**(call.query or {}), **(call.options.get("extra_query") or {})}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return ""
    from urllib.parse import urlencode

    return f"?{urlencode({name: _text(value) for name, value in given.items()})}"


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _add_headers(send: Send, call: Call) -> None:
    """Names of headers have any case, so those that are given replace ours in whatever case they are."""
    if call.idempotent:
        import uuid

        send.headers["idempotency-key"] = call.options.get("idempotency_key") or f"auto-{uuid.uuid4()}"
    elif "idempotency_key" in call.options:
        send.headers["idempotency-key"] = call.options["idempotency_key"]
    for name, value in (call.options.get("extra_headers") or {}).items():
        send.headers[name.lower()] = value
