"""Starts what is measured on the core it is given, waits until it answers, and stops all of it by process id."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from helixflow.stack import embedded

ROOT = Path(__file__).resolve().parent.parent
_SBIN = os.pathsep + "/usr/sbin" + os.pathsep + "/usr/local/sbin"


class BenchError(Exception):
    """One clear line for the person who started it."""


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + _SBIN)
    if found is None:
        package = {"nginx": "nginx-light", "setpriv": "util-linux", "taskset": "util-linux"}.get(name, name)
        raise BenchError(f"{name} is not installed. On Debian and Ubuntu: apt-get install {package}")
    return found


def cores() -> tuple[int, int]:
    """The core of the proxy under test, and that of everything else."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError("The bench needs two cores: one for what is measured, one for the load and the upstream.")
    return usable[0], usable[1]


def pinned(core: int, *command: str) -> list[str]:
    """``command`` on one core, ending with the bench even if that is killed."""
    return [program("setpriv"), "--pdeathsig", "TERM", program("taskset"), "--cpu-list", str(core), *command]


class Processes(ExitStack):
    """Children of the bench; leaving the block stops them, last started first."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    def start(
        self, command: list[str], *, environment: dict[str, str] | None = None, stop: str = "SIGTERM", **identity: Any
    ) -> "subprocess.Popen[bytes]":
        """``identity``: Popen's user and group."""
        output = self.enter_context(self._log.open("ab"))
        process = subprocess.Popen(
            command, cwd="/", env=environment, stdout=output, stderr=output, start_new_session=True, **identity
        )
        self.callback(_stop, process, signal.Signals[stop])
        return process

    def service(self, service: embedded.Service, core: int) -> str:
        """Start one of the embedded servers on ``core``; its URL."""
        service.prepare()
        process = self.start(pinned(core, *service.command), stop=service.stop_signal, **service.identity)
        embedded.wait_until_ready(service, process)
        return service.url

    def listening(self, process: "subprocess.Popen[bytes]", port: int, *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"Nothing answers on port {port}. Its output: {self._log}") from None
                time.sleep(0.05)
            else:
                return


def _stop(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def manage(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"manage.py {arguments[0]} failed:\n{done.stderr}")
