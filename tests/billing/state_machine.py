"""Admission, settlement, reaping, metering and seeding in any order, beside a model (state_model.py).

The two are compared after each step. ``run`` is a test; `make soak` runs more of it.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import hypothesis
import msgspec
from django.test import override_settings
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing import events, months
from billing.admission import limits, notes, quota, redis_keys, snapshots
from billing.admission.limits import ADMITTED
from billing.metering import rollups
from billing.metering.ledger import Entry, write
from billing.models import UsageMonth, UsageRecord
from billing.rollup_models import UsageHour
from billing.settling.reaper import Reaper
from billing.settling.settle import Settler, _mark, heartbeat_key
from billing.settling.settlement import Settlement
from helixflow.lib import ids, redis
from tests.billing.admitting import read_stream, usage_of
from tests.billing.state_model import Model, Request, World
from tests.billing.usage_events import FlatPrice, sums

PROCESSES = 2
picks = st.integers(0, 999)
units = st.integers(0, 1)
happenings = st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 5]), picks), max_size=2)


class Machine(RuleBasedStateMachine):
    world: World  # set by ``run``

    @initialize()
    def begin(self) -> None:
        redis.sync_client().flushdb()
        for model in (UsageRecord, UsageHour, UsageMonth):
            model.objects.all().delete()
        limits.clock_offset_s = 0
        self.runner = asyncio.Runner()
        self.model = Model(self.world.limits)
        self.processes = [uuid.uuid4().hex[:16] for _ in range(PROCESSES)]
        self.model.beating = set(self.processes)
        self._beat()

    # Rules

    @rule(account=units, key=units, process=units, lenient=st.booleans())
    def admit(self, account: int, key: int, process: int, *, lenient: bool) -> None:
        """``lenient``: the ledger can't be asked."""
        mine = self.world.accounts[account]
        its_key = mine.keys[key]
        seeded = bool(mine.month())
        request_id = ids.uuid7()
        limits._ledger_failed_at = time.monotonic() if lenient else float("-inf")
        verdict = self.runner.run(limits.admit(its_key.token, request_id, self.processes[process]))
        limits._ledger_failed_at = float("-inf")
        assert not verdict.local
        assert verdict.outcome == self.model.expected(mine, its_key, verdict, month_counts=seeded or not lenient)
        if verdict.admitted:
            request = Request(request_id, mine, its_key, verdict, self.processes[process])
            if self.model.limits[mine.id].parallel is not None:
                request.leased_until = verdict.now + notes.LIFE_S
            self.model.requests[request_id] = request
            self.model.count(mine, its_key, verdict)

    @precondition(lambda self: self.model.noted())
    @rule(pick=picks)
    def ask_again(self, pick: int) -> None:
        request = _pick(self.model.noted(), pick)
        verdict = self.runner.run(limits.admit(request.key.token, request.id, "another"))
        # In a later month it is another request's: it has its note still, so nothing is counted there either.
        assert verdict.admitted

    @precondition(lambda self: self.model.held())
    @rule(pick=picks)
    def produce_something(self, pick: int) -> None:
        request = _pick(self.model.held(), pick)
        if request.noted:
            request.answering = True
        mark = msgspec.json.encode(notes.Mark(model="gpt-4", answering=True))
        self.runner.run(_mark.run((redis_keys.notes(request.account.tag),), request.id.hex, mark))

    @precondition(lambda self: self.model.held())
    @rule(pick=picks, units=units)
    def settle(self, pick: int, units: int) -> None:
        self._end(_pick(self.model.held(), pick), units)

    @precondition(lambda self: self.model.settled())
    @rule(pick=picks)
    def settle_again(self, pick: int) -> None:
        """Redis lost the answer, or may have lost more."""
        self._settle(_pick(self.model.settled(), pick))

    @precondition(lambda self: self.model.fresh())
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """Its caller was refused: the admission was not heard of in time."""
        request = _pick(self.model.fresh(), pick)
        verdict = request.verdict
        self._send(
            Settlement(request.id, request.account.id, request.key.row.id, verdict.month, 0, leased=verdict.leased)
        )
        del self.model.requests[request.id]

    @rule(account=units, key=units, units=units)
    def serve_without_redis(self, account: int, key: int, units: int) -> None:
        """Admitted locally, settled when Redis is back."""
        mine = self.world.accounts[account]
        its_key = mine.keys[key]
        now = self.model.now()
        snapshot = snapshots.cache.get_sync(its_key.token)
        verdict = limits.Verdict(snapshot, ADMITTED, now, 0, 0, 0, 0, local=True)
        request = Request(ids.uuid7(), mine, its_key, verdict, "", noted=False, held=False)
        request.settled = usage_of(verdict, request.id, units=units)
        self.model.requests[request.id] = request
        self._settle(request)

    @rule(process=units)
    def stop(self, process: int) -> None:
        """SIGSTOP for long: it may go on after it was reaped."""
        self.model.beating.discard(self.processes[process])
        redis.sync_client().delete(heartbeat_key(self.processes[process]))

    @rule(process=units)
    def go_on(self, process: int) -> None:
        self.model.beating.add(self.processes[process])
        self._beat()

    @rule(process=units)
    def kill(self, process: int) -> None:
        dead = self.processes[process]
        self.stop(process)
        for request in self.model.held():
            request.held = request.process != dead
        self.processes[process] = uuid.uuid4().hex[:16]
        self.go_on(process)

    @rule()
    def reap(self) -> None:
        found = [request for request in self.model.noted() if self.model.is_left(request)]
        assert Reaper(grace_s=0).run_once() == len(found)
        for request in found:
            request.noted, request.leased_until = False, 0
        for tag, entries in self._real_streams().items():
            known = self.model.streams.setdefault(tag, [])
            for event, late in entries[len(known) :]:
                request = self.model.requests[event.id]
                assert (request in found, late) == (True, False)
                assert (event.settled_by, event.units) == (events.REAPER, int(request.answering))
                known.append((request, event, False))

    @precondition(lambda self: self.model.noted())
    @rule(pick=picks, units=units, metered=st.booleans())
    def settle_after_the_reaper(self, pick: int, units: int, *, metered: bool) -> None:
        """A gateway was stopped for so long that it was given up."""
        request = _pick(self.model.noted(), pick)
        was_beating = request.process in self.model.beating
        self.model.beating.discard(request.process)
        redis.sync_client().delete(heartbeat_key(request.process))
        self.reap()
        if metered:
            self.meter(10_000, dies=False)
        if was_beating:
            self.model.beating.add(request.process)
            self._beat()
        if request.held:
            self._end(request, units)

    @rule(most=st.integers(1, 4), dies=st.booleans())
    def meter(self, most: int, *, dies: bool) -> None:
        """``dies``: after its commit, before it forgets what it wrote."""
        client: Any = redis.sync_client()
        for tag, entries in self.model.streams.items():
            batch = read_stream(tag)[:most]
            if batch:
                write([entry for _, entry in batch], book=FlatPrice())
                self.model.record(entries[:most])
            if batch and not dies:
                client.xdel(redis_keys.usage_stream(tag), *(entry_id for entry_id, _ in batch))
                del entries[:most]

    @rule(account=units)
    def lose_the_counter(self, account: int) -> None:
        mine = self.world.accounts[account]
        redis.sync_client().delete(redis_keys.month(mine.id, months.of(self.model.now())))

    @rule(account=units, between=st.tuples(*4 * [happenings]))
    def seed_while_it_goes_on(self, account: int, between: tuple[list[tuple[int, int]], ...]) -> None:
        """Something happens between the reading of notes, of the stream, of the ledger, and the end."""
        mine = self.world.accounts[account]
        month = months.of(self.model.now())
        self.lose_the_counter(account)
        with self._between(between):
            quota.seed(snapshots.cache.get_sync(mine.key.token), month)

    @precondition(lambda self: not self.model.lost)
    @rule()
    def flush(self) -> None:
        redis.sync_client().flushdb()
        self.model.flush()
        self._beat()

    @precondition(lambda self: self.model.lost)
    @rule()
    def send_again(self) -> None:
        for request in self.model.lost:
            self._settle(request)
        self.model.lost.clear()

    @rule()
    def turn_the_minute(self) -> None:
        limits.clock_offset_s += 61

    @precondition(lambda self: limits.clock_offset_s < 86_400)
    @rule()
    def turn_the_month(self) -> None:
        now = self.model.now()
        limits.clock_offset_s += months.bounds(months.of(now))[1] - now + 3_600

    # What must hold

    @invariant()
    def counters_are_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        for account in self.world.accounts:
            assert set(account.notes()) == {request.id for request in self.model.noted() if request.account is account}
            for month in {months.of(self.model.now()), *(request.verdict.month for request in self.model.of(account))}:
                counter = account.month(month)
                if counter:
                    assert counter["used"] == self.model.used(account, month)
                    for key in account.keys:
                        assert counter.get(f"k:{key.row.id.hex}", 0) == self.model.used(account, month, key)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for request in self.model.lost:
            self._settle(request)
        self.model.lost.clear()
        self.processes, self.model.beating = [], set()
        for key in redis.sync_client().keys("gateway:*"):
            redis.sync_client().delete(key)
        self.reap()
        for request in self.model.held():  # every gateway ended, so nobody says more
            request.held = False
        self.meter(10_000, dies=False)
        self._check_the_end()
        self.runner.close()

    def _check_the_end(self) -> None:
        recorded = {record.id: record for record in UsageRecord.objects.all()}
        expected = {id_ for id_, request in self.model.requests.items() if request.record is not None}
        unknown = [r for r in self.model.requests.values() if r.record is None]
        assert set(recorded) == expected
        assert all(request.settled is None for request in unknown)  # their gateways died after a flush
        for request_id in expected:
            record, said = recorded[request_id], self.model.requests[request_id].record
            assert said is not None
            assert (record.units, record.settled_by, record.status) == (said.units, said.settled_by, said.status)
        for account in self.world.accounts:
            assert account.notes() == {}
            for month in {request.verdict.month for request in self.model.of(account)}:
                redis.sync_client().delete(redis_keys.month(account.id, month))
                quota.seed(snapshots.cache.get_sync(account.key.token), month)
                mine = [
                    r for r in recorded.values() if (r.organization_id, months.of_day(r.month)) == (account.id, month)
                ]
                assert account.used(month) == sum(record.units for record in mine)
        stored = sums()
        again = rollups.Rollup()
        for record in recorded.values():
            again.add(record)
        for model in (UsageHour, UsageMonth):
            model.objects.all().delete()
        again.apply()
        assert sums() == stored

    def _end(self, request: Request, units: int) -> None:
        request.held = False
        request.settled = usage_of(request.verdict, request.id, units=units, tokens=events.Tokens(units, 1))
        self._settle(request)

    def _settle(self, request: Request) -> None:
        assert request.settled is not None
        self._send(Settlement.of(request.settled, leased=request.verdict.leased))
        self.model.streams.setdefault(request.account.tag, []).append((request, request.settled, not request.noted))
        request.noted, request.leased_until = False, 0

    def _send(self, settlement: Settlement) -> None:
        assert not self.runner.run(Settler()._send([settlement]))

    def _beat(self) -> None:
        for process in self.model.beating:
            redis.sync_client().set(heartbeat_key(process), "1")

    def _real_streams(self) -> dict[str, list[tuple[events.Usage, bool]]]:
        found: dict[str, list[tuple[events.Usage, bool]]] = {}
        for tag in {account.tag for account in self.world.accounts}:
            entries: list[Entry] = [entry for _, entry in read_stream(tag)]
            found[tag] = [(entry.event, entry.late) for entry in entries if isinstance(entry.event, events.Usage)]
        return found

    # Seeding, slowly

    @contextmanager
    def _between(self, steps: tuple[list[tuple[int, int]], ...]) -> Iterator[None]:
        waiting = list(steps)

        def act() -> None:
            if waiting and threading.current_thread() is threading.main_thread():
                for number, pick in waiting.pop(0):
                    self._happen(number, pick)

        def before(real: Callable[..., Any], *, and_after: bool = False) -> Callable[..., Any]:
            def slow(*given: Any) -> Any:
                act()
                result = real(*given)
                result = result if isinstance(result, tuple) else list(result)
                if and_after:
                    act()
                return result

            return slow

        with (
            mock.patch.object(quota, "_noted", before(quota._noted)),
            mock.patch.object(quota, "_streamed", before(quota._streamed)),
            mock.patch.object(quota, "_totals", before(quota._totals, and_after=True)),
        ):
            yield

    def _happen(self, number: int, pick: int) -> None:
        if number == 0 and self.model.held():
            self.settle(pick, pick % 2)
        elif number == 1 and self.model.settled():
            self.settle_again(pick)
        elif number == 2:
            self.reap()
        elif number == 3:
            self.meter(1 + pick % 3, dies=pick % 2 == 0)
        elif number == 4:
            self.admit(pick % 2, pick // 2 % 2, 0, lenient=True)
        elif number == 5 and self.model.fresh():
            self.cancel(pick)


def _pick(requests: list[Request], pick: int) -> Request:
    return requests[pick % len(requests)]


def run(*, examples: int, steps: int, seed: int | None = None) -> None:
    """``seed`` None: always the same examples. Needs a database whose rows other threads can see."""
    Machine.world = World.make()
    profile = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=seed is None,
        print_blob=False,
        phases=[hypothesis.Phase.generate],  # to shrink takes minutes
        suppress_health_check=list(HealthCheck),
    )
    machine = Machine if seed is None else hypothesis.seed(seed)(Machine)
    with (
        override_settings(REDIS_BUDGET_S=30.0),  # a busy machine is no part of the model
        mock.patch.object(limits, "SEED_WAIT_S", 30.0),
        mock.patch.object(limits, "clock_offset_s", 0),
        mock.patch.object(limits, "_ledger_failed_at", float("-inf")),
    ):
        run_state_machine_as_test(machine, settings=profile)
