"""What the state machine believes: where each request is, and what follows from that."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

from billing import events
from billing.admission import limits, notes
from billing.admission.limits import ADMITTED, KEY_MINUTE, KEY_MONTH, MINUTE, MONTH, PARALLEL
from tests.billing.admitting import Account, Key


@dataclass(eq=False)
class Request:
    """``noted``: Redis has its note. ``held``: a gateway has it in hand and may settle it."""

    id: uuid.UUID
    account: Account
    key: Key
    verdict: limits.Verdict
    process: str
    leased_until: int = 0
    noted: bool = True
    held: bool = True
    answering: bool = False
    settled: events.Usage | None = None  # what its gateway said
    record: events.Usage | None = None


@dataclass
class Limits:
    """What the model needs to know of an account. Keys without limits of their own are absent."""

    per_minute: int
    per_month: int
    parallel: int | None
    key_minute: dict[str, int] = field(default_factory=dict)
    key_month: dict[str, int] = field(default_factory=dict)


@dataclass
class World:
    """What all examples share: rows are made once."""

    accounts: list[Account]
    limits: dict[uuid.UUID, Limits]

    @classmethod
    def make(cls) -> "World":
        capped = Account.make("capped", requests_per_minute=4, requests_per_month=6, max_parallel=3)
        narrow = capped.new_key(requests_per_minute=2, requests_per_month=3)
        free = Account.make("free", requests_per_minute=5, requests_per_month=8)
        small = free.new_key(requests_per_month=2)
        known = {
            capped.id: Limits(4, 6, 3, {narrow.token: 2}, {narrow.token: 3}),
            free.id: Limits(5, 8, None, {}, {small.token: 2}),
        }
        return cls([capped, free], known)


Said = tuple[Request, events.Usage, bool]  # the last: late


class Model:
    """A note, entries of its stream, a record: a request's unit is counted once, wherever that is."""

    def __init__(self, known: dict[uuid.UUID, Limits]) -> None:
        self.limits = known
        self.requests: dict[uuid.UUID, Request] = {}
        self.streams: dict[str, list[Said]] = {}  # by shard, as they should be
        self.lost: list[Request] = []  # settled, and what was said of it was flushed
        self.beating: set[str] = set()  # processes
        self._windows: dict[uuid.UUID, tuple[int, Counter[str]]] = {}

    def flush(self) -> None:
        """Notes and streams are gone. What gateways said of them they say again; a dead one's note is lost."""
        told = [entry for entries in self.streams.values() for entry in entries]
        for request in list(self.requests.values()):
            request.noted, request.leased_until = False, 0
            corrected = any(about is request and late and request.record is not event for about, event, late in told)
            if request.settled is not None and (request.record is None or corrected):
                self.lost.append(request)
            elif request.record is None and not request.held:
                del self.requests[request.id]
        self.streams.clear()
        self._windows.clear()

    def used(self, account: Account, month: int, key: Key | None = None) -> int:
        return sum(
            self.unit(request)
            for request in self.of(account)
            if request.verdict.month == month and (key is None or request.key is key)
        )

    def unit(self, request: Request) -> int:
        if request.noted:
            return 1
        said = request.record
        for about, event, late in self.streams.get(request.account.tag, []):
            if about is request:
                said = _better(said, event, late=late)
        return said.units if said else 0

    def expected(self, account: Account, key: Key, verdict: limits.Verdict, *, month_counts: bool) -> int:
        known = self.limits[account.id]
        month = verdict.month
        minute, counts = self._windows.get(account.id, (0, Counter()))
        if minute < verdict.now // 60:
            counts = Counter()
        leases = [r for r in self.of(account) if r.leased_until > verdict.now]
        checks: list[tuple[bool, int]] = [
            (month_counts and self.used(account, month) >= known.per_month, MONTH),
            (month_counts and self.used(account, month, key) >= known.key_month.get(key.token, 99), KEY_MONTH),
            (counts["all"] >= known.per_minute, MINUTE),
            (counts[key.token] >= known.key_minute.get(key.token, 99), KEY_MINUTE),
            (known.parallel is not None and len(leases) >= known.parallel, PARALLEL),
        ]
        return next((outcome for is_full, outcome in checks if is_full), ADMITTED)

    def count(self, account: Account, key: Key, verdict: limits.Verdict) -> None:
        minute, counts = self._windows.get(account.id, (0, Counter()))
        if minute < verdict.now // 60:
            minute, counts = verdict.now // 60, Counter()
        self._windows[account.id] = minute, counts + Counter({"all": 1, key.token: 1})

    def record(self, batch: list[Said]) -> None:
        for request, event, late in sorted(batch, key=lambda entry: entry[2]):
            request.record = _better(request.record, event, late=late)

    def of(self, account: Account) -> list[Request]:
        return [request for request in self.requests.values() if request.account is account]

    def noted(self) -> list[Request]:
        return [request for request in self.requests.values() if request.noted]

    def held(self) -> list[Request]:
        return [request for request in self.requests.values() if request.held]

    def fresh(self) -> list[Request]:
        return [request for request in self.held() if request.noted and not request.answering]

    def settled(self) -> list[Request]:
        return [request for request in self.requests.values() if request.settled and request not in self.lost]

    def is_left(self, request: Request) -> bool:
        return request.process not in self.beating or self.now() - request.verdict.now > notes.LIFE_S

    def now(self) -> int:
        return int(time.time()) + limits.clock_offset_s


def _better(known: events.Usage | None, event: events.Usage, *, late: bool) -> events.Usage:
    """The first word counts, unless it is the reaper's and its gateway knows better."""
    if known is None:
        return event
    is_correction = late and known.settled_by == events.REAPER and event.settled_by == events.GATEWAY
    return event if is_correction else known
