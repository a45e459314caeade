"""Real Celery processes that deliver, for tests that kill them, stop them, and take their servers away."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from helixflow.lib import tasks
from tests import web
from tests.faults.world import environment
from tests.soak.world import resident_bytes
from webhooks.models import Delivery, DeliveryState

STOP_S = 30


class Worker:
    """One process of Celery's, as ``manage.py up`` starts it. ``start`` after ``kill`` makes another."""

    def __init__(self, name: str, data_dir: Path, arguments: list[str], given: dict[str, str]) -> None:
        self.log = data_dir / f"{name}.log"
        self._command = [sys.executable, "-m", "celery", "-q", "-A", "helixflow", *arguments, "--loglevel=WARNING"]
        self._environment = {
            **web.environment_on(1, "http://127.0.0.1", 1),
            **environment(data_dir),
            "HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK": "true",
            **given,
        }

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=web.ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.process.pid)

    def kill(self) -> None:
        """-9: nothing of it is left, and nothing it held is given back."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as a deployment does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        print(f"{self.log.name}:\n{self.output[-5000:]}")  # pytest shows it of a test that failed


def deliverer(data_dir: Path, name: str = "deliverer", **given: str) -> Worker:
    return Worker(name, data_dir, _arguments(name, "webhooks", 32), given)


def sweeper(data_dir: Path, **given: str) -> Worker:
    """Runs what beat asks for."""
    return Worker("sweeper", data_dir, _arguments("sweeper", "celery", 2), given)


def beat(data_dir: Path, **given: str) -> Worker:
    return Worker("beat", data_dir, ["beat", "--pidfile="], given)


def _arguments(name: str, queue: str, threads: int) -> list[str]:
    options = [f"--queues={queue}", f"--hostname={name}@%h", "--pool=threads", f"--concurrency={threads}"]
    return ["worker", *options, "--without-gossip", "--without-mingle"]


@contextmanager
def broker(url: str) -> Iterator[None]:
    """Tasks of this process go there; Celery asks the environment first, at every connection."""
    known = os.environ.get("CELERY_BROKER_URL")
    os.environ["CELERY_BROKER_URL"] = url
    _forget_broker()
    try:
        yield
    finally:
        os.environ.pop("CELERY_BROKER_URL")
        if known is not None:
            os.environ["CELERY_BROKER_URL"] = known
        _forget_broker()


def _forget_broker() -> None:
    tasks._producers.cache_clear()
    tasks._away_until = 0.0


def unfinished() -> int:
    """Deliveries that are still to be made, or that somebody holds."""
    pending = Delivery.objects.filter(state=DeliveryState.PENDING)
    return (pending | Delivery.objects.filter(lease__isnull=False)).count()
