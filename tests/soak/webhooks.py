"""Webhooks under fire: events are published while workers are killed and Valkey loses its power, to a moody receiver.

What is published follows from the seed, as do the receiver's moods and the order of the kills.
"""

import random
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from django.db import connection, transaction
from django.test import override_settings

from accounts.models import Organization
from helixflow.lib import crypto
from tests import factories
from tests.faults.world import Valkey
from tests.soak import webhook_books
from tests.soak.moody import MoodyReceiver
from tests.webhooks import workers
from webhooks import services, signing
from webhooks.models import Endpoint, EventType

DELAYS_S: Final = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
TIMEOUT_S: Final = 2
LEASE_S: Final = 6
ROLLED_BACK: Final = 0.05  # of the transactions: nobody may hear of their events
MOST_AT_ONCE: Final = 20  # events of a transaction
RESTARTED: Final = "the broker"
MOST_UNFINISHED: Final = 200
PATIENCE_S: Final = 180.0  # after the last event, until nothing is left to do


@dataclass
class Report:
    events: int = 0
    calls: int = 0
    attempts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    finished_after_s: float = 0.0
    lateness_s: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} × {name}" for name, count in self.kills.most_common()) or "nothing"
        late = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.lateness_s.items())
        return (
            f"{self.events} events, {self.calls} calls, {self.attempts} attempts; killed: {kills};\n"
            f"all done {self.finished_after_s:.0f} s after the last event; late by {late}."
        )


def soak(
    *,
    seed: int,
    data_dir: Path,
    events: int,
    per_second: float = 60,
    deliverers: int = 2,
    kill_every_s: tuple[float, float] = (3, 9),
    most_kills: int = 10**6,
    patience_s: float = PATIENCE_S,
) -> Report:
    """Needs a migrated, empty database whose rows other processes can see, and leaves its rows behind.

    The broker's power fails once, halfway.
    """
    report = Report()
    organization = factories.organization(owner=factories.user(f"webhooks-{seed}"))
    with ExitStack() as running:
        server = Valkey(data_dir)
        server.start()
        running.callback(server.kill)
        running.enter_context(override_settings(REDIS_URL=server.url))
        running.enter_context(workers.broker(server.url))
        secrets: dict[str, str] = {}
        moody = running.enter_context(MoodyReceiver(seed, secrets))
        endpoints = _endpoints(organization, moody)
        secrets |= {f"/{endpoint.description}": endpoint.secret for endpoint in endpoints}
        processes = running.enter_context(Processes(data_dir, deliverers))
        published = Publisher(seed, organization, events, per_second)
        published.start()
        fate = Fate(seed, server, processes, kill_every_s, most_kills)
        fate.run(published)
        published.join()
        report.kills = fate.kills
        report.events = len(published.events)
        report.finished_after_s = _wait_until_finished(report, patience_s)
        if published.error is not None:
            report.problems.append(f"The publisher failed: {published.error!r}")
        report.problems += processes.complaints()
        books = webhook_books.Books(published.events, moody, endpoints, DELAYS_S, report.kills.total())
        report.calls, report.attempts = len(moody.arrivals), len(books.attempts)
        report.problems += books.problems()
        report.lateness_s = books.lateness_s()
    return report


def _endpoints(organization: Organization, moody: MoodyReceiver) -> list[Endpoint]:
    """One for each type of event."""
    made = []
    for number, kind in enumerate(EventType.values):
        url, sealed = f"{moody.base_url}/{number}", crypto.encrypt(signing.new_secret())
        made.append(factories.endpoint(organization, url, events=[kind], description=str(number), sealed_secret=sealed))
    return made


class Processes:
    """What delivers, killed and started again."""

    def __init__(self, data_dir: Path, deliverers: int) -> None:
        given = {
            "HELIXFLOW_WEBHOOK_DELAYS_S": ",".join(map(str, DELAYS_S)),
            "HELIXFLOW_WEBHOOK_TIMEOUT_S": str(TIMEOUT_S),
            "HELIXFLOW_WEBHOOK_LEASE_S": str(LEASE_S),
        }
        names = [f"deliverer-{number}" for number in range(deliverers)]
        self.of = {name: workers.deliverer(data_dir, name, **given) for name in names}
        self.of |= {"sweeper": workers.sweeper(data_dir, **given), "beat": workers.beat(data_dir, **given)}

    def __enter__(self) -> Self:
        for worker in self.of.values():
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.of.values():
            if worker.process.poll() is None:
                worker.kill()

    def complaints(self) -> list[str]:
        found = []
        for name, worker in self.of.items():
            if worker.process.poll() is not None:
                found.append(f"{name} ended by itself:\n{worker.output[-2000:]}")
            elif "Traceback" in (output := worker.output) and not _is_about_the_broker(output):
                found.append(f"A traceback of {name}:\n{output[output.index('Traceback') :][:3000]}")
        return found


def _is_about_the_broker(output: str) -> bool:
    """Celery tells of a broker that went away with a traceback."""
    told = ("redis.exceptions", "ConnectionRefusedError", "Couldn't ack")
    return any(words in output for words in told)


class Publisher(threading.Thread):
    """Publishes in transactions of a few events, at a steady pace, and waits while too many are unfinished: what is
    late shall be so because of what was killed, and not because the machine is busy.

    ``events``: public id → number in its data.
    """

    def __init__(self, seed: int, organization: Organization, total: int, per_second: float) -> None:
        super().__init__()
        self.events: dict[str, int] = {}
        self.error: Exception | None = None
        self.total = total
        self._dice = random.Random(f"publish {seed}")
        self._organization = organization
        self._per_second = per_second

    @property
    def share(self) -> float:
        return len(self.events) / self.total

    def run(self) -> None:
        began = time.monotonic()
        try:
            while (done := len(self.events)) < self.total:
                time.sleep(max(0.0, began + done / self._per_second - time.monotonic()))
                while workers.unfinished() > MOST_UNFINISHED:
                    time.sleep(0.1)
                self._transaction(min(self._dice.randint(1, MOST_AT_ONCE), self.total - done))
        except Exception as error:  # noqa: BLE001  # told in the report, by the other thread
            self.error = error
        finally:
            connection.close()

    def _transaction(self, size: int) -> None:
        rolled_back = self._dice.random() < ROLLED_BACK
        first = len(self.events)
        numbers = range(-size, 0) if rolled_back else range(first, first + size)
        with transaction.atomic():
            events = services.publish_all(self._happening(number) for number in numbers)
            transaction.set_rollback(rolled_back)
        if not rolled_back:
            self.events |= {event.public_id: event.data["number"] for event in events}

    def _happening(self, number: int) -> services.Happening:
        data: dict[str, Any] = {
            "number": number,
            "text": "ü € 😀 </script>" * self._dice.randint(0, 20),
            "zeta": {"b": 1, "a": [1.5, None, True]},
        }
        kind = self._dice.choice(list(EventType))
        return services.Happening(self._organization.id, kind, data, dedupe_key=f"soak {uuid.uuid4()}")


class Fate:
    """Kills one process after the other, and once the broker."""

    def __init__(
        self,
        seed: int,
        server: Valkey,
        processes: Processes,
        every_s: tuple[float, float],
        most: int,
    ) -> None:
        self.kills: Counter[str] = Counter()
        self._dice = random.Random(f"webhook kills {seed}")
        self._server = server
        self._processes = processes
        self._every_s = every_s
        self._most = most

    def run(self, published: Publisher) -> None:
        """Until all is published."""
        next_kill = time.monotonic() + self._dice.uniform(*self._every_s)
        while published.error is None and published.share < 1:
            time.sleep(0.05)
            if not self.kills[RESTARTED] and published.share >= 0.5:
                self._cut_power()
            elif time.monotonic() >= next_kill and self.kills.total() - self.kills[RESTARTED] < self._most:
                self._kill()
                next_kill = time.monotonic() + self._dice.uniform(*self._every_s)

    def _kill(self) -> None:
        names = list(self._processes.of)
        name = self._dice.choices(names, [1 if name in {"beat", "sweeper"} else 4 for name in names])[0]
        self._processes.of[name].kill()
        self._processes.of[name].start()
        self.kills[name] += 1

    def _cut_power(self) -> None:
        """Up to a second of its messages is lost, and nobody can queue any meanwhile."""
        written = self._server.written_bytes
        time.sleep(self._dice.uniform(0, 1))
        self._server.cut_power(since_bytes=written)
        time.sleep(self._dice.uniform(0.5, 3))
        self._server.start()
        self.kills[RESTARTED] += 1


def _wait_until_finished(report: Report, patience_s: float) -> float:
    began = time.monotonic()
    while left := workers.unfinished():
        if time.monotonic() - began > patience_s:
            report.problems.append(f"{patience_s:.0f} s after the last event {left} deliveries are pending or leased.")
            break
        time.sleep(0.1)
    return time.monotonic() - began
