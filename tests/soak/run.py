"""One run: start the clients, let things befall the processes, and gather what should not have been."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.db import connections
from django.test import override_settings

from billing.admission import limits, quota, unsettled
from billing.settling.reaper import Reaper
from billing.settling.settle import heartbeat_key
from helixflow.lib import redis
from tests.billing.admitting import Account
from tests.faults.world import Valkey, chat, environment, until_agreed
from tests.soak import checker, world
from tests.soak.books import Books
from tests.soak.clients import Actor, Entry, revoke_over_and_over
from tests.soak.killing import Killer, Meters, RedisBreaker
from tests.stack import wait_for
from tests.web import Web, running_web

CLIENTS = 24
WARM_UP_SHARE = 0.3
SAMPLES, SAMPLE_EVERY_S = 10, 0.2
MEMORY_GROWTH_BYTES = 48 * 1024 * 1024
MAX_IDLE = 64  # connections that a gateway may keep to one upstream
QUIET_S = 3.0
SETTLED_S = 120.0  # after which the last request of the dead has to be in the ledger

CALM, KILLS, REDIS_STOPS, REDIS_RESTARTS = SCENARIOS = ("calm", "kills", "redis-stops", "redis-restarts")
LOSES_REDIS = {REDIS_STOPS, REDIS_RESTARTS}


@dataclass
class Report:
    calls: int = 0
    records: int = 0
    kills: int = 0
    settled_after_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Fate(Protocol):
    """What befalls the processes."""

    kills: int

    def run(self, deadline: float) -> None: ...


class Nothing:
    kills = 0

    def run(self, deadline: float) -> None:
        pass


def soak(
    *, seed: int, seconds: float, data_dir: Path, workers: int = 1, scenario: str = CALM, patient: bool = False
) -> Report:
    """Needs a migrated database whose rows other processes can see, and leaves its rows behind.

    ``patient``: the dead are found as in production, by their silence; else their heartbeats are taken away.
    """
    with ExitStack() as running:
        server = running.enter_context(_redis_of_its_own(data_dir)) if scenario in LOSES_REDIS else None
        upstream = running.enter_context(world.CountingUpstream())
        world.make_models(upstream)
        tenants = [
            world.make_tenant(f"plenty-{scenario}-{seed}", limit=world.PLENTY),
            world.make_tenant(f"scarce-{scenario}-{seed}", limit=60),
        ]
        budget_ms = "50" if server else "2000"  # a busy machine must not look like a dead Redis
        given = environment(data_dir, HELIXFLOW_REDIS_BUDGET_MS=budget_ms)
        web = running.enter_context(running_web(workers=workers, environment=given))
        meters = running.enter_context(Meters(data_dir))
        fate: Fate = Nothing()
        if server is not None:
            fate = RedisBreaker(seed, server, restarts=scenario == REDIS_RESTARTS)
        elif scenario == KILLS:
            fate = Killer(seed, web.process.pid, meters)
        run = Run(seed, scenario, web, upstream, tenants)
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(1) as pool:
            acting = pool.submit(lambda: asyncio.run(run.act(deadline)))
            fate.run(deadline)  # not in the other thread: what is started there ends with it
            acting.result()
        run.report.kills = fate.kills
        run.close_the_books(workers, data_dir / "spool", patient=patient)
        run.look_at_the_processes()
    return run.report


@contextmanager
def _redis_of_its_own(data_dir: Path) -> Iterator[Valkey]:
    server = Valkey(data_dir)
    server.start()
    with override_settings(REDIS_URL=server.url):
        _forget_scripts()
        try:
            yield server
        finally:
            server.go_on()
            server.kill()
    _forget_scripts()


def _forget_scripts() -> None:
    """They know their server."""
    for cached in (quota._script, quota._registered, limits._sync_script, unsettled._page_of):
        cached.cache_clear()


class Run:
    def __init__(
        self,
        seed: int,
        scenario: str,
        web: Web,
        upstream: world.CountingUpstream,
        tenants: list[world.Tenant],
    ) -> None:
        self.report = Report()
        self._seed = seed
        self._scenario = scenario
        self._web = web
        self._upstream = upstream
        self._tenants = tenants
        self._log: list[Entry] = []
        self._memory_growth = 0

    async def act(self, deadline: float) -> None:
        """Until every client has left."""
        log, port = self._log, self._web.port
        warm_up_s = (deadline - time.monotonic()) * WARM_UP_SHARE
        keys = self._scenario not in LOSES_REDIS
        actors = [Actor(f"{self._seed}/{number}", port, self._tenants, log, keys=keys) for number in range(CLIENTS)]
        acting = [actor.run(deadline) for actor in actors]
        if self._scenario not in LOSES_REDIS:  # revocation takes its time without Redis
            acting.append(revoke_over_and_over(port, self._tenants[0], log, deadline))
        running = asyncio.gather(*acting)
        await asyncio.sleep(warm_up_s)
        before = 0
        for _ in range(SAMPLES):  # one that was just killed is missing until it has been started again
            before = max(before, world.resident_bytes(self._web.process.pid))
            await asyncio.sleep(SAMPLE_EVERY_S)
        await running
        await asyncio.to_thread(connections.close_all)
        self._judge(await _becomes_quiet(self._upstream))
        self._memory_growth = world.resident_bytes(self._web.process.pid) - before

    def _judge(self, is_quiet: bool) -> None:
        report, log, upstream = self.report, self._log, self._upstream
        report.calls = len(log)
        report.outcomes = Counter(_outcome(entry) for entry in log)
        report.problems += checker.problems(log, killing=self._scenario == KILLS)
        if self._scenario not in LOSES_REDIS:  # without Redis the minute is each process's own
            report.problems += checker.miscounts(log, self._tenants)
        if not is_quiet:
            report.problems.append(f"{upstream.under_way} exchanges at the upstream go on after all clients left.")
        if upstream.connections > MAX_IDLE:
            report.problems.append(f"{upstream.connections} upstream connections are open after all clients left.")
        if not any(entry.kind == "good" and entry.answer.status == 200 for entry in log):
            report.problems.append("Nothing succeeded: the run proved nothing.")

    def close_the_books(self, workers: int, spool: Path, *, patient: bool) -> None:
        """Wait until all is settled and metered, and compare."""
        accounts = [Account(tenant.organization, tenant.owner) for tenant in self._tenants]
        began = time.monotonic()
        try:
            if not patient:
                _reap(workers)
            wait_for(lambda: not any(account.notes() for account in accounts), seconds=SETTLED_S)
            # What was written down while Redis was away; of processes that died then, others take it over in time.
            wait_for(lambda: not any(file.stat().st_size for file in spool.glob("*/*.log")), seconds=SETTLED_S)
            self.report.settled_after_s = time.monotonic() - began
            for account, tenant in zip(accounts, self._tenants, strict=True):
                until_agreed(account, lambda key=tenant.key: chat(self._web, key, model="normal"))  # type: ignore[misc]  # bound by its default
        except AssertionError as error:
            self.report.problems.append(f"Two minutes later something is still not settled: {error}")
        books = Books(self._log, self._upstream.requests, self._tenants)
        self.report.records = len(books.records)
        self.report.problems += books.problems()

    def look_at_the_processes(self) -> None:
        problems = self.report.problems
        if self._memory_growth > MEMORY_GROWTH_BYTES:
            problems.append(f"Memory grew by {self._memory_growth / 2**20:.0f} MiB after the warm-up.")
        if self._web.process.poll() is not None:
            problems.append("The web process ended.")
        if "Traceback" in (output := self._web.output()):
            problems.append(f"A traceback in the log:\n{output[output.index('Traceback') :][:3000]}")


def _reap(workers: int) -> None:
    """The living beat once a second, so who is still without a heartbeat is dead."""
    client: Any = redis.sync_client()
    for key in client.keys(heartbeat_key("*")):
        client.delete(key)
    wait_for(lambda: len(client.keys(heartbeat_key("*"))) >= workers)
    Reaper(grace_s=0).run_once()


async def _becomes_quiet(upstream: world.CountingUpstream) -> bool:
    deadline = time.monotonic() + QUIET_S
    while upstream.under_way and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return not upstream.under_way


def _outcome(entry: Entry) -> str:
    answer = entry.answer
    if answer.left:
        return "left"
    if answer.status != 200:
        return str(answer.status or "nothing")
    return "200 with an error in the stream" if b'data: {"error"' in answer.body else "200"
