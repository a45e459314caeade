"""Sending: prepare (pure) → one call → record. See ``webhooks.queue`` for who may send what when."""

import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from helixflow.lib import crypto, http, ids
from webhooks import payloads, queue, schedule, signing
from webhooks.models import Endpoint

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 * 1024
KEPT_BYTES: Final = 20_000
KEPT_HEADERS: Final = 50
KEPT_HEADER: Final = 500  # characters
USER_AGENT: Final = "HelixFlow-Webhooks/1.1"
GONE: Final = 410
TURN_S: Final = 1.0
QUICK_MS: Final = 50

# error_code of an attempt that was answered; without an answer it is one of helixflow.lib.http's.
REDIRECT: Final = "redirect"
BAD_STATUS: Final = "status"
TOO_LONG: Final = "answer_too_long"
SECRET_LOST: Final = "secret_lost"  # noqa: S105  # a code, no secret

WARY_LANES: Final = 16  # half of the threads that `manage.py up` gives a deliverer
SLOW: Final = 1 / 3  # of the time that a call may take: a lane that holds its thread for longer is slow
SLOW_FOR_S: Final = 300  # after a slow lane, however quick those after it are

stopping = threading.Event()  # set when the worker is to end
# Of one that fails, or takes its time to succeed, the next call may hang too: however many of them there are, others
# find a thread.
_wary = threading.BoundedSemaphore(WARY_LANES)
_slow: dict[uuid.UUID, float] = {}  # endpoints, each until when (monotonic)


@dataclass(frozen=True, slots=True)
class Prepared:
    url: str
    headers: dict[str, str]
    body: bytes


def work(endpoint_id: uuid.UUID) -> int:
    """A worker thread's turn at an endpoint: lanes one after another while there is more. How many were sent.

    A turn is short, so that those with a backlog take turns, and longer than a lane, which takes milliseconds where the
    receiver is quick: a message for each would cost as much as the calls.
    """
    turn_ends_at = time.monotonic() + TURN_S
    sent = 0
    while True:
        tried, more = _claim_and_send(endpoint_id)
        sent += tried
        if not more or stopping.is_set() or time.monotonic() >= turn_ends_at:
            break
    if more:
        queue.nudge(endpoint_id)
    return sent


def _claim_and_send(endpoint_id: uuid.UUID) -> tuple[int, bool]:
    """How many were sent, and whether there may be more. The endpoint is read anew: it may have been changed."""
    endpoint = Endpoint.objects.filter(id=endpoint_id, deleted_at=None).first()
    if endpoint is None:
        return 0, False
    if endpoint.failing_since is None and _slow.get(endpoint.id, 0) <= time.monotonic():
        return _Lane(endpoint).run(for_s=settings.WEBHOOK_TIMEOUT_S * SLOW)
    if not _wary.acquire(blocking=False):
        return 0, False  # the sweeper tells of it again
    try:
        return _Lane(endpoint).run(for_s=settings.WEBHOOK_LEASE_S / 4)
    finally:
        _wary.release()


class _Lane:
    """What was claimed of an endpoint's, sent one after another.

    Of a backlog quick successes are written down together; where a worker dies before that, they are sent again.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lease, self._claimed = queue.claim(endpoint)
        self._is_full = len(self._claimed) == queue.BATCH
        self._started = time.monotonic()
        self._successes: list[tuple[queue.Claimed, queue.Outcome]] = []
        self._again: set[int] = set()
        self._wanted = True

    def run(self, *, for_s: float) -> tuple[int, bool]:
        """How many were sent, and whether there may be more.

        Ends after ``for_s``, or where the endpoint is not to be sent to any more, and gives back what it did not try.
        """
        sent = 0
        for sent, delivery in enumerate(self._claimed, start=1):  # noqa: B007  # counted for what follows
            self._send(delivery)
            if self._took_s >= settings.WEBHOOK_TIMEOUT_S * SLOW:
                _note_slow(self._endpoint.id)
            if not self._wanted or stopping.is_set() or self._took_s >= for_s:
                break
        self._record_successes()
        if sent < len(self._claimed):
            queue.release(self._lease)
        for delay_s in sorted(self._again):
            if delay_s <= queue.LONGEST_COUNTDOWN_S:
                queue.nudge(self._endpoint.id, after_s=delay_s)
        return sent, self._wanted and (sent < len(self._claimed) or self._is_full)

    @property
    def _took_s(self) -> float:
        return time.monotonic() - self._started

    def _send(self, delivery: queue.Claimed) -> None:
        outcome = attempt(self._endpoint, delivery)
        if outcome.succeeded:
            self._successes.append((delivery, outcome))
            if not self._is_full or outcome.duration_ms > QUICK_MS:
                self._record_successes()
            return
        self._record_successes()
        delay_s = _delay_s(delivery, outcome)
        next_attempt_at = None
        if delay_s is not None:
            next_attempt_at = timezone.now() + timedelta(seconds=delay_s)
            self._again.add(math.ceil(delay_s))
        self._wanted = queue.record(
            lease=self._lease,
            endpoint=self._endpoint,
            delivery=delivery,
            outcome=outcome,
            next_attempt_at=next_attempt_at,
        )

    def _record_successes(self) -> None:
        successes, self._successes = self._successes, []
        if successes:
            self._wanted = queue.record_successes(lease=self._lease, endpoint=self._endpoint, successes=successes)


def prepare(*, endpoint: Endpoint, delivery: queue.Claimed, now: datetime) -> Prepared:
    """Raises crypto.Undecryptable."""
    body = payloads.body(event_type=delivery.event_type, created_at=delivery.created_at, data=delivery.data)
    signed = signing.headers(
        body=body,
        event_id=ids.public_id(ids.EVENT, delivery.event_id),
        timestamp=int(now.timestamp()),
        secret=endpoint.secret,
        previous_secret=endpoint.previous_secret,
    )
    return Prepared(endpoint.url, {"Content-Type": "application/json", "User-Agent": USER_AGENT} | signed, body)


def _note_slow(endpoint_id: uuid.UUID) -> None:
    now = time.monotonic()
    for each, until in list(_slow.items()):  # deleted ones among them, which nobody asks for again
        if until <= now:
            _slow.pop(each, None)
    _slow[endpoint_id] = now + SLOW_FOR_S


def attempt(endpoint: Endpoint, delivery: queue.Claimed) -> queue.Outcome:
    """One call. Never raises for what the receiver does."""
    started_at, started = timezone.now(), time.monotonic()
    try:
        prepared = prepare(endpoint=endpoint, delivery=delivery, now=started_at)
    except crypto.Undecryptable:
        logger.exception("the secret of endpoint %s can't be opened", endpoint.public_id)
        error = "The signing secret can't be opened. Rotate it, or ask support."
        return queue.Outcome(started_at, 0, endpoint.url, {}, error_code=SECRET_LOST, error=error)
    try:
        answer = http.post(
            prepared.url,
            body=prepared.body,
            headers=prepared.headers,
            timeout_s=settings.WEBHOOK_TIMEOUT_S,
            read_bytes=READ_BYTES,
        )
    except http.CallFailed as failure:
        return queue.Outcome(
            started_at,
            _ms_since(started),
            prepared.url,
            prepared.headers,
            address=failure.address,
            error_code=failure.code,
            error=failure.message,
        )
    error_code, error = judge(answer)
    return queue.Outcome(
        started_at,
        _ms_since(started),
        prepared.url,
        prepared.headers,
        address=answer.address,
        status=answer.status,
        response_headers=_kept(answer.headers),
        response_body=_storable(answer.body[:KEPT_BYTES].decode(errors="replace")),
        response_truncated=answer.truncated or len(answer.body) > KEPT_BYTES,
        error_code=error_code,
        error=error,
    )


def judge(answer: http.Answer) -> tuple[str, str]:
    """What is wrong with an answer, as a code and in words; two empty ones if nothing is."""
    if 200 <= answer.status < 300:
        kib = READ_BYTES // 1024
        too_long = f"The answer is longer than {kib} KiB. Answer with a status and an empty body."
        return (TOO_LONG, too_long) if answer.truncated else ("", "")
    if 300 <= answer.status < 400:
        return REDIRECT, f"The receiver answered {answer.status}. Redirects are not followed: enter the final URL."
    if answer.status == GONE:
        return BAD_STATUS, "The receiver answered 410 Gone, which says that it wants no more events."
    return BAD_STATUS, f"The receiver answered {answer.status}. Any 2xx is a success."


def _delay_s(delivery: queue.Claimed, outcome: queue.Outcome) -> float | None:
    headers = {name.lower(): value for name, value in (outcome.response_headers or {}).items()}
    return schedule.delay_s(
        delivery.step + 1,
        delays_s=settings.WEBHOOK_DELAYS_S[:1] if delivery.test else settings.WEBHOOK_DELAYS_S,
        chance=random.random(),  # noqa: S311  # spreads load
        retry_after_s=schedule.retry_after_s(headers.get("retry-after"), now=timezone.now()),
    )


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {_storable(name): _storable(value[:KEPT_HEADER]) for name, value in list(headers.items())[:KEPT_HEADERS]}


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, nor half of a surrogate pair."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)
