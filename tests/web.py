"""A real web process on loopback, as people run it, on the database and Redis of the running test.

    with running_web() as web:
        OpenAI(base_url=f"{web.url}/v1", api_key=key)

The process sees committed rows only: use it with ``transactional_db``. It reads the catalogue when it starts, so make
models first. What it printed goes into the error if it doesn't start and is there as ``web.output()``.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from helixflow.stack import embedded

ROOT = Path(__file__).resolve().parent.parent
START_S = 90  # a new machine reads everything from its disk for the first time
STOP_S = 15


@dataclass(frozen=True)
class Web:
    url: str
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def running_web(*, workers: int = 1, environment: dict[str, str] | None = None) -> Iterator[Web]:
    """``manage.py web`` on a free port, ready to answer; stopped with SIGTERM, killed if that takes too long."""
    port = embedded.free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="helixflow-web-") as folder:
        log = Path(folder) / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "web", "--workers", str(workers)],
                cwd=ROOT,
                env=environment_on(port, url, workers) | (environment or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        web = Web(url, port, process, log)
        try:
            _wait_until_ready(web)
            yield web
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment_on(port: int, url: str, workers: int = 1) -> dict[str, str]:
    """Of a process on the database and Redis of the running test."""
    database = connection.settings_dict
    credentials = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
    return os.environ | {
        "DATABASE_URL": f"postgresql://{credentials}@{database['HOST']}:{database['PORT']}/{database['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "HELIXFLOW_DATA_DIR": str(settings.DATA_DIR),
        "HELIXFLOW_HOST": "127.0.0.1",
        "HELIXFLOW_PORT": str(port),
        "HELIXFLOW_PUBLIC_URL": url,
        "HELIXFLOW_WEB_PROCESSES": str(workers),
    }


def _wait_until_ready(web: Web) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{web.url}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            if web.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The web process did not start ({error}):\n{web.output()}") from None
        time.sleep(0.05)
