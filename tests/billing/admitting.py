"""An account that admits and settles against real PostgreSQL and Valkey, and a look at what they hold of it.

account = Account("acme", requests_per_minute=3)
verdict = account.admit(request_id)
account.settle(verdict, request_id, units=0)
"""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from accounts import api_keys
from accounts.models import ApiKey, Organization, User
from billing import events, key_limits, months, subscriptions
from billing.admission import limits, notes, quota, redis_keys, snapshots
from billing.admission.limits import Verdict
from billing.metering import ledger, meter
from billing.models import Plan, UsageRecord
from billing.prices import PriceBook
from billing.settling.settle import Settler, heartbeat_key
from billing.settling.settlement import Settlement
from helixflow.lib import ids, redis
from tests import factories

PLENTY = 1_000_000
PROCESS = "the-gateway"


@dataclass
class Key:
    row: ApiKey
    token: str


@dataclass
class Account:
    """An organization on limits of its own, with one key; ``new_key`` makes more."""

    organization: Organization
    owner: User
    keys: list[Key] = field(default_factory=list)

    @classmethod
    def make(cls, name: str = "acme", **terms: Any) -> "Account":
        owner = factories.user(name)
        account = cls(factories.organization(owner=owner, name=name), owner)
        account.limit(**terms)
        account.new_key()
        return account

    @property
    def id(self) -> uuid.UUID:
        return self.organization.id

    @property
    def tag(self) -> str:
        return redis.shard_tag(self.id)

    @property
    def key(self) -> Key:
        return self.keys[0]

    def limit(self, *, requests_per_minute: int = PLENTY, requests_per_month: int = PLENTY, **caps: Any) -> None:
        plan, _ = Plan.objects.get_or_create(slug="enterprise", defaults={"name": "Enterprise"})
        subscriptions.change(
            organization=self.organization,
            plan=plan,
            user=self.owner,
            requests_per_minute=requests_per_minute,
            requests_per_month=requests_per_month,
            **{"max_parallel": None, "monthly_budget": None} | caps,
        )

    def new_key(self, **own_limits: Any) -> Key:
        name = f"key {len(self.keys)}"
        key = Key(*api_keys.create(organization=self.organization, user=self.owner, name=name))
        self.keys.append(key)
        if own_limits:
            self.limit_key(key, **own_limits)
        return key

    def limit_key(self, key: Key, **own_limits: Any) -> None:
        given: dict[str, Any] = {"requests_per_minute": None, "requests_per_month": None, "monthly_budget": None}
        key_limits.set_limits(key=key.row, user=self.owner, **given | own_limits)

    # Admission

    def admit(self, request_id: uuid.UUID | None = None, *, key: Key | None = None, process: str = PROCESS) -> Verdict:
        return asyncio.run(limits.admit((key or self.key).token, request_id or ids.uuid7(), process))

    def admit_many(self, count: int, *, key: Key | None = None) -> list[Verdict]:
        async def run() -> list[Verdict]:
            token = (key or self.key).token
            return list(await asyncio.gather(*(limits.admit(token, ids.uuid7(), PROCESS) for _ in range(count))))

        return asyncio.run(run())

    def admit_leniently(self) -> int:
        """The outcome of one that goes on without a month's counter, as while the ledger is away."""
        snapshot = snapshots.cache.get_sync(self.key.token)
        month = limits._month_at(time.time())
        keys, arguments = snapshot.admission(month.number, PROCESS)
        given = (snapshot.generation, "0", 0, "inference", month.start, month.end, "1")
        reply: Any = limits._sync_script()(keys=keys, args=[*given, *arguments, ids.uuid7().hex])
        return int(reply[0])

    def outcomes(self, count: int, *, key: Key | None = None) -> list[int]:
        return [verdict.outcome for verdict in self.admit_many(count, key=key)]

    # Settlement

    def settle(self, verdict: Verdict, request_id: uuid.UUID, **fields: Any) -> events.Usage:
        event = usage_of(verdict, request_id, **fields)
        settle(Settlement.of(event, leased=verdict.leased))
        return event

    def spend(self, amount: str, *, key: Key | None = None) -> None:
        """As the meter tells it, beside a counter that is there."""
        spent: dict[uuid.UUID | None, Decimal] = {None: Decimal(amount), (key or self.key).row.id: Decimal(amount)}
        quota.tell_spent(organization_id=self.id, month=current_month(), spent=spent)

    # What Redis holds

    def month(self, number: int | None = None) -> dict[str, int]:
        """The month's counter, empty while it is missing."""
        client: Any = redis.sync_client()
        found = client.hgetall(redis_keys.month(self.id, number or current_month()))
        return {name.decode(): int(value) for name, value in found.items()} if b"used" in found else {}

    def used(self, number: int | None = None) -> int | None:
        return self.month(number).get("used")

    def notes(self) -> dict[uuid.UUID, notes.Note]:
        client: Any = redis.sync_client()
        found = client.hgetall(redis_keys.notes(self.tag))
        all_notes = {uuid.UUID(name.decode()): notes.parse(text) for name, text in found.items()}
        return {name: note for name, note in all_notes.items() if note.organization_id == self.id}

    def leases(self) -> int:
        client: Any = redis.sync_client()
        return int(client.zcard(redis_keys.parallel(self.id)))

    def stream(self) -> list[ledger.Entry]:
        """What the meter has still to write."""
        return [entry for _, entry in read_stream(self.tag) if entry.event.organization_id == self.id]

    def everything(self) -> dict[bytes, Any]:
        """All that admission may change, comparable."""
        client: Any = redis.sync_client()
        found = {}
        for name in client.keys(f"{self.tag}:*"):
            kind = client.type(name)
            read = {b"hash": client.hgetall, b"string": client.get, b"stream": client.xrange}
            found[name] = client.zrange(name, 0, -1, withscores=True) if kind == b"zset" else read[kind](name)
        return found

    # The ledger

    def records(self) -> list[UsageRecord]:
        return list(UsageRecord.objects.filter(organization=self.organization))


def current_month() -> int:
    client: Any = redis.sync_client()
    return months.of(client.time()[0] + limits.clock_offset_s)


def usage_of(verdict: Verdict, request_id: uuid.UUID, **fields: Any) -> events.Usage:
    given: dict[str, Any] = {"units": 1, "status": 200, "duration_ms": 1.0, "model": "gpt-4"}
    snapshot = verdict.snapshot
    return events.Usage(
        id=request_id,
        organization_id=snapshot.organization_id,
        api_key_id=snapshot.key_id,
        month=verdict.month,
        **given | fields,
    )


def settle(*settlements: Settlement) -> None:
    async def run() -> None:
        assert not await Settler()._send(list(settlements))

    asyncio.run(run())


def beat(process: str = PROCESS) -> None:
    redis.sync_client().set(heartbeat_key(process), "1")


def read_stream(tag: str) -> list[tuple[bytes, ledger.Entry]]:
    client: Any = redis.sync_client()
    return [(entry_id, meter.decode(fields)) for entry_id, fields in client.xrange(redis_keys.usage_stream(tag))]


def drain(*, most: int | None = None, book: PriceBook | None = None) -> None:
    """As the meter does, one batch of each stream: written, then forgotten."""
    client: Any = redis.sync_client()
    for tag in redis.SHARD_TAGS:
        batch = read_stream(tag)[:most]
        if batch:
            ledger.write([entry for _, entry in batch], book=book or PriceBook())
            client.xdel(redis_keys.usage_stream(tag), *(entry_id for entry_id, _ in batch))


def forget_snapshots() -> None:
    snapshots.cache.clear()
