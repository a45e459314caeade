"""`python -m bench.meter`: how fast the usage streams drain into the ledger, with PostgreSQL, Valkey and the meters
sharing what cores there are, as on a small installation. PostgreSQL syncs every commit.

Fills the streams first, then starts the meters, so it measures how a backlog is worked off. At the end every event
must be one record and counted once in the sums: a fast wrong answer is not a result.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.processes import ROOT, BenchError, Processes, manage
from helixflow.stack import embedded

MODELS = ("gpt-3.5-turbo", "gpt-4", "text-large")
DEPLOYMENTS = ("east", "west")
CODES = ("timeout", "service_unavailable", "invalid_request")
GIVE_UP_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.meter", description=__doc__, allow_abbrev=False)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--organizations", type=int, default=200, help="each with 3 API keys (default 200)")
    parser.add_argument("--meters", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        with Processes(folder / "output.log") as processes:
            run(processes, folder, options)
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}\nThe output of what it started: {folder / 'output.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(processes: Processes, folder: Path, options: argparse.Namespace) -> None:
    os.environ.update(
        HELIXFLOW_ENV="development",
        HELIXFLOW_DATA_DIR=str(folder / "data"),
        DJANGO_SETTINGS_MODULE="helixflow.settings",
        DATABASE_URL=service(processes, embedded.postgresql(folder / "data", port=embedded.free_port())),
        REDIS_URL=service(processes, embedded.valkey(folder / "data", port=embedded.free_port())),
    )
    manage(dict(os.environ), "migrate", "--verbosity", "0")
    import django

    django.setup()  # settings are read from the environment made above, so no model can be imported before
    price_models()
    print(
        f"Filling the streams with {options.events:,} events of {options.organizations:,} organizations …", flush=True
    )
    fill(options)
    command = [sys.executable, str(ROOT / "manage.py"), "meter"]
    started = [processes.start(command) for _ in range(options.meters)]
    taken, seconds = drain(options.events)
    verify(options.events)
    cpu = cpu_seconds([process.pid for process in started])
    print(f"{options.meters} meter(s): {taken / seconds:,.0f} events/s ({taken:,} in {seconds:.1f} s)")
    print(f"CPU of the meters: {cpu / options.events * 1e6:.0f} µs an event")


def service(processes: Processes, wanted: embedded.Service) -> str:
    wanted.prepare()
    process = processes.start(wanted.command, stop=wanted.stop_signal, **wanted.identity)
    embedded.wait_until_ready(wanted, process)
    return wanted.url


def price_models() -> None:
    from billing import partitions
    from billing.models import Price

    partitions.ensure()
    long_ago = datetime.now(UTC) - timedelta(days=1)
    prices = {"starts_at": long_ago, "input": Decimal(3), "output": Decimal(15)}
    Price.objects.bulk_create(Price(model=name, **prices) for name in MODELS)


def fill(options: argparse.Namespace) -> None:
    from billing import events, redis_keys
    from helixflow.lib import redis

    pipeline = redis.connect(timeout_s=30).pipeline(transaction=False)
    for number, event in enumerate(made_up(options), 1):
        stream = redis_keys.usage_stream(redis.shard_tag(event.organization_id))
        pipeline.xadd(stream, {"o": event.organization_id.hex, "e": events.encode(event)})
        if number % 1_000 == 0 or number == options.events:
            pipeline.execute()


def made_up(options: argparse.Namespace) -> Iterator[Any]:
    """Like those of a busy hour: one in twenty failed, some with two attempts, most streamed."""
    from billing import events
    from helixflow.lib import ids

    dice = random.Random(1)
    organizations = [(ids.uuid7(), [ids.uuid7() for _ in range(3)]) for _ in range(options.organizations)]
    for _ in range(options.events):
        organization_id, keys = dice.choice(organizations)
        failed = dice.random() < 0.05
        deployment = dice.choice(DEPLOYMENTS)
        attempts = [events.Attempt(deployment, "timeout" if failed else "ok", dice.lognormvariate(6, 1))]
        if dice.random() < 0.1:
            attempts.insert(0, events.Attempt("north", "status 503", dice.lognormvariate(3, 1)))
        yield events.Usage(
            id=ids.uuid7(),
            organization_id=organization_id,
            api_key_id=dice.choice(keys),
            user_id=uuid.UUID(int=dice.getrandbits(128)),
            month=int(f"{datetime.now(UTC):%Y%m}"),
            units=int(not failed),
            status=503 if failed else 200,
            error_code=dice.choice(CODES) if failed else "",
            duration_ms=dice.lognormvariate(6, 1),
            model=dice.choice(MODELS),
            deployment=deployment,
            attempts=attempts,
            streamed=dice.random() < 0.7,
            end_user=f"customer-{dice.randrange(10_000)}",
            usage_source=events.NOTHING if failed else events.PROVIDER,
            tokens=events.Tokens()
            if failed
            else events.Tokens(input=dice.randrange(4_000), output=dice.randrange(800)),
            first_token_ms=None if failed else dice.lognormvariate(5, 1),
        )


def drain(total: int) -> tuple[int, float]:
    """How many events were taken in how many seconds, from the first batch that was seen to be gone."""
    deadline = time.monotonic() + GIVE_UP_S
    began, at_first = 0.0, total
    while left := backlog():
        if left < total and not began:
            began, at_first = time.monotonic(), left
        if time.monotonic() > deadline:
            raise BenchError(f"{left:,} events were left after {GIVE_UP_S} s")
        time.sleep(0.02)
    return at_first, time.monotonic() - began


def backlog() -> int:
    from billing import redis_keys
    from helixflow.lib import redis

    client = redis.sync_client()
    return sum(client.xlen(redis_keys.usage_stream(tag)) for tag in redis.SHARD_TAGS)


def verify(total: int) -> None:
    from django.db.models import Sum

    from billing.models import UsageHour, UsageMonth, UsageRecord

    found = {
        "records": UsageRecord.objects.count(),
        "by hour": UsageHour.objects.aggregate(Sum("requests"))["requests__sum"],
        "by month": UsageMonth.objects.aggregate(Sum("requests"))["requests__sum"],
    }
    if set(found.values()) != {total}:
        raise BenchError(f"{total:,} events became {found}")


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes that still run."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
