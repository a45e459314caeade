"""`python -m bench.webhooks`: how soon an event arrives, and how fast one worker process works off a backlog.

The whole of HelixFlow runs: web, meter, deliverer, sweeper, beat, PostgreSQL that syncs its commits, Valkey. Soon: from
the last byte of a completion at its caller to the event at the receiver, at a calm pace. Fast: beside a bare loop of
`requests.post` with the same headers and body to the same receiver, in turns in one run, as the ratio travels. Each
delivery must be recorded as a success at the end: a fast wrong answer is not a result.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from bench import gateway, nginx
from bench.processes import ROOT, BenchError, Processes, cores, pinned
from helixflow.stack import embedded

EVERY_S: Final = 0.25
PATIENCE_S: Final = 120
ENDPOINTS: Final = 10  # of the round with several


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--completions", type=int, default=200, help="at a calm pace (default 200)")
    parser.add_argument("--deliveries", type=int, default=5_000, help="of a backlog (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="of backlogs and bare loops (default 3)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        with Processes(folder / "output.log") as processes:
            Bench(processes, folder, options).run()
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}\nThe output of what it started: {folder / 'output.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


@dataclass(frozen=True)
class Drained:
    """``cpu_us``: what the sending process spent on each, which a busy machine disturbs less than the rate."""

    per_second: float
    cpu_us: float


class Bench:
    def __init__(self, processes: Processes, folder: Path, options: argparse.Namespace) -> None:
        self.processes = processes
        self.folder = folder
        self.options = options
        self.core, self.other = cores()
        self.port = embedded.free_port()
        self.made = 0  # deliveries

    def run(self) -> None:
        self.start()
        self.publish(1, to=1)  # wakes everything, and tells what a delivery looks like
        self.wait_for(1)
        self.settle()
        request = self.request()
        if self.options.completions:
            report_latency(self.latency())
        if self.options.deliveries:
            self.throughput(request)
        self.verify()
        print(f"\nEach of {self.made:,} deliveries is recorded as a success, with one attempt.")
        print(f"Load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")

    def start(self) -> None:
        upstream_port = embedded.free_port()
        upstream = self.processes.start(pinned(self.other, *nginx.upstream(self.folder / "upstream", upstream_port)))
        self.processes.listening(upstream, upstream_port)
        receiver = self.processes.start([sys.executable, str(ROOT / "bench" / "receiver.py"), str(self.port)])
        self.processes.listening(receiver, self.port)
        os.environ["HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK"] = "true"
        print("Starting HelixFlow …", flush=True)
        self.gateway = gateway.start(
            self.processes,
            self.folder / "data",
            upstream=f"http://127.0.0.1:{upstream_port}",
            core=self.core,
            other_core=self.other,
        )
        self.processes.start([sys.executable, str(ROOT / "manage.py"), "meter"])
        self.deliverer = self.celery("worker", "--queues=webhooks", "--concurrency=32")
        self.celery("worker", "--queues=celery", "--concurrency=4")
        self.celery("beat")
        from accounts.models import Organization

        self.organization = Organization.objects.get()
        self.endpoints = [self.endpoint(number) for number in range(ENDPOINTS)]

    def celery(self, what: str, *options: str) -> int:
        """As `manage.py up` starts it."""
        if what == "worker":
            options = (
                *options,
                f"--hostname={options[0]}@%h",
                "--pool=threads",
                "--without-gossip",
                "--without-mingle",
            )
        command = [sys.executable, "-m", "celery", "-q", "--workdir", str(ROOT), "-A", "helixflow", what]
        return self.processes.start([*command, "--loglevel=WARNING", *options]).pid

    def endpoint(self, number: int) -> Any:
        from helixflow.lib import crypto
        from webhooks import signing
        from webhooks.models import Endpoint, EventType

        return Endpoint.objects.create(
            organization=self.organization,
            url=f"http://127.0.0.1:{self.port}/{number}",
            events=[EventType.COMPLETION_CREATED] if number == 0 else [EventType.COMPLETION_FAILED],
            sealed_secret=crypto.encrypt(signing.new_secret()),
        )

    # How soon

    def latency(self) -> dict[str, list[float]]:
        """Milliseconds, by kind of completion."""
        dice, ended = random.Random(1), {}
        session = requests.Session()
        for number in range(self.options.completions):
            time.sleep(dice.uniform(0.5, 1.5) * EVERY_S)  # in no step with anybody's polling
            kind = "streamed" if number % 2 else "whole"
            ended[self.complete(session, stream=kind == "streamed")] = (kind, time.monotonic())
            self.made += 1
        self.wait_for(len(ended))
        found: dict[str, list[float]] = {"whole": [], "streamed": []}
        for at, body in self.tell():
            kind, then = ended.pop(json.loads(body)["data"]["id"])
            found[kind].append((at - then) * 1e3)
        if ended:
            raise BenchError(f"{len(ended)} completions without an event")
        return found

    def complete(self, session: requests.Session, *, stream: bool) -> str:
        """The completion's id, once its last byte has come."""
        model = gateway.STREAM_MODEL if stream else nginx.MODEL
        body = {"model": model, "messages": [{"role": "user", "content": "Hello, world!"}], "stream": stream}
        headers = {"Authorization": f"Bearer {self.gateway.key}"}
        answer = session.post(self.gateway.url, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        told: dict[str, str] = (
            json.loads(answer.text.partition("\n")[0].removeprefix("data: ")) if stream else answer.json()
        )
        return told["id"]

    # How fast

    def throughput(self, request: dict[str, Any]) -> None:
        count = self.options.deliveries
        bare: list[Drained] = []
        drained: dict[int, list[Drained]] = {1: [], ENDPOINTS: []}
        for _ in range(self.options.rounds):
            for to, found in drained.items():
                bare.append(self.bare(request, min(count, 2_000)))
                found.append(self.drain(count, to=to))
        report_throughput(bare, drained)

    def bare(self, request: dict[str, Any], count: int) -> Drained:
        command = [sys.executable, str(ROOT / "bench" / "bare.py"), f"http://127.0.0.1:{self.port}/bare", str(count)]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"The bare loop failed:\n{done.stderr}")
        self.tell()
        rate, cpu_us = done.stdout.split()
        return Drained(float(rate), float(cpu_us))

    def drain(self, count: int, *, to: int) -> Drained:
        before = self.cpu()
        self.publish(count // to, to=to)
        arrived, first, last = self.wait_for(count)
        self.tell()
        self.settle()
        return Drained((arrived - 1) / (last - first), (self.cpu() - before) / count * 1e6)

    def publish(self, count: int, *, to: int) -> None:
        """In one transaction, as nobody does: the backlog is there at once."""
        from django.db import transaction

        from webhooks import payloads, services
        from webhooks.models import Endpoint, EventType

        kind = EventType.COMPLETION_CREATED if to == 1 else EventType.QUOTA_LOW
        if to > 1:
            Endpoint.objects.update(events=[EventType.COMPLETION_CREATED, EventType.QUOTA_LOW])
        data = payloads.example(EventType.COMPLETION_CREATED, self.organization.public_id)
        with transaction.atomic():
            services.publish_all(services.Happening(self.organization.id, kind, data) for _ in range(count))
        Endpoint.objects.exclude(id=self.endpoints[0].id).update(events=[EventType.COMPLETION_FAILED])
        self.made += count * to

    def request(self) -> dict[str, Any]:
        from webhooks.models import Attempt

        (_, body), headers = self.tell()[0], Attempt.objects.get().request_headers
        return {"body": body, "headers": headers}

    # What both need

    def wait_for(self, count: int) -> tuple[int, float, float]:
        """How many came, and when the first and the last did."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.ask("count"))[0] < count:
            if time.monotonic() > deadline:
                raise BenchError(f"{found[0]:,} of {count:,} events arrived within {PATIENCE_S} s")
            time.sleep(0.1)
        return found[0], found[1], found[2]

    def tell(self) -> list[tuple[float, str]]:
        """What came since it was asked last."""
        return [(at, body) for at, body in self.ask("log")]

    def ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=30) as answer:
            return json.load(answer)

    def settle(self) -> None:
        from webhooks.models import Delivery, DeliveryState

        def settled() -> bool:
            return not Delivery.objects.filter(state=DeliveryState.PENDING).exists()

        _wait(settled, "deliveries are pending")

    def verify(self) -> None:
        from webhooks.models import Attempt, Delivery, DeliveryState

        self.settle()
        succeeded = Delivery.objects.filter(state=DeliveryState.SUCCEEDED, attempt_count=1).count()
        attempts = Attempt.objects.filter(succeeded=True).count()
        if (succeeded, attempts) != (self.made, self.made):
            raise BenchError(f"{self.made:,} deliveries became {succeeded:,}, with {attempts:,} attempts")

    def cpu(self) -> float:
        """Seconds of the deliverer's, all threads."""
        threads = Path(f"/proc/{self.deliverer}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"After {PATIENCE_S} s {what}.")
        time.sleep(0.02)


def report_latency(found: dict[str, list[float]]) -> None:
    print(f"\n{'From a completion´s last byte to its event':<46} p50 ms   p99 ms   most ms")
    for name, milliseconds in (*found.items(), ("all", [each for kind in found.values() for each in kind])):
        ordered = sorted(milliseconds)
        if ordered:
            p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            print(f"  {f'{name} ({len(ordered)})':<44} {p50:>6.0f}   {p99:>6.0f}   {ordered[-1]:>7.0f}")


def report_throughput(bare: list[Drained], drained: dict[int, list[Drained]]) -> None:
    loop = median(bare)
    print(f"\n{'One worker process on a backlog':<46} each/s   of the bare loop   CPU µs")
    print(f"  {'bare loop of requests.post':<44} {loop.per_second:>6.0f} {loop.cpu_us:>27.0f}")
    for endpoints, samples in drained.items():
        found = median(samples)
        share = found.per_second / loop.per_second
        print(f"  {f'to {endpoints} endpoint(s)':<44} {found.per_second:>6.0f} {share:>18.0%} {found.cpu_us:>8.0f}")


def median(samples: list[Drained]) -> Drained:
    return Drained(
        statistics.median(sample.per_second for sample in samples),
        statistics.median(sample.cpu_us for sample in samples),
    )


if __name__ == "__main__":
    sys.exit(main())
