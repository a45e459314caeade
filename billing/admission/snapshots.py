"""What the data plane knows of an API key: who it belongs to and what it may do.

A snapshot is read in one query together with its organization's generation, and kept in process. Admission compares
generations on every request (``admit.lua``), so a change counts from the next request on; age bounds what a lost
announcement can do. Unknown keys are remembered too, so that guessing costs PostgreSQL nothing: a key that was asked
for before it was made cannot exist, as its secret is drawn at random.
"""

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from django.contrib.postgres.expressions import ArraySubquery
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.db.models import F, OuterRef, Q, QuerySet
from django.db.models.functions import JSONObject

from accounts import auth, generation, passes
from accounts.models import ApiKey
from billing import months
from billing.admission import notes, redis_keys
from billing.plan_models import QuotaGrant
from billing.plans import agreed_expressions
from helixflow.lib import clock, errors, pipelined_redis, redis

REFRESH_AFTER_S: Final = 20.0
MAX_AGE_S: Final = 30.0
LOAD_TIMEOUT_S: Final = 2.0
AGED_WAIT_S: Final = 0.25  # for a new copy of one that is there; admission compares generations in any case
RETRY_AFTER_FAILURE_S: Final = 2.0
MAX_CACHED: Final = 50_000
# Readings under way, past which cold keys are turned away: made-up ones must not queue for minutes.
MAX_COLD: Final = 200
CANNOT_CHECK: Final = "API keys cannot be checked at the moment. Try again."


class ExpiredApiKey(errors.InvalidApiKey):
    """Its owner may give it more time, so it is remembered for a second only."""

    default_message = "This API key has expired. Create a new one in your dashboard."


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``expires_at`` in epoch seconds, ``loaded_at`` on the monotonic clock, budgets in millionths; None: no limit.

    ``requests_per_month`` is as agreed; ``granted`` has what operators gave on top of it, by month.
    """

    key_id: uuid.UUID
    organization_id: uuid.UUID
    user_id: uuid.UUID | None
    generation: int
    enabled: bool
    requests_per_minute: int
    requests_per_month: int
    max_parallel: int | None
    budget: int | None
    key_requests_per_minute: int | None
    key_requests_per_month: int | None
    key_budget: int | None
    allowed_models: frozenset[str] | None
    expires_at: float | None
    cache_ttl_s: int | None = None  # of the response cache; None: off
    stores_contents: bool = False
    granted: dict[int, int] = field(default_factory=dict)
    loaded_at: float = field(default_factory=time.monotonic, compare=False)
    prepared: dict[tuple[int | str, ...], pipelined_redis.Prepared] = field(
        default_factory=dict, compare=False, repr=False
    )  # admission's calls

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.loaded_at

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()

    def month_limit(self, month: int) -> int:
        """Requests of that month, such as 202611: a snapshot lives on when the month turns."""
        return self.requests_per_month + self.granted.get(month, 0) if self.granted else self.requests_per_month

    def check_model(self, name: str) -> None:
        """Raises AuthorizationFailed for one that is not on the key's list."""
        if self.allowed_models is not None and name not in self.allowed_models:
            raise errors.AuthorizationFailed("This API key may not use this model.", param="model")

    def admission(self, month: int, process: str) -> tuple[tuple[str, ...], tuple[str | int, ...]]:
        """Keys of admit.lua, and its arguments from the API key on, but for the request's id."""
        return self._keys(month), self._arguments(month, process)

    def _keys(self, month: int) -> tuple[str, ...]:
        organization_id = self.organization_id
        return (
            generation.redis_key(organization_id),
            redis_keys.window(organization_id),
            redis_keys.month(organization_id, month),
            redis_keys.notes(redis.shard_tag(organization_id)),
            redis_keys.parallel(organization_id),
        )

    def _arguments(self, month: int, process: str) -> tuple[str | int, ...]:
        limits = (
            self.requests_per_minute,
            self.key_requests_per_minute,
            self.month_limit(month),
            self.key_requests_per_month,
            self.max_parallel,
            self.budget,
            self.key_budget,
        )
        leased = self.max_parallel is not None
        note = notes.head(process, self.organization_id, self.key_id, self.user_id, month, leased=leased)
        return (self.key_id.hex, *(-1 if limit is None else limit for limit in limits), note, notes.LIFE_S)


def load(token: str) -> Snapshot:
    """Read from PostgreSQL. Raises InvalidApiKey, or django.db.Error if PostgreSQL can't be asked."""
    started = time.monotonic()  # before the read: a change during it makes the snapshot old, never young
    row = _query().filter(_names(token)).first()
    if row is None:
        raise errors.InvalidApiKey
    if row.revoked_at is not None:
        raise errors.InvalidApiKey("This API key was revoked. Create a new one in your dashboard.")
    organization = row.organization
    snapshot = Snapshot(
        key_id=row.id,
        organization_id=organization.id,
        user_id=row.created_by_id,
        generation=organization.generation,
        enabled=organization.disabled_at is None and organization.deletion_due_at is None,
        requests_per_minute=row.requests_per_minute,  # type: ignore[attr-defined]  # annotated
        requests_per_month=row.requests_per_month,  # type: ignore[attr-defined]  # annotated
        max_parallel=row.max_parallel,  # type: ignore[attr-defined]  # annotated
        budget=_millionths(row.monthly_budget),  # type: ignore[attr-defined]  # annotated
        key_requests_per_minute=row.key_requests_per_minute,  # type: ignore[attr-defined]  # annotated
        key_requests_per_month=row.key_requests_per_month,  # type: ignore[attr-defined]  # annotated
        key_budget=_millionths(row.key_budget),  # type: ignore[attr-defined]  # annotated
        allowed_models=None if row.allowed_models is None else frozenset(row.allowed_models),
        expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
        cache_ttl_s=organization.cache_ttl_s,
        stores_contents=organization.contents_days is not None,
        granted=_by_month(row.grants),  # type: ignore[attr-defined]  # annotated
        loaded_at=started,
    )
    if snapshot.has_expired:
        raise ExpiredApiKey
    return snapshot


def _names(token: str) -> Q:
    key_id = passes.key_id_of(token)
    return Q(digest__in=auth.digests(token)) if key_id is None else Q(id=key_id)


def _query() -> QuerySet[ApiKey]:
    return ApiKey.objects.select_related("organization").annotate(
        **agreed_expressions("organization__"),
        grants=_grants(),
        max_parallel=F("organization__subscription__max_parallel"),
        monthly_budget=F("organization__subscription__monthly_budget"),
        key_requests_per_minute=F("limits__requests_per_minute"),
        key_requests_per_month=F("limits__requests_per_month"),
        key_budget=F("limits__monthly_budget"),
    )


def _grants() -> ArraySubquery:
    """Of this month and later: the one that has just ended is still asked for by clocks that are behind."""
    since = (clock.now() - timedelta(hours=1)).date().replace(day=1)
    grants = QuotaGrant.objects.filter(organization=OuterRef("organization_id"), month__gte=since, revoked_at=None)
    return ArraySubquery(grants.order_by().values(grant=JSONObject(month="month", units="units")))


def _by_month(grants: list[dict[str, Any]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for grant in grants:
        month = months.of_day(date.fromisoformat(grant["month"]))
        found[month] = found.get(month, 0) + grant["units"]
    return found


def _millionths(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount * 1_000_000)


class SnapshotCache:
    """Shared by the event loop and Django's threads: single dictionary operations only."""

    def __init__(self) -> None:
        self._known: dict[str, Snapshot] = {}
        self._refused: dict[str, tuple[str, float]] = {}  # message, until when
        self._loading: dict[str, asyncio.Future[Snapshot]] = {}
        self._failed_at = 0.0
        # Django's own executor is one thread for the whole process; a hung PostgreSQL may hold these four for long.
        self._threads = ThreadPoolExecutor(4, "snapshots")

    async def get(self, token: str) -> Snapshot:
        """Raises InvalidApiKey, or ServiceUnavailable for a key that is cold while PostgreSQL is down."""
        snapshot = self._known.get(token)
        if snapshot is None or snapshot.has_expired:
            auth.check_form(token)
            self._raise_if_refused(token)
            if len(self._loading) >= MAX_COLD and token not in self._loading:
                raise errors.ServiceUnavailable(CANNOT_CHECK)
            return await self.reload(token)
        age = snapshot.age_s
        if age > REFRESH_AFTER_S and not self._failed_lately():
            loading = self._load_once(token)
            if age > MAX_AGE_S:
                with suppress(errors.ServiceUnavailable):
                    return await self._wait(loading, AGED_WAIT_S)
        return snapshot  # older than MAX_AGE_S only while PostgreSQL is down: admission still compares generations

    async def reload(self, token: str) -> Snapshot:
        """Read again, after admission said that the snapshot is stale. Never gives back the one that was."""
        return await self._wait(self._load_once(token), LOAD_TIMEOUT_S)

    def get_sync(self, token: str, *, reload: bool = False) -> Snapshot:
        """The same for a Django thread, which reads on its own connection."""
        snapshot = self._known.get(token)
        if snapshot is not None and not reload and snapshot.age_s < MAX_AGE_S and not snapshot.has_expired:
            return snapshot
        auth.check_form(token)
        if not reload:
            self._raise_if_refused(token)
        try:
            loaded = load(token)
        except errors.InvalidApiKey as error:
            self._refuse(token, error)
            raise
        except DatabaseError:
            if snapshot is None or reload or snapshot.has_expired:
                raise
            return snapshot
        self._keep(token, loaded)
        return loaded

    def clear(self) -> None:
        self._known.clear()
        self._refused.clear()

    def _load_once(self, token: str) -> "asyncio.Future[Snapshot]":
        loading = self._loading.get(token)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = loop.run_in_executor(self._threads, _load_in_thread, token)
            self._loading[token] = loading
            loading.add_done_callback(lambda done: self._loaded(token, done))
        return loading

    def _loaded(self, token: str, done: "asyncio.Future[Snapshot]") -> None:
        del self._loading[token]
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._keep(token, done.result())
        elif isinstance(error, errors.InvalidApiKey):
            self._refuse(token, error)
        else:
            self._failed_at = time.monotonic()

    async def _wait(self, loading: "asyncio.Future[Snapshot]", seconds: float) -> Snapshot:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(loading)
        except (DatabaseError, TimeoutError):
            self._failed_at = time.monotonic()
            raise errors.ServiceUnavailable(CANNOT_CHECK, retry_after=5) from None

    def _failed_lately(self) -> bool:
        return time.monotonic() - self._failed_at < RETRY_AFTER_FAILURE_S

    def _keep(self, token: str, snapshot: Snapshot) -> None:
        known = self._known.get(token)
        if known is not None and known.loaded_at > snapshot.loaded_at:
            return  # a slower reading of an older state
        while len(self._known) >= MAX_CACHED:
            self._known.pop(next(iter(self._known)), None)
        self._refused.pop(token, None)
        self._known[token] = snapshot

    def _refuse(self, token: str, error: errors.InvalidApiKey) -> None:
        while len(self._refused) >= MAX_CACHED:
            self._refused.pop(next(iter(self._refused)), None)
        self._known.pop(token, None)
        keep_s = 1.0 if isinstance(error, ExpiredApiKey) else MAX_AGE_S
        self._refused[token] = (error.message, time.monotonic() + keep_s)

    def _raise_if_refused(self, token: str) -> None:
        refused = self._refused.get(token)
        if refused is not None and time.monotonic() < refused[1]:
            raise errors.InvalidApiKey(refused[0])


def _load_in_thread(token: str) -> Snapshot:
    close_old_connections()
    if connection.connection is None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout TO '2s'")
    return load(token)


cache = SnapshotCache()
