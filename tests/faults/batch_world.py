"""Batches that real workers work on, and what must be true once they have ended."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django import db
from django.conf import settings

from billing.models import UsageRecord
from helixflow.lib import ids
from inference.batch import files, lanes
from inference.batch_models import Batch, ItemState, StoredFile
from tests import web
from tests.billing.admitting import Account, drain
from tests.fakes.behaviours import Call
from tests.fakes.upstream import Upstream
from tests.inference.batch import engine
from tests.stack import wait_for
from tests.webhooks.workers import Worker

PATIENCE_S = 90
QUICK = {"HELIXFLOW_BATCH_LEASE_S": "2", "HELIXFLOW_BATCH_TURN_S": "1", "HELIXFLOW_BATCH_DELAYS_S": "0.2,1,1,1,1,1"}


def batcher(data_dir: Path, running: web.Web, name: str = "batcher", *, threads: int = 4, **given: str) -> Worker:
    """As ``manage.py up`` starts it, but in more of a hurry."""
    options = ["--queues=batches", f"--hostname={name}@%h", "--pool=threads", f"--concurrency={threads}"]
    arguments = ["worker", *options, "--without-gossip", "--without-mingle"]
    # Files are where this process has put them.
    here = {"HELIXFLOW_DATA_DIR": str(settings.DATA_DIR), "HELIXFLOW_BATCH_URL": running.url}
    return Worker(name, data_dir, arguments, here | QUICK | given)


def slow(upstream: Upstream, seconds: float) -> None:
    """Each answer takes so long."""

    async def wait(call: Call) -> bool:
        await asyncio.sleep(seconds)
        return False

    upstream.trouble = wait


def watch(batch: Batch, until: Callable[[Batch], bool], *, sweeps: bool = True) -> list[int]:
    """Sweeps as beat has it done, until the batch is as it should be. The progress that was seen."""
    seen: list[int] = []

    def reached() -> bool:
        try:
            batch.refresh_from_db()
            if sweeps:
                lanes.sweep()
        except db.Error:  # PostgreSQL is away
            db.connection.close()
            return False
        seen.append(batch.settled)
        assert until(batch) or batch.is_open, f"{batch.status}, {batch.settled} of {batch.total}: {batch.errors}"
        return until(batch)

    wait_for(reached, seconds=PATIENCE_S, what="a batch did not get as far as it should")
    return seen


def until_ended(batch: Batch) -> list[int]:
    return watch(batch, lambda now: not now.is_open)


def until_settled(batch: Batch, least: int) -> list[int]:
    return watch(batch, lambda now: now.settled >= least)


def check(batch: Batch, upstream: Upstream, *, completed: int, repeats: int = 0) -> None:
    """Each was asked once, and is in the file that it belongs into, in order."""
    assert (batch.completed, batch.failed) == (completed, batch.total - completed)
    counts = Counter(item.state for item in engine.items(batch))
    assert counts == Counter(completed=completed, failed=batch.failed) + Counter()
    assert numbers(batch) == [item.position for item in engine.items(batch) if item.state == ItemState.COMPLETED]
    asked = Counter(request.json["messages"][0]["content"] for request in upstream.requests)
    assert asked.total() - len(asked) <= repeats, [each for each in asked.items() if each[1] > 1]


def check_books(batch: Batch, account: Account, *, completed: int) -> None:
    """Each was billed once, for what the batch says that it cost."""
    records = settled_records(account, completed)
    assert sum(record.units for record in records.values()) == completed
    for item in engine.items(batch):
        if item.state == ItemState.COMPLETED:
            record = records[ids.parse_public_id(ids.REQUEST, item.request_id)]
            assert (record.status, record.api_key_id) == (200, account.key.row.id)
            assert item.completion_tokens == record.output_tokens
    assert batch.cost == sum(record.cost for record in records.values())


def settled_records(account: Account, units: int) -> dict[Any, UsageRecord]:
    """Once the meter has written them."""

    def written() -> bool:
        drain()
        return sum(record.units for record in account.records()) >= units and not account.notes()

    wait_for(written, seconds=PATIENCE_S, what="not all of it was metered")
    assert account.used() == units
    return {record.id: record for record in account.records()}


def numbers(batch: Batch) -> list[int]:
    """Of the requests in its output file, in the file's order."""
    if batch.output_file_id is None:
        return []
    output = StoredFile.objects.get(id=batch.output_file_id)
    return [int(json.loads(line)["custom_id"].rpartition("-")[2]) for line in files.lines(output)]


def kill_one_gateway(running: web.Web) -> None:
    """One of several processes; the parent starts another."""
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
