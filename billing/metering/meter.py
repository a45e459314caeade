"""The meter: takes what the gateways told from the usage streams into the ledger (docs/ledger.md).

    read a stream ─▶ decode ─▶ one transaction ─▶ commit ─▶ forget the entries
                       │             │
                       └─ set aside ─┘ the one entry that cannot be metered, with its reason

As many meters as one likes. One may die at any point: what it was given is given to another after ``CLAIM_IDLE_S``,
and what was written already changes nothing. While PostgreSQL or Redis is away it waits and forgets nothing.
"""

import json
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import django.db
import msgspec
import psycopg
from django.db import connection

from billing import events
from billing.admission import redis_keys
from billing.metering import ledger
from billing.metering.usage_streams import Delivery, UsageStreams
from billing.models import UsageReject
from billing.prices import PriceBook
from helixflow.lib import redis

logger = logging.getLogger(__name__)

BATCH: Final = 1_000
POLL_S: Final = 0.2  # between looks at streams that had little
TEND_EVERY_S: Final = 10.0
CLAIM_IDLE_S: Final = 30.0
FORGET_CONSUMERS_S: Final = 3_600.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
CHECK_VIOLATION: Final = "23514"
SAID_EVERY: Final = 12  # tries: about once a minute

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, KeyError, RecursionError)
Result = TypeVar("Result")
Batch = list[tuple[Delivery, ledger.Entry]]


class Stopped(Exception):
    """Asked to end while waiting for a server that is away."""


class DatabaseAway(Exception):
    """PostgreSQL can't be reached, or isn't as it should be: not for anything that an entry says."""


class Meter:
    def __init__(self, *, claim_idle_s: float = CLAIM_IDLE_S) -> None:
        self._streams = UsageStreams()
        self._book = PriceBook()
        self._claim_idle_ms = int(claim_idle_s * 1000)
        self._stopping = False

    def stop(self) -> None:
        """End after the batch in hand. Only sets a flag, so a signal handler may call it."""
        self._stopping = True

    def run(self) -> None:
        """Until stopped."""
        try:
            tended_at = time.monotonic()
            while not self._stopping:
                if self._round() < BATCH:
                    self._pause(POLL_S)
                if time.monotonic() - tended_at >= TEND_EVERY_S:
                    self._tend(self._claim_idle_ms)
                    tended_at = time.monotonic()
            self._streams.leave()
        except (Stopped, redis.RedisError) as error:  # what is left is claimed by another, or by the next start
            logger.warning("the meter ends with work undone: %s", error)

    def drain(self) -> None:
        """Everything there is, also what other meters were given, and no more. Raises Stopped."""
        self._tend(idle_ms=0)
        while self._round() and not self._stopping:
            pass
        self._insist(self._streams.leave)

    def _round(self) -> int:
        """One batch of each stream, in an order of this meter's own. How many entries that were."""
        taken = 0
        for stream in random.sample(self._streams.names, len(self._streams.names)):
            if self._stopping:
                break
            deliveries = self._insist(partial(self._streams.read, stream, BATCH))
            self._take(stream, deliveries)
            taken += len(deliveries)
        return taken

    def _tend(self, idle_ms: int) -> None:
        """Take over what dead meters left, and forget those that left nothing."""
        for stream in self._streams.names:
            for deliveries in self._insist(partial(self._claimed, stream, idle_ms)):
                logger.warning("took over %d entries of %s that were given to a meter before", len(deliveries), stream)
                self._take(stream, deliveries)
            self._insist(partial(self._streams.remove_silent_consumers, stream, int(FORGET_CONSUMERS_S * 1000)))

    def _claimed(self, stream: str, idle_ms: int) -> list[list[Delivery]]:
        return list(self._streams.claim(stream, BATCH, idle_ms))

    def _take(self, stream: str, deliveries: list[Delivery]) -> None:
        """Into the ledger, then out of the stream. Between the two any number of meters may die."""
        if deliveries:
            self._insist(partial(_record, deliveries, self._book))
            self._insist(partial(self._streams.forget, stream, [each.entry_id for each in deliveries]))

    def _insist(self, act: Callable[[], Result]) -> Result:
        """Again and again while a server is away. Raises Stopped."""
        tries, pause = 0, FIRST_PAUSE_S
        while True:
            try:
                result = act()
            except (DatabaseAway, redis.RedisError) as error:
                if tries % SAID_EVERY == 0:
                    logger.warning("the meter waits: %s: %s", type(error).__name__, error)
                self._pause(pause)
                if self._stopping:
                    raise Stopped(str(error)) from error
                tries, pause = tries + 1, min(pause * 2, LONGEST_PAUSE_S)
            else:
                if tries:
                    logger.warning("the meter goes on")
                return result

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))


def put_rejects_back() -> tuple[int, int]:
    """Put what was set aside back into the streams, after what stood in its way was mended: how many, and how many
    still say nothing that could be read.

    As late, which suits each case: without a record it is written as any other, and a reaper's record gives way.
    """
    put_back = unreadable = 0
    for reject in UsageReject.objects.order_by("id").iterator():
        try:
            event = decode({events.EVENT.encode(): bytes(reject.payload)}).event
        except UNREADABLE:
            unreadable += 1
            continue
        name = redis_keys.usage_stream(redis.shard_tag(event.organization_id))
        fields: dict[Any, Any] = {
            events.ORGANIZATION: event.organization_id.hex,
            events.EVENT: bytes(reject.payload),
            events.LATE: "1",
        }
        redis.sync_client().xadd(name, fields)  # before the row goes: twice in the stream is once in the ledger
        reject.delete()
        put_back += 1
    return put_back, unreadable


def _record(deliveries: list[Delivery], book: PriceBook) -> None:
    """Into the ledger or, one by one, aside. Raises DatabaseAway: then some of it may be written, and none is lost."""
    try:
        batch: Batch = []
        for delivery in deliveries:
            try:
                batch.append((delivery, decode(delivery.fields)))
            except UNREADABLE as error:
                _set_aside(delivery, error)
        batch.sort(key=lambda pair: pair[1].late)  # also across the halves of a batch that is divided
        _write(batch, book)
    except django.db.Error as error:
        connection.close()  # the next try begins on a new one
        raise DatabaseAway(str(error).strip()) from error


def _write(batch: Batch, book: PriceBook) -> None:
    """The whole batch, else each half of it, down to the one entry that cannot be metered."""
    if not batch:
        return
    try:
        ledger.write((entry for _, entry in batch), book=book)
    except Exception as error:
        if _was_on_its_way_to_another_partition(error):
            _write(batch, book)
            return
        if not _is_for_its_data(error):
            raise
        if len(batch) == 1:
            _set_aside(batch[0][0], error)
            return
        middle = len(batch) // 2
        _write(batch[:middle], book)
        _write(batch[middle:], book)


def decode(fields: dict[bytes, bytes]) -> ledger.Entry:
    """Raises one of UNREADABLE."""
    payload = fields[events.EVENT.encode()]
    try:
        event = events.decode(payload)
    except msgspec.DecodeError:
        # Stray surrogates, which a stricter reader refuses; the ledger cleans them.
        event = msgspec.convert(json.loads(payload.decode(errors="replace")), events.Event)
    return ledger.Entry(event, late=events.LATE.encode() in fields)


def _set_aside(delivery: Delivery, error: Exception) -> None:
    said = str(error).partition("\n")[0]  # what follows PostgreSQL's first line can be the row itself
    reason = ledger.clean(f"{type(error).__name__}: {said}")
    payload = delivery.fields.get(events.EVENT.encode(), repr(delivery.fields).encode())
    reject = UsageReject(stream=delivery.stream, entry_id=delivery.entry_id, payload=payload, reason=reason)
    UsageReject.objects.bulk_create([reject], ignore_conflicts=True)
    logger.error("set aside entry %s of %s: %s", delivery.entry_id, delivery.stream, reason)


def _is_for_its_data(error: Exception) -> bool:
    """Whether this entry can never be written, while others can.

    Of what PostgreSQL says: data exceptions, limits of size, a check. Anything else, such as a column that is missing
    while a new version is being rolled out, is no fault of the entry, and passes.
    """
    if not isinstance(error, django.db.Error):
        return True
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state[:2] in {"22", "54"} or state == CHECK_VIOLATION


def _was_on_its_way_to_another_partition(error: Exception) -> bool:
    """The default one's, which takes no more of a month whose own was made meanwhile. A check proper has a name."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate == CHECK_VIOLATION and cause.diag.constraint_name is None
