"""Handing over many requests and waiting for them, without input and output: generators as in ``_calls``."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, Generator, Iterable, List, Mapping, Union

from helixflow import _endpoints, errors
from helixflow._calls import Call, Pause, encode
from helixflow._pages import Page
from helixflow.types.responses import Batch, BatchResult, ChatCompletion, Completion, Embeddings, Response

INLINE_REQUESTS = 1000
INLINE_BYTES = 8_000_000
FIRST_POLL_S = 0.5
LONGEST_POLL_S = 10.0
LONGEST_LOOK_S = 60.0  # so long the API may take to say how a batch is, where there is a time to keep
OUT_OF_REACH_S = 600.0  # so long the API may be away while a batch is waited for
ENDPOINT = "/v1/chat/completions"

Steps = Generator[Union[Call, Pause], Any, Any]
Progress = Union[Callable[[Batch], object], bool, None]
_KINDS: Dict[str, type[Response]] = {
    "chat.completion": ChatCompletion,
    "text_completion": Completion,
    "list": Embeddings,
}


class BatchResults(List[BatchResult]):
    """In the order of the requests. ``batch`` is the batch as it ended."""

    def __init__(self, results: Iterable[BatchResult], batch: Batch) -> None:
        super().__init__(results)
        self.batch = batch

    @property
    def succeeded(self) -> list[BatchResult]:
        return [result for result in self if result.error is None]

    @property
    def failed(self) -> list[BatchResult]:
        return [result for result in self if result.error is not None]

    def __repr__(self) -> str:
        return f"<BatchResults of {self.batch.id}: {len(self.succeeded)} succeeded, {len(self.failed)} failed>"


def process(
    requests: Iterable[Mapping[str, Any]],
    *,
    endpoint: str | None,
    metadata: Mapping[str, str] | None,
    timeout: float | None,
    progress: Progress,
    options: Mapping[str, Any],
) -> Steps:
    """Make, wait, and get the results. See Batches.process."""
    until = None if timeout is None else time.monotonic() + timeout
    batch = yield from _create(list(requests), endpoint, metadata, options)
    batch = yield from _wait(batch, until, progress)
    return (yield from _results(batch))


def wait(batch_id: str, *, timeout: float | None, progress: Progress) -> Steps:
    until = None if timeout is None else time.monotonic() + timeout
    batch = yield from _look(batch_id, until)
    return (yield from _wait(batch, until, progress))


def results(batch_id: str) -> Steps:
    return (yield from _results((yield from _look(batch_id, None))))


def _create(
    requests: list[Mapping[str, Any]],
    endpoint: str | None,
    metadata: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> Steps:
    params: dict[str, Any] = {**({"metadata": metadata} if metadata is not None else {}), **options}
    if len(requests) <= INLINE_REQUESTS and sum(len(encode(request)) for request in requests) <= INLINE_BYTES:
        where = {"endpoint": endpoint} if endpoint is not None else {}
        return (yield _endpoints.batch_create({"requests": requests, **where, **params}))
    url = endpoint or ENDPOINT
    content = b"".join(_line(number, request, url) for number, request in enumerate(requests, 1))
    file = yield _endpoints.file_create(("batch.jsonl", content), "batch", {})
    params = {"input_file_id": file.id, "endpoint": url, "completion_window": "24h", **params}
    return (yield _endpoints.batch_create(params))


def _line(number: int, request: Mapping[str, Any], url: str) -> bytes:
    body = {name: value for name, value in request.items() if name != "custom_id"}
    custom_id = request.get("custom_id") or f"request-{number}"
    return encode({"custom_id": custom_id, "method": "POST", "url": url, "body": body}) + b"\n"


def _wait(batch: Batch, until: float | None, progress: Progress) -> Steps:
    tell = _teller(progress)
    pause = FIRST_POLL_S
    try:
        tell(batch)
        while not batch.is_done:
            yield from _rest(batch.id, until, pause)
            pause = min(pause * 1.5, LONGEST_POLL_S)
            batch = yield from _look(batch.id, until)
            tell(batch)
    finally:
        if isinstance(tell, Line):
            tell.end()
    return batch


def _look(batch_id: str, until: float | None) -> Steps:
    return (yield from _patiently(_endpoints.batch(batch_id, {}), batch_id, until))


def _patiently(call: Call, batch_id: str, until: float | None) -> Steps:
    """The batch goes on while nobody looks, so losing sight of it for a while is no reason to give up."""
    give_up_at = time.monotonic() + OUT_OF_REACH_S
    pause = FIRST_POLL_S
    while True:
        if until is not None:  # nor must an API that doesn't answer keep its callers beyond their time
            left = max(until - time.monotonic(), 1.0)
            call.options = {"timeout": min(left, LONGEST_LOOK_S), "max_retries": 0}
        try:
            return (yield call)
        except errors.InsufficientQuotaError:
            raise
        except (errors.APIConnectionError, errors.ServerError, errors.RateLimitError) as error:
            if time.monotonic() > give_up_at:
                raise
            asked = error.retry_after or 0.0
        yield from _rest(batch_id, until, max(pause, asked))
        pause = min(pause * 2, LONGEST_POLL_S)


def _rest(batch_id: str, until: float | None, pause: float) -> Steps:
    left = pause if until is None else until - time.monotonic()
    if left <= 0:
        raise errors.BatchTimeoutError(
            f"Batch {batch_id} hasn't ended within the timeout. It goes on: wait for it by its id.", batch_id=batch_id
        )
    yield Pause(min(pause, left))


def _results(batch: Batch) -> Steps:
    if batch.status == "failed":
        raise _failure(batch)
    found: list[BatchResult] = []
    call: Call | None = _endpoints.batch_results(batch.id, {"limit": 1000})
    while call is not None:
        page: Page[Response] = yield from _patiently(call, batch.id, None)
        found += map(result, page["data"])
        call = page._next
    return BatchResults(found, batch)


def result(entry: Mapping[str, Any]) -> BatchResult:
    """One line of a batch's results, or of its output or error file."""
    answer = entry.get("response") or {}
    status, body = answer.get("status_code"), answer.get("body")
    told = entry.get("error")
    headers = {"x-request-id": answer["request_id"]} if answer.get("request_id") else {}
    response: Response | None = None
    error: errors.APIError | None = None
    if told is not None or (status or 0) >= 400:
        refused = isinstance(body, dict) and "error" in body
        error = errors.from_body(body if refused else {"error": told}, status=status, headers=headers)
    elif isinstance(body, dict):
        response = _KINDS.get(str(body.get("object")), Response).read(body)
        response._headers = headers
    else:
        error = errors.APIResponseError("The batch has neither answer nor error for this request.")
    return BatchResult(id=entry.get("id"), custom_id=str(entry.get("custom_id")), response=response, error=error)


def _failure(batch: Batch) -> errors.BatchError:
    problems = batch.errors.data if batch.errors is not None and batch.errors.data else []
    told = "; ".join(f"line {each.line}: {each.message}" if each.line else str(each.message) for each in problems[:5])
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    first = problems[0] if problems else Response()
    return errors.BatchError(
        f"Batch {batch.id} failed: {told or 'no reason was given'}{more}",
        batch=batch,
        code=first.get("code"),
        param=first.get("param"),
    )


def _teller(progress: Progress) -> Callable[[Batch], object]:
    if callable(progress):
        return progress
    if progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
        return Line()
    return lambda batch: None


class Line:
    """One line on stderr that rewrites itself; a line for each state where nothing can be rewritten."""

    def __init__(self) -> None:
        self._is_open = False

    def __call__(self, batch: Batch) -> None:
        counts = batch.request_counts
        done, total, failed = ((counts.get(name, 0) if counts else 0) for name in ("completed", "total", "failed"))
        text = f"{batch.id}: {batch.status}, {done + failed}/{total} done" + (f", {failed} failed" if failed else "")
        self._is_open = sys.stderr.isatty()
        sys.stderr.write(f"\r\x1b[2K{text}" if self._is_open else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """What is told next begins on a line of its own."""
        if self._is_open:
            sys.stderr.write("\n")
        self._is_open = False
