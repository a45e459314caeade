"""One run: start the clients, let them be, and gather what should not have been."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from django.db import connections

from tests.soak import checker, world
from tests.soak.clients import Actor, Entry, revoke_over_and_over
from tests.web import Web, running_web

CLIENTS = 24
WARM_UP_SHARE = 0.3
MEMORY_GROWTH_BYTES = 48 * 1024 * 1024
MAX_IDLE = 64  # connections that the gateway may keep to one upstream
QUIET_S = 3.0


@dataclass
class Report:
    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def soak(*, seed: int, seconds: float, workers: int = 1) -> Report:
    """Needs a migrated database whose rows other processes can see, and leaves its rows behind."""
    with world.CountingUpstream() as upstream:
        world.make_models(upstream)
        tenants = [
            world.make_tenant(f"plenty-{seed}", limit=world.PLENTY),
            world.make_tenant(f"scarce-{seed}", limit=60),
        ]
        with running_web(workers=workers) as web:
            report = asyncio.run(_act(seed, seconds, web, upstream, tenants))
            if web.process.poll() is not None:
                report.problems.append("The web process ended.")
            if "Traceback" in (output := web.output()):
                report.problems.append(f"A traceback in the log:\n{output[output.index('Traceback') :][:3000]}")
    return report


async def _act(
    seed: int, seconds: float, web: Web, upstream: world.CountingUpstream, tenants: list[world.Tenant]
) -> Report:
    log: list[Entry] = []
    started = time.monotonic()
    deadline = started + seconds
    actors = [Actor(f"{seed}/{number}", web.port, tenants, log) for number in range(CLIENTS)]
    running = asyncio.gather(
        *(actor.run(deadline) for actor in actors), revoke_over_and_over(web.port, tenants[0], log, deadline)
    )
    await asyncio.sleep(seconds * WARM_UP_SHARE)
    before = world.resident_bytes(web.process.pid)
    await running
    await asyncio.to_thread(connections.close_all)

    report = Report(len(log), Counter(_outcome(entry) for entry in log))
    report.problems += checker.problems(log) + checker.miscounts(log, tenants)
    if not await _becomes_quiet(upstream):
        report.problems.append(f"{upstream.under_way} exchanges at the upstream go on after all clients left.")
    if upstream.connections > MAX_IDLE:
        report.problems.append(f"{upstream.connections} upstream connections are open after all clients left.")
    growth = world.resident_bytes(web.process.pid) - before
    if growth > MEMORY_GROWTH_BYTES:
        report.problems.append(f"Memory grew by {growth / 2**20:.0f} MiB after the warm-up.")
    if not any(entry.kind == "good" and entry.answer.status == 200 for entry in log):
        report.problems.append("Nothing succeeded: the run proved nothing.")
    return report


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
