"""``Idempotency-Key``: a request that is sent again gets the first one's answer, also while that is under way.

The first caller of a key becomes its owner and holds a lease in Redis, renewed for as long as the process lives. Others
with the same body wait: in the same process for the owner itself, in another for what becomes of the lease. Then they
have the answer, or, where the owner failed or died, one of them is the next owner (docs/idempotency.md).
"""

import asyncio
import hashlib
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from helixflow.lib import errors, redis
from inference.keeping import room
from inference.keeping.kept import MAX_BODY, KeptAnswer
from inference.keeping.sealing import Seal, Unopenable

logger = logging.getLogger(__name__)

HEADER: Final = "Idempotency-Key"
MAX_KEY: Final = 255
AUTO: Final = "auto-"  # keys that SDKs make up by themselves
LIFE_S: Final = 24 * 3600
AUTO_LIFE_S: Final = 600
LEASE_S: Final = 15.0
RENEW_EVERY_S: Final = 5.0
MAX_WAIT_S: Final = 600.0
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.25
TRY_STORING_S: Final = 60.0  # while Redis is away
MAX_UNSTORED: Final = 32

TOO_LARGE: Final = "large"
LOST: Final = "dropped"  # as lua/room.lua says it

_claim = room.script("claim")
_renew = room.script("renew")
_release = room.script("release")
_finish = room.script("room", "finish")


def fingerprint(path: str, body: bytes) -> bytes:
    """Of the operation and its body: what has to be the same when a key comes again."""
    return hashlib.sha256(path.encode() + b"\0" + body).digest()


@dataclass(frozen=True, slots=True)
class _Record:
    """One key of one API key, and what its caller asks."""

    organization_id: uuid.UUID
    seal: Seal
    fingerprint: bytes
    auto: bool

    @classmethod
    def of(cls, organization_id: uuid.UUID, api_key_id: uuid.UUID, key: str, fingerprint: bytes) -> Self:
        """Raises InvalidRequest."""
        if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise errors.InvalidRequest(f"{HEADER} must be 1 to {MAX_KEY} printable ASCII characters.", param=HEADER)
        seal = Seal.of_idempotency_key(organization_id, api_key_id, key)
        return cls(organization_id, seal, seal.fingerprint(fingerprint), key.startswith(AUTO))

    @property
    def key(self) -> str:
        return room.key(self.organization_id, self.seal.name)


@dataclass(eq=False, slots=True)
class _Flight:
    """One key in this process, from the first who asks for it until its answer is stored or it is free again.

    ``asked`` once it is known whether it is owned here, ``ended`` with what came of it: None if the key is free.
    """

    record: _Record
    owner: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    owned: bool = False
    asked: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ended: asyncio.Future[KeptAnswer | str | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    ended_at: float = 0.0
    unstored: bytes = b""  # what Redis has not taken yet

    @property
    def lease(self) -> bytes:
        return self.record.fingerprint + self.owner

    def end(self, outcome: KeptAnswer | str | None) -> None:
        """``outcome`` is the answer, why it is not there, or None. Whoever waits here has it at once."""
        self.ended_at = time.monotonic()
        if not self.asked.done():
            self.asked.set_result(None)
        if not self.ended.done():
            self.ended.set_result(outcome)


class Lease:
    """The key is this request's: it has to be finished or released. The first of the two counts."""

    __slots__ = ("_claims", "_flight")

    def __init__(self, claims: "Claims", flight: _Flight) -> None:
        self._claims = claims
        self._flight = flight

    async def finish(self, answer: KeptAnswer | None) -> None:
        """Keep the answer; None: it was too large. Never raises, and is done even if the caller is cancelled."""
        if not self._flight.ended.done():
            kept = answer if answer is not None and len(answer.body) <= MAX_BODY else None
            await self._claims.spawn(self._claims.keep(self._flight, answer or TOO_LARGE, kept))

    async def release(self) -> None:
        """Free the key: nothing came of the request. As ``finish`` otherwise."""
        if not self._flight.ended.done():
            await self._claims.spawn(self._claims.free(self._flight))


class Claims:
    """Those of one process and event loop."""

    def __init__(self, *, lease_s: float = LEASE_S, renew_every_s: float = RENEW_EVERY_S) -> None:
        self._lease_ms = int(lease_s * 1000)
        self._renew_every_s = renew_every_s
        self._flights: dict[str, _Flight] = {}
        self._tending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def claim(
        self,
        *,
        organization_id: uuid.UUID,
        api_key_id: uuid.UUID,
        key: str,
        fingerprint: bytes,
        wait_until: float | None = None,
    ) -> Lease | KeptAnswer | None:
        """A lease for the first caller, the answer for the others. None: go on without, as Redis is away and nobody
        asked for the key by hand.

        ``wait_until`` is on the monotonic clock. Raises InvalidRequest (a bad key, another body, or an answer that was
        not kept), ServiceUnavailable while Redis is away, and UpstreamTimeout after a long wait.
        """
        record = _Record.of(organization_id, api_key_id, key, fingerprint)
        until = time.monotonic() + MAX_WAIT_S
        if wait_until is not None:
            until = min(until, wait_until)
        while (flight := self._flights.get(record.key)) is not None:
            outcome = await _join(flight, record, until)
            if outcome is not None:
                return _answer(outcome)
        return await self._ask(record, until)

    async def close(self) -> None:
        """Free what is still held: the process stops."""
        if self._tending is not None:
            self._tending.cancel()
        held = [flight for flight in self._flights.values() if flight.owned and not flight.ended.done()]
        await asyncio.gather(*(self.free(flight) for flight in held))
        await asyncio.gather(*self._tasks)

    async def _ask(self, record: _Record, until: float) -> Lease | KeptAnswer | None:
        """In the name of all in this process that have this key."""
        flight = self._flights[record.key] = _Flight(record)
        try:
            found = await self._ask_redis(flight, until)
        except BaseException as problem:
            self._forget(flight)
            if not isinstance(problem, errors.HelixError):
                self.spawn(self._release(flight))  # Redis may have heard, and was not heard
            if not isinstance(problem, redis.RedisError):
                raise
            if record.auto:
                return None
            raise errors.ServiceUnavailable(
                f"{HEADER} can't be honoured right now. Try again, or leave the header out.", retry_after=2
            ) from None
        if found is None:
            flight.owned = True
            flight.asked.set_result(None)
            self._tend()
            return Lease(self, flight)
        self._forget(flight, found)
        return _answer(found)

    async def _ask_redis(self, flight: _Flight, until: float) -> KeptAnswer | str | None:
        """The answer, why it is not there, or None once the key is this flight's."""
        record = flight.record
        pause = FIRST_PAUSE_S
        while True:
            outcome, rest = await room.run(_claim, (record.key,), record.fingerprint, flight.owner, self._lease_ms)
            match outcome:
                case 0:
                    return None
                case 1:
                    left = until - time.monotonic()
                    if left <= 0:
                        raise _took_too_long()
                    await asyncio.sleep(min(pause, left))
                    pause = min(pause * 1.5, LONGEST_PAUSE_S)
                case 2:
                    return _open(record, rest)
                case 3:
                    return str(rest, "ascii")
                case _:
                    raise _other_body()

    async def keep(self, flight: _Flight, outcome: KeptAnswer | str, kept: KeptAnswer | None) -> None:
        flight.end(outcome)
        mark = b"M" + TOO_LARGE.encode()
        await self._store(flight, mark if kept is None else b"A" + await room.close(flight.record.seal, kept))

    async def free(self, flight: _Flight) -> None:
        self._forget(flight)
        await self._release(flight)

    async def _store(self, flight: _Flight, value: bytes) -> None:
        """What Redis does not take is offered again while it is worth it, and is here for the asking meanwhile."""
        record = flight.record
        life_ms = (AUTO_LIFE_S if record.auto else LIFE_S) * 1000
        try:
            stored = await room.store(_finish, record.organization_id, record.seal.name, flight.lease, life_ms, value)
        except redis.RedisError:
            flight.unstored = value
            if time.monotonic() - flight.ended_at < TRY_STORING_S and len(self._unstored()) <= MAX_UNSTORED:
                return
            logger.warning("an answer under an idempotency key was not kept: Redis is away")
        else:
            if not stored:
                logger.warning("an answer under an idempotency key came after its lease had ended")
        self._forget(flight)

    async def _release(self, flight: _Flight) -> None:
        with suppress(redis.RedisError):  # then the lease ends by itself
            await room.run(_release, (flight.record.key,), flight.lease)

    def _forget(self, flight: _Flight, outcome: KeptAnswer | str | None = None) -> None:
        if self._flights.get(flight.record.key) is flight:
            del self._flights[flight.record.key]
        flight.end(outcome)

    def _tend(self) -> None:
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._keep_tending())

    async def _keep_tending(self) -> None:
        while any(flight.owned for flight in self._flights.values()):
            await asyncio.sleep(self._renew_every_s)
            with suppress(redis.RedisError):  # a lease outlives two rounds that went wrong
                await self._renew()
            for flight in self._unstored():
                await self._store(flight, flight.unstored)

    def _unstored(self) -> list[_Flight]:
        return [flight for flight in self._flights.values() if flight.unstored]

    async def _renew(self) -> None:
        """One call a shard, whose keys are on one server."""
        shards: defaultdict[str, list[_Flight]] = defaultdict(list)
        for flight in self._flights.values():
            if flight.owned:
                shards[redis.shard_tag(flight.record.organization_id)].append(flight)
        for claimed in shards.values():
            # Those that are free since, while another shard was asked, must not be leased anew.
            flights = [flight for flight in claimed if self._flights.get(flight.record.key) is flight]
            if not flights:
                continue
            keys = tuple(flight.record.key for flight in flights)
            lost = await room.run(_renew, keys, self._lease_ms, *(flight.lease for flight in flights))
            if lost:
                logger.warning("%d leases of idempotency keys were lost", lost)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        """It goes on if the caller who waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return asyncio.shield(task)


async def _join(flight: _Flight, record: _Record, until: float) -> KeptAnswer | str | None:
    """What comes of ``flight``; None: ask again."""
    await _wait(flight.asked, until)
    if flight.record.fingerprint != record.fingerprint:
        if flight.ended.done() and flight.ended.result() is None:
            return None
        raise _other_body()
    await _wait(flight.ended, until)
    return flight.ended.result()


async def _wait(future: asyncio.Future[Any], until: float) -> None:
    if not future.done():
        await asyncio.wait([future], timeout=max(0.0, until - time.monotonic()))
    if not future.done():
        raise _took_too_long()


def _answer(outcome: KeptAnswer | str) -> KeptAnswer:
    if isinstance(outcome, KeptAnswer):
        return outcome
    why = "was too large to be kept" if outcome == TOO_LARGE else "is not kept any more, as newer ones needed the room"
    raise errors.InvalidRequest(
        f"A request with this {HEADER} has been answered, and the answer {why}. A new key sends the request again, and "
        "bills it again.",
        param=HEADER,
    )


def _open(record: _Record, sealed: bytes) -> KeptAnswer:
    try:
        return room.open_(record.seal, sealed)
    except Unopenable:
        logger.exception("an answer under an idempotency key could not be opened")
        raise errors.ServerError(f"The answer under this {HEADER} can't be read. Use a new key.") from None


def _other_body() -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"This {HEADER} was used with another request. Send the same body again, or use a new key.", param=HEADER
    )


def _took_too_long() -> errors.UpstreamTimeout:
    return errors.UpstreamTimeout(f"The request that began with this {HEADER} has not ended in time. Try again.")
