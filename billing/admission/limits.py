"""Admission: one Redis script says whether the snapshot is current and whether there is room (contract §5).

Minutes and months are calendar ones in UTC by Redis's clock. Inference counts against the plan; other calls made with
a key are counted apart, against an abuse limit as high as the plan's minute. While Redis is away each process serves
its share of the minute by itself, and the month waits. The whole of it is told in docs/limits.md.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from billing import months
from billing.admission import lua, quota
from billing.admission.breaker import Breaker
from billing.admission.local_limits import KEY, LocalLimiter
from billing.admission.snapshots import MAX_AGE_S, Snapshot
from billing.admission.snapshots import cache as snapshots
from helixflow.lib import errors, pipelined_redis, redis

ADMITTED, STALE, OTHER_MONTH, UNSEEDED = range(4)
MINUTE, KEY_MINUTE, PARALLEL, MONTH, KEY_MONTH, BUDGET, KEY_BUDGET = range(4, 11)
REASONS: Final = {
    MINUTE: "minute",
    KEY_MINUTE: "key_minute",
    PARALLEL: "parallel",
    MONTH: "month",
    KEY_MONTH: "key_month",
    BUDGET: "budget",
    KEY_BUDGET: "key_budget",
}
MAX_TRIES: Final = 6
SEED_WAIT_S: Final = 2.0
SEEDERS: Final = 2
PAUSE_S: Final = 2.0  # after a ledger that could not be asked

clock_offset_s = settings.CLOCK_OFFSET_S  # tests move Redis's clock with it
breaker = Breaker()
_script = pipelined_redis.Script(lua.source("admit"))
_here = LocalLimiter(settings.WEB_PROCESSES)
_others_here = LocalLimiter(settings.WEB_PROCESSES)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What admission said, and the numbers of the X-RateLimit headers. ``now`` in epoch seconds, by Redis's clock.

    ``local``: said by this process alone, as Redis is away. ``uncertain``: Redis was asked and didn't answer in time,
    so it may have admitted the request too.
    """

    snapshot: Snapshot
    outcome: int
    now: int
    used: int
    key_used: int
    month_used: int
    key_month_used: int
    local: bool = False
    uncertain: bool = False

    @property
    def admitted(self) -> bool:
        return self.outcome == ADMITTED

    @property
    def leased(self) -> bool:
        """Whether it may hold a lease, which is then to be given back. Redis may have given one without being heard."""
        return self.snapshot.max_parallel is not None

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return REASONS[self.outcome]

    @property
    def limit_met(self) -> int:
        """The limit that refused it; budgets in millionths."""
        snapshot = self.snapshot
        limits = {
            MINUTE: snapshot.requests_per_minute,
            KEY_MINUTE: snapshot.key_requests_per_minute,
            PARALLEL: snapshot.max_parallel,
            MONTH: snapshot.month_limit(self.month),
            KEY_MONTH: snapshot.key_requests_per_month,
            BUDGET: snapshot.budget,
            KEY_BUDGET: snapshot.key_budget,
        }
        return limits[self.outcome] or 0

    @property
    def month(self) -> int:
        return _month_at(self.now).number

    @property
    def minute(self) -> tuple[int, int]:
        """Limit and remaining: of the organization, or of the key where that is tighter."""
        snapshot = self.snapshot
        return _tightest(snapshot.requests_per_minute, self.used, snapshot.key_requests_per_minute, self.key_used)

    @property
    def limit(self) -> int:
        return self.minute[0]

    @property
    def remaining(self) -> int:
        return self.minute[1]

    @property
    def reset_at(self) -> int:
        return self.now - self.now % 60 + 60

    def headers(self) -> list[tuple[bytes, bytes]]:
        limit, remaining = self.minute
        headers = [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"%d" % remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset_at),
        ]
        if not self.local:
            snapshot, month = self.snapshot, _month_at(self.now)
            limit, remaining = _tightest(
                snapshot.month_limit(month.number),
                self.month_used,
                snapshot.key_requests_per_month,
                self.key_month_used,
            )
            headers += [
                (b"x-ratelimit-limit-month", b"%d" % limit),
                (b"x-ratelimit-remaining-month", b"%d" % remaining),
                (b"x-ratelimit-reset-month", b"%d" % month.end),
            ]
        return headers

    def error(self) -> errors.HelixError:
        """What the caller of a refused request is told."""
        snapshot = self.snapshot
        wait = max(1, self.reset_at - self.now)
        renewed = time.strftime("%Y-%m-%d", time.gmtime(_month_at(self.now).end))
        if self.outcome == PARALLEL:
            return errors.RateLimitExceeded(
                f"There are {snapshot.max_parallel} requests under way, as many as your organization may have at once. "
                "Try again when one has ended.",
                retry_after=1,
            )
        if self.outcome in {MINUTE, KEY_MINUTE}:
            whose = "The rate limit" if self.outcome == MINUTE else "This API key's rate limit"
            return errors.RateLimitExceeded(
                f"{whose} of {self.limit} requests per minute is exceeded. Try again in {wait} s.", retry_after=wait
            )
        what = {
            MONTH: f"The monthly quota of {snapshot.month_limit(self.month)} requests is spent",
            KEY_MONTH: f"This API key's monthly limit of {snapshot.key_requests_per_month} requests is spent",
            BUDGET: "The organization's monthly budget is spent",
            KEY_BUDGET: "This API key's monthly budget is spent",
        }[self.outcome]
        return errors.InsufficientQuota(f"{what}. It is renewed on {renewed} (UTC), or when it is raised.")


class Unheard(Exception):
    """Refused, though Redis was asked and may have admitted the request: ``verdict`` is what to cancel."""

    def __init__(self, verdict: Verdict, refusal: errors.HelixError) -> None:
        super().__init__(refusal.message)
        self.verdict = verdict
        self.refusal = refusal


def _tightest(limit: int, used: int, key_limit: int | None, key_used: int) -> tuple[int, int]:
    remaining = limit - used if limit > used else 0
    if key_limit is not None and key_limit - key_used < remaining:
        return key_limit, max(0, key_limit - key_used)
    return limit, remaining


_Ask = Callable[[Snapshot, "_Month", str, str], Coroutine[Any, Any, Any]]


async def admit(token: str, request_id: uuid.UUID, process: str) -> Verdict:
    """Admit one inference request, or refuse it. Idempotent by ``request_id`` until that is settled.

    Whoever gets an admitted verdict must settle it. Raises InvalidApiKey, ServiceUnavailable, Unheard.
    """

    def ask(snapshot: Snapshot, month: "_Month", fresh: str, lenient: str) -> Coroutine[Any, Any, Any]:
        return _prepared(snapshot, month, process, fresh, lenient).run(request_id.hex)

    return await _admit(token, ask, _here)


async def admit_repeat(token: str) -> Verdict:
    """The same for a request that is answered with what was kept of an earlier one: counted as ``admit_other`` does,
    and nothing to settle."""

    def ask(snapshot: Snapshot, month: "_Month", fresh: str, lenient: str) -> Coroutine[Any, Any, Any]:
        return _script.run(*_other_call(snapshot, month, fresh, lenient))

    return await _admit(token, ask, _others_here)


async def _admit(token: str, ask: _Ask, here: LocalLimiter) -> Verdict:
    snapshot = await snapshots.get(token)
    if not breaker.allows():
        return await _admit_here(here, snapshot, token)
    month = _month_at(time.time() + clock_offset_s)
    fresh = lenient = "0"
    for _ in range(MAX_TRIES):
        try:
            reply = await ask(snapshot, month, fresh, lenient)
        except redis.RedisError:
            breaker.failed()
            try:
                return await _admit_here(here, snapshot, token, uncertain=True)
            except errors.HelixError as refusal:
                now = int(time.time()) + clock_offset_s
                verdict = Verdict(snapshot, MINUTE, now, 0, 0, 0, 0, local=True, uncertain=True)
                raise Unheard(verdict, refusal) from None
        breaker.succeeded()
        match reply[0]:
            case 1:
                snapshot = await snapshots.reload(token)
                fresh = "1"
            case 2:
                month = _month_at(reply[1])
            case 3:
                try:
                    lenient = "0" if await _seed(snapshot, month.number) else "1"
                except redis.RedisError:
                    breaker.failed()
                    return await _admit_here(here, snapshot, token)
            case _:
                return Verdict(snapshot, *reply)
    raise errors.ServiceUnavailable("This organization is being changed. Try again.")


def _prepared(snapshot: Snapshot, month: "_Month", process: str, fresh: str, lenient: str) -> pipelined_redis.Prepared:
    """All of a call but the request's id, kept with the snapshot: it is the same for thousands of requests."""
    name = (month.number, process, fresh, lenient, clock_offset_s)
    prepared = snapshot.prepared.get(name)
    if prepared is None:
        keys, arguments = snapshot.admission(month.number, process)
        prepared = snapshot.prepared[name] = _script.prepare(
            keys,
            *(snapshot.generation, fresh, clock_offset_s, "inference", month.start, month.end, lenient),
            *arguments,
        )
    return prepared


def admit_other(token: str) -> Verdict:
    """The same for a call that is not inference, from a Django thread. There is nothing to settle."""
    snapshot = snapshots.get_sync(token)
    if not breaker.allows():
        return _take_here(_others_here, snapshot)
    month = _month_at(time.time() + clock_offset_s)
    fresh = lenient = "0"
    for _ in range(MAX_TRIES):
        keys, *arguments = _other_call(snapshot, month, fresh, lenient)
        try:
            reply = _sync_script()(keys=keys, args=arguments)
        except redis.RedisError:
            breaker.failed()
            return _take_here(_others_here, snapshot)
        breaker.succeeded()
        match reply[0]:
            case 1:
                snapshot = snapshots.get_sync(token, reload=True)
                fresh = "1"
            case 2:
                month = _month_at(reply[1])
            case 3:
                try:
                    lenient = "0" if quota.seed(snapshot, month.number) else "1"
                except DatabaseError:
                    lenient = "1"
                except redis.RedisError:
                    return _take_here(_others_here, snapshot)
            case _:
                return Verdict(snapshot, *reply)
    raise errors.ServiceUnavailable("This organization is being changed. Try again.")


def _other_call(snapshot: Snapshot, month: "_Month", fresh: str, lenient: str) -> tuple[Any, ...]:
    """Keys and arguments of the script."""
    keys, arguments = snapshot.admission(month.number, "")
    given = (snapshot.generation, fresh, clock_offset_s, "other", month.start, month.end, lenient)
    return keys, *given, *arguments


async def _admit_here(here: LocalLimiter, snapshot: Snapshot, token: str, *, uncertain: bool = False) -> Verdict:
    """Redis is away: generations can't be compared, so that PostgreSQL is asked again after 30 s."""
    if snapshot.age_s > MAX_AGE_S:
        snapshot = await snapshots.reload(token)
    return _take_here(here, snapshot, uncertain=uncertain)


def _take_here(limiter: LocalLimiter, snapshot: Snapshot, *, uncertain: bool = False) -> Verdict:
    now = int(time.time()) + clock_offset_s
    taken = limiter.take(
        organization_id=snapshot.organization_id,
        api_key_id=snapshot.key_id,
        per_minute=snapshot.requests_per_minute,
        key_per_minute=snapshot.key_requests_per_minute,
        minute=now // 60,
    )
    outcome = ADMITTED if taken.admitted else KEY_MINUTE if taken.refused_by == KEY else MINUTE
    # Told as used: what the other processes may serve.
    used = snapshot.requests_per_minute - max(0, taken.limit - taken.used)
    key_used = 0
    if snapshot.key_requests_per_minute is not None and taken.key_limit is not None:
        key_used = snapshot.key_requests_per_minute - max(0, taken.key_limit - taken.key_used)
    return Verdict(snapshot, outcome, now, used, key_used, 0, 0, local=True, uncertain=uncertain)


class _Month(msgspec.Struct, frozen=True):
    number: int
    start: int
    end: int


_last_month = _Month(0, 0, 0)


def _month_at(now: float) -> _Month:
    global _last_month  # noqa: PLW0603  # asked several times a request, and it is nearly always the same
    month = _last_month
    if not month.start <= now < month.end:
        number = months.of(now)
        month = _last_month = _Month(number, *months.bounds(number))
    return month


_seeding: dict[tuple[uuid.UUID, int], "asyncio.Future[bool]"] = {}
_threads = ThreadPoolExecutor(SEEDERS, "quota")
_ledger_failed_at = float("-inf")


async def _seed(snapshot: Snapshot, month: int) -> bool:
    """Once however many wait for it. False if it can't be done now: the ledger is away, a server is slow, or too much
    goes on. Then the month has to wait. Raises RedisError if Redis went away meanwhile.
    """
    global _ledger_failed_at  # noqa: PLW0603  # one process has one ledger
    if time.monotonic() - _ledger_failed_at < PAUSE_S:
        return False
    name = (snapshot.organization_id, month)
    seeding = _seeding.get(name)
    if seeding is None:
        seeding = asyncio.get_running_loop().run_in_executor(_threads, _seed_in_thread, snapshot, month)
        _seeding[name] = seeding
        seeding.add_done_callback(lambda done: _seeded(name, done))
    try:
        async with asyncio.timeout(SEED_WAIT_S):
            return await asyncio.shield(seeding)
    except (DatabaseError, TimeoutError):
        _ledger_failed_at = time.monotonic()
        return False


def _seeded(name: tuple[uuid.UUID, int], done: "asyncio.Future[bool]") -> None:
    del _seeding[name]
    if not done.cancelled():
        done.exception()  # whoever waited has it; nobody may have


def _seed_in_thread(snapshot: Snapshot, month: int) -> bool:
    close_old_connections()
    return quota.seed(snapshot, month)


@cache
def _sync_script() -> Any:
    return redis.sync_client().register_script(lua.source("admit"))
