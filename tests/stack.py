"""A real `manage.py up` for a test, and a look at its processes."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from helixflow.lib import secrets
from helixflow.stack import embedded

ROOT = Path(__file__).parents[1]
UP = [sys.executable, str(ROOT / "manage.py"), "up"]
UNSET = ("DATABASE_URL", "REDIS_URL", "OPENAI_API_KEY", "HELIXFLOW_PUBLIC_URL", "HELIXFLOW_EMBEDDED_MODEL")


def _environment(data_dir: Path, port: int) -> dict[str, str]:
    """That of the tests, but with servers of its own and one web process."""
    inherited = {name: value for name, value in os.environ.items() if name not in UNSET}
    return inherited | {
        "HELIXFLOW_DATA_DIR": str(data_dir),
        "HELIXFLOW_PORT": str(port),
        "HELIXFLOW_WEB_PROCESSES": "1",
    }


def wait_for(condition: Callable[[], object], *, seconds: float = 40, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.05)


class Up:
    """``manage.py up`` on ``data_dir``, with its output in a file beside it."""

    def __init__(self, data_dir: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = port or embedded.free_port()
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.environment = _environment(data_dir, self.port) | environment
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*UP, *arguments], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_until_up(self) -> "Up":
        def answered() -> bool:
            assert self.process.poll() is None, self.output
            return "HelixFlow is up" in self.output

        wait_for(answered, seconds=90, what="it did not come up")
        return self

    def answers(self, path: str = "/livez") -> bool:
        return embedded.http_answers("127.0.0.1", self.port, path)

    def manage(self, *arguments: str) -> str:
        """The output of another command of manage.py beside the running stack."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def forget_tries(self) -> None:
        with Redis.from_url(secrets.embedded_services(self.data_dir)["REDIS_URL"]) as client:
            for key in client.scan_iter("cache:*"):
                client.delete(key)

    def child(self, name: str) -> int | None:
        """The process id of the one child whose command holds ``name``."""
        found = [pid for pid, parent in _processes().items() if parent == self.process.pid and name in _command(pid)]
        return found[0] if found else None

    def descendants(self) -> set[int]:
        parents = _processes()
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found - {self.process.pid}

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@dataclass(frozen=True)
class Stack:
    """A whole HelixFlow, the API key of its demo account, and other commands of manage.py beside it.

    ``forget_tries``: of signing up and in, which all come from one address here.
    """

    url: str
    api_key: str
    manage: Callable[..., str]
    forget_tries: Callable[[], None]

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def running_stack(**environment: str) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="helixflow-stack-", ignore_cleanup_errors=True) as folder:
        up = Up(Path(folder) / "data", "--demo", port=None, **environment)
        try:
            up.wait_until_up()
            demo = json.loads((up.data_dir / "secrets" / "demo.json").read_text())
            yield Stack(f"http://127.0.0.1:{up.port}", demo["api_key"], up.manage, up.forget_tries)
        finally:
            up.stop()


def run_to_its_end(data_dir: Path, *, port: int | None = None, **environment: str) -> tuple[int, list[str]]:
    """The exit code and the lines of an `up` that cannot start."""
    given = _environment(data_dir, port or embedded.free_port()) | environment
    done = subprocess.run(
        UP, env=given, check=False, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout.strip().splitlines()


def is_running(pid: int) -> bool:
    """Whether it still does anything: what is dead but was not reaped does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_listening(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _processes() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
