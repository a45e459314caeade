"""`python -m bench.meter`: how fast the usage streams drain into the ledger, with PostgreSQL, Valkey and the meters
sharing what cores there are, as on a small installation. PostgreSQL syncs every commit.

Fills the streams first, then starts the meters, so it measures how a backlog is worked off. At the end every event
must be one record and counted once in the sums: a fast wrong answer is not a result. With `--subscribed` each of the
organizations has a webhook endpoint for all events, and each record must be told once. Nothing is delivered.
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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.processes import ROOT, BenchError, Processes, manage
from helixflow.lib import ids
from helixflow.stack import embedded

MODELS = ("gpt-3.5-turbo", "gpt-4", "text-large")
DEPLOYMENTS = ("east", "west")
CODES = ("timeout", "service_unavailable", "invalid_request")
GIVE_UP_S = 300


@dataclass(frozen=True)
class Account:
    id: uuid.UUID
    keys: list[uuid.UUID]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.meter", description=__doc__, allow_abbrev=False)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--organizations", type=int, default=200, help="each with 3 API keys (default 200)")
    parser.add_argument("--meters", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--subscribed", action="store_true", help="all organizations have a webhook endpoint")
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
    postgresql = embedded.postgresql(folder / "data", port=embedded.free_port())
    valkey = embedded.valkey(folder / "data", port=embedded.free_port())
    servers = [start(processes, each) for each in (postgresql, valkey)]
    os.environ.update(
        HELIXFLOW_ENV="development",
        HELIXFLOW_DATA_DIR=str(folder / "data"),
        DJANGO_SETTINGS_MODULE="helixflow.settings",
        DATABASE_URL=postgresql.url,
        REDIS_URL=valkey.url,
    )
    manage(dict(os.environ), "migrate", "--verbosity", "0")
    import django

    django.setup()  # settings are read from the environment made above, so no model can be imported before
    price_models()
    organizations = [Account(ids.uuid7(), [ids.uuid7() for _ in range(3)]) for _ in range(options.organizations)]
    if options.subscribed:
        subscribe(organizations)
    print(
        f"Filling the streams with {options.events:,} events of {options.organizations:,} organizations …", flush=True
    )
    fill(options.events, organizations)
    command = [sys.executable, str(ROOT / "manage.py"), "meter"]
    meters = [processes.start(command).pid for _ in range(options.meters)]
    groups = {"meters": meters, "PostgreSQL and Valkey": servers}
    found = drain(options.events, groups)
    verify(options.events, subscribed=options.subscribed)
    whose = ", all subscribed" if options.subscribed else ""
    print(f"{options.meters} meter(s){whose}: {found.events / found.seconds:,.0f} events/s")
    for name, seconds in found.cpu_s.items():
        print(f"  {name:<24} {seconds / found.events * 1e6:>5.0f} µs of CPU an event")
    print(f"  load of the machine      {os.getloadavg()[0]:>5.1f} on {os.cpu_count()} cores")


def start(processes: Processes, service: embedded.Service) -> int:
    service.prepare()
    process = processes.start(service.command, stop=service.stop_signal, **service.identity)
    embedded.wait_until_ready(service, process)
    return process.pid


def price_models() -> None:
    from billing.metering import partitions
    from billing.models import Price

    partitions.ensure()
    long_ago = datetime.now(UTC) - timedelta(days=1)
    prices = {"starts_at": long_ago, "input": Decimal(3), "output": Decimal(15)}
    Price.objects.bulk_create(Price(model=name, **prices) for name in MODELS)


def subscribe(accounts: list[Account]) -> None:
    from accounts.models import Organization
    from webhooks.models import Endpoint, EventType

    rows = Organization.objects.bulk_create(Organization(id=account.id, name="Bench") for account in accounts)
    Endpoint.objects.bulk_create(
        Endpoint(organization=row, url="https://receiver.example.com", events=EventType.values) for row in rows
    )


def fill(total: int, accounts: list[Account]) -> None:
    from billing import events
    from billing.admission import redis_keys
    from helixflow.lib import redis

    pipeline = redis.connect(timeout_s=30).pipeline(transaction=False)
    for number, event in enumerate(made_up(total, accounts), 1):
        stream = redis_keys.usage_stream(redis.shard_tag(event.organization_id))
        pipeline.xadd(stream, {"o": event.organization_id.hex, "e": events.encode(event)})
        if number % 1_000 == 0 or number == total:
            pipeline.execute()


def made_up(total: int, accounts: list[Account]) -> Iterator[Any]:
    """Like those of a busy hour: one in twenty failed, some with two attempts, most streamed."""
    from billing import events

    dice = random.Random(1)
    for _ in range(total):
        account = dice.choice(accounts)
        failed = dice.random() < 0.05
        deployment = dice.choice(DEPLOYMENTS)
        attempts = [events.Attempt(deployment, "timeout" if failed else "ok", dice.lognormvariate(6, 1))]
        if dice.random() < 0.1:
            attempts.insert(0, events.Attempt("north", "status 503", dice.lognormvariate(3, 1)))
        yield events.Usage(
            id=ids.uuid7(),
            organization_id=account.id,
            api_key_id=dice.choice(account.keys),
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


@dataclass(frozen=True)
class Drained:
    events: int
    seconds: float
    cpu_s: dict[str, float]


def drain(total: int, groups: dict[str, list[int]]) -> Drained:
    """From the first batch that was seen to be gone to the last."""
    deadline = time.monotonic() + GIVE_UP_S
    while (first := backlog()) == total:
        _wait(deadline)
    began, before = time.monotonic(), cpu_seconds(groups)
    while backlog():
        _wait(deadline)
    spent = {name: seconds - before[name] for name, seconds in cpu_seconds(groups).items()}
    return Drained(first, time.monotonic() - began, spent)


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise BenchError(f"The streams were not empty after {GIVE_UP_S} s")
    time.sleep(0.02)


def backlog() -> int:
    from billing.admission import redis_keys
    from helixflow.lib import redis

    client = redis.sync_client()
    return sum(client.xlen(redis_keys.usage_stream(tag)) for tag in redis.SHARD_TAGS)


def verify(total: int, *, subscribed: bool) -> None:
    from django.db.models import Sum

    from billing.models import UsageMonth, UsageRecord
    from billing.rollup_models import UsageHour
    from webhooks.models import Delivery, Event

    found = {
        "records": UsageRecord.objects.count(),
        "by hour": UsageHour.objects.aggregate(Sum("requests"))["requests__sum"],
        "by month": UsageMonth.objects.aggregate(Sum("requests"))["requests__sum"],
    }
    if set(found.values()) != {total}:
        raise BenchError(f"{total:,} events became {found}")
    completions = Event.objects.filter(type__startswith="completion.")
    told = completions.values("data__request_id").distinct().count()
    found = {"told": told, "events": completions.count(), "deliveries": Delivery.objects.count()}
    expected = total if subscribed else 0
    if found != {"told": expected, "events": expected, "deliveries": Event.objects.count()}:
        raise BenchError(f"{total:,} records were told as {found}")


def cpu_seconds(groups: dict[str, list[int]]) -> dict[str, float]:
    """User and system time of processes and their children."""
    found = dict.fromkeys(groups, 0.0)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for name, pids in groups.items():
            if int(stat.parent.name) in pids or int(fields[1]) in pids:
                found[name] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


if __name__ == "__main__":
    sys.exit(main())
