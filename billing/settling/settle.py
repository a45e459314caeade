"""Settlement: closes what was admitted, off the callers' path and batched, and never loses one.

``settle`` only queues. A task sends the queue every few milliseconds, one script call a shard; what Redis doesn't take
goes to the spool, and back from there. What Redis took within the last seconds is kept, and sent again to a Redis that
was restarted, as it may have lost its last second, or flushed. Repeats are harmless, as the meter knows ids.
"""

import asyncio
import logging
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from django.conf import settings

from billing import events
from billing.admission import limits, lua, notes, redis_keys
from billing.admission.limits import Verdict
from billing.settling.settlement import Settlement
from billing.settling.spool import Spool
from helixflow.lib import ids, metrics, pipelined_redis, redis

logger = logging.getLogger(__name__)

FLUSH_EVERY_S: Final = 0.003
MARK_EVERY_S: Final = 0.05
BATCH: Final = 100
KEEP_S: Final = 10.0
HEARTBEAT_LIFE_S: Final = 20
ADOPT_EVERY_S: Final = 30.0
TEND_EVERY_S: Final = 1.0

_settle = pipelined_redis.Script(lua.source("settle"))
_mark = pipelined_redis.Script(lua.source("mark"))
_beat = pipelined_redis.Script("return redis.call('SET', KEYS[1], '1', 'EX', ARGV[1], 'GET') and 1 or 0")
_end = pipelined_redis.Script("redis.call('DEL', KEYS[1])")
_tell = pipelined_redis.Script(
    "for i = 1, #ARGV, 2 do redis.call('XADD', KEYS[1], '*', 'o', ARGV[i], 'e', ARGV[i + 1]) end"
)


def heartbeat_key(process: str) -> str:
    return f"gateway:{process}"


# Organization, API key, epoch minute, reason → how many, the limit they met
_Refusals = dict[tuple[uuid.UUID, uuid.UUID, int, str], tuple[int, int]]


class Lasting(Protocol):
    """A request that may last: how far it got is added to its note."""

    request_id: uuid.UUID
    organization_id: uuid.UUID

    def mark(self) -> notes.Mark: ...


class Settler:
    """One a gateway process. Everything but ``start`` and ``stop`` returns at once."""

    def __init__(self) -> None:
        self.process = uuid.uuid4().hex[:16]
        self.spool = Spool(settings.DATA_DIR / "spool", self.process)
        self._queue: list[Settlement] = []
        self._recent: deque[tuple[float, list[Settlement]]] = deque()
        self._refusals: _Refusals = {}
        self._told: set[tuple[uuid.UUID, uuid.UUID, int, str]] = set()
        self._touched: dict[Lasting, None] = {}
        self._lasting: dict[Lasting, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        self._epoch = 0
        self._tended = False

    async def start(self) -> None:
        self._flushing = asyncio.create_task(self._keep_flushing())
        self._tasks = [
            asyncio.create_task(self._every(MARK_EVERY_S, self._send_marks)),
            asyncio.create_task(self._every(TEND_EVERY_S, self._tend)),
            # Apart from tending: after a long absence it takes longer than a heartbeat lives.
            asyncio.create_task(self._every(TEND_EVERY_S, self._replay)),
            asyncio.create_task(self._every(ADOPT_EVERY_S, self._adopt)),
        ]

    async def stop(self) -> None:
        """What is queued is sent, or on disk, when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stopping = True
        self._wake.set()
        if self._flushing is not None:
            await self._flushing
        with suppress(redis.RedisError):
            await self._send_refusals()
        await self._replay()
        await asyncio.to_thread(self.spool.close)
        with suppress(redis.RedisError):
            await _end.run((heartbeat_key(self.process),))

    @property
    def queue_length(self) -> int:
        return len(self._queue)

    def admitted_here(self, settlement: Settlement) -> None:
        """Redis is away and has no note: the spool holds how this request ends if this process dies first."""
        self.spool.begin(settlement)

    def settle(self, settlement: Settlement, *, spooled: bool = False) -> None:
        """``spooled``: it began with ``admitted_here``, so it ends there too."""
        if spooled:
            self.spool.end(settlement)
            return
        self._queue.append(settlement)
        self._wake.set()

    def cancel(self, verdict: Verdict, request_id: uuid.UUID) -> None:
        """A request that was refused here, though Redis may have admitted it: an answer came too late."""
        snapshot = verdict.snapshot
        self.settle(Settlement(request_id, snapshot.organization_id, snapshot.key_id, verdict.month, 0, verdict.leased))

    def refused(self, verdict: Verdict) -> None:
        snapshot = verdict.snapshot
        name = (snapshot.organization_id, snapshot.key_id, verdict.now // 60, verdict.reason)
        count, _ = self._refusals.get(name, (0, 0))
        self._refusals[name] = (count + 1, verdict.limit_met)
        metrics.refused(verdict.reason)

    def touch(self, request: Lasting) -> None:
        """Its mark changed. It is told if the request goes on for a while: most are settled sooner."""
        self._touched[request] = None

    def forget(self, request: Lasting) -> None:
        self._touched.pop(request, None)
        self._lasting.pop(request, None)

    async def _keep_flushing(self) -> None:
        """Never cancelled: what was taken from the queue is in nobody else's hands."""
        while not self._stopping or self._queue:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_EVERY_S)
            if not self._stopping:
                self._wake.clear()
            await self._flush()

    async def _every(self, seconds: float, work: Any) -> None:
        while True:
            try:
                await work()
            except redis.RedisError:
                limits.breaker.failed()
            except Exception:  # the next round tries again; a task that ended would settle nothing any more
                logger.exception("the settler failed")
            await asyncio.sleep(seconds)

    async def _flush(self) -> None:
        queue, self._queue = self._queue, []
        if not queue:
            return
        try:
            if not limits.breaker.is_open:
                queue = await self._send(queue)
        except Exception:  # what was sent already is sent again: better than lost
            logger.exception("settling failed")
        for settlement in queue:
            self.spool.end(settlement)

    async def _send(self, settlements: list[Settlement]) -> list[Settlement]:
        """Those that Redis did not take; whether it did is not always known."""
        left: list[Settlement] = []
        away: set[str] = set()
        for keys, arguments, batch in calls(settlements):
            if keys[0] in away or limits.breaker.is_open:  # a hanging Redis must not be waited for once a batch
                left += batch
                continue
            try:
                await _settle.run(keys, *arguments)
            except redis.RedisError as error:
                limits.breaker.failed()
                away.add(keys[0])
                logger.warning("%d requests could not be settled, they are spooled: %s", len(batch), error)
                left += batch
            else:
                self._recent.append((time.monotonic(), batch))
        return left

    async def _send_or_raise(self, settlements: list[Settlement]) -> None:
        """For the spool, which keeps what this raises for."""
        if await self._send(settlements):
            raise redis.RedisError("Redis is away")

    async def _tend(self) -> None:
        """Once a second; with nobody calling, too, somebody has to notice that Redis is back."""
        if not limits.breaker.allows():
            return
        known = await _beat.run((heartbeat_key(self.process),), HEARTBEAT_LIFE_S)
        limits.breaker.succeeded()
        reached = await pipelined_redis.reach_all()  # in a cluster the beat went to one node of several
        epoch = pipelined_redis.epoch()
        if self._recent and (epoch != self._epoch or (self._tended and not known)):
            await self._send_again()
        self._epoch, self._tended = epoch, True
        # Only now: while Redis is away nothing of what it may have lost is forgotten.
        now = time.monotonic()
        while reached and self._recent and now - self._recent[0][0] > KEEP_S:
            self._recent.popleft()
        await self._send_refusals()

    async def _send_again(self) -> None:
        recent = [settlement for _, batch in self._recent for settlement in batch]
        self._recent.clear()
        logger.warning("Redis was restarted or flushed: %d settlements are sent again", len(recent))
        for settlement in await self._send(recent):
            self.spool.end(settlement)

    async def _replay(self) -> None:
        if self.spool.pending_lines and not limits.breaker.is_open:
            with suppress(redis.RedisError):
                await self.spool.replay(self._send_or_raise)

    async def _adopt(self) -> None:
        if not limits.breaker.is_open:
            await self.spool.adopt(self._send_or_raise)

    async def _send_marks(self) -> None:
        """Of requests that have lasted for one round at least. While Redis is away they wait."""
        if limits.breaker.is_open:
            return
        lasting, self._lasting, self._touched = self._lasting, self._touched, {}
        marks: defaultdict[str, list[str | bytes]] = defaultdict(list)
        for request in lasting:
            tag = redis.shard_tag(request.organization_id)
            marks[tag] += (request.request_id.hex, msgspec.json.encode(request.mark()))
        try:
            for tag, arguments in marks.items():
                for some in _chunks(arguments, 2 * BATCH):
                    await _mark.run((redis_keys.notes(tag),), *some)
        except redis.RedisError:
            self._lasting |= lasting  # of those settled meanwhile no note is left to mark
            raise

    async def _send_refusals(self) -> None:
        if limits.breaker.is_open:
            return
        due = self._due_refusals(all_of_them=self._stopping)
        if not due:
            return
        try:
            await self._tell_refusals(due)
        except redis.RedisError:
            for name, (count, limit) in due.items():  # perhaps told already: better twice than not at all
                self._refusals[name] = (self._refusals.get(name, (0, 0))[0] + count, limit)
                self._told.discard(name)
            raise

    def _due_refusals(self, *, all_of_them: bool) -> "_Refusals":
        """The first of a key, minute and reason at once, the rest when its minute is over: two rows, not sixty."""
        minute = int(time.time() + limits.clock_offset_s) // 60
        due = {
            name: counted
            for name, counted in self._refusals.items()
            if all_of_them or name not in self._told or name[2] < minute
        }
        for name in due:
            del self._refusals[name]
        self._told = {name for name in self._told | due.keys() if name[2] >= minute - 1}
        return due

    async def _tell_refusals(self, refusals: "_Refusals") -> None:
        by_tag: defaultdict[str, list[str | bytes]] = defaultdict(list)
        for (organization_id, api_key_id, minute, reason), (count, limit) in refusals.items():
            event = events.Refused(
                id=ids.uuid7(),
                organization_id=organization_id,
                api_key_id=api_key_id,
                minute=minute,
                reason=reason,
                count=count,
                limit=limit,
            )
            by_tag[redis.shard_tag(organization_id)] += (organization_id.hex, events.encode(event))
        for tag, arguments in by_tag.items():
            for some in _chunks(arguments, 2 * BATCH):
                await _tell.run((redis_keys.usage_stream(tag),), *some)


def calls(
    settlements: Iterable[Settlement],
) -> Iterator[tuple[tuple[str, ...], list[str | bytes | int], list[Settlement]]]:
    """Keys and arguments of settle.lua, and what they close."""
    by_tag: defaultdict[str, list[Settlement]] = defaultdict(list)
    for settlement in settlements:
        by_tag[_names(settlement.organization_id.int, settlement.month).tag].append(settlement)
    for tag, all_of_shard in by_tag.items():
        for batch in _chunks(all_of_shard, BATCH):
            keys = [redis_keys.notes(tag), redis_keys.usage_stream(tag)]
            arguments: list[str | bytes | int] = ["0"]
            for one in batch:
                names = _names(one.organization_id.int, one.month)
                keys += (names.month, names.parallel)
                arguments += (
                    *(one.id.hex, names.organization, one.api_key_id.hex),
                    *(one.units, int(one.leased), bytes(one.payload)),
                )
            yield tuple(keys), arguments, batch


class _Names(NamedTuple):
    tag: str
    organization: str
    month: str
    parallel: str


@lru_cache(maxsize=10_000)
def _names(organization: int, month: int) -> _Names:
    """By the number of the organization's id: numbers are found ten times as fast as UUIDs."""
    organization_id = uuid.UUID(int=organization)
    return _Names(
        redis.shard_tag(organization_id),
        organization_id.hex,
        redis_keys.month(organization_id, month),
        redis_keys.parallel(organization_id),
    )


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
