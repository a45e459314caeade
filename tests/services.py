"""A pytest plugin: real PostgreSQL and Valkey for the whole run, started before Django reads its settings.

With DATABASE_URL and REDIS_URL set those servers are used. Each xdist worker gets its own database (pytest-django)
and its own Redis database number.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from helixflow.stack import embedded

_processes: list[tuple["subprocess.Popen[bytes]", str]] = []


def _run(service: embedded.Service) -> None:
    process = subprocess.Popen(
        service.command,
        cwd="/",
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **service.identity,
    )
    _processes.append((process, service.stop_signal))
    embedded.wait_until_ready(service, process)


def _stop(folder: Path) -> None:
    for process, name in reversed(_processes):
        process.send_signal(signal.Signals[name])
    for process, _ in _processes:
        process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def start() -> None:
    folder = Path(tempfile.mkdtemp(prefix="helixflow-tests-"))
    atexit.register(_stop, folder)
    os.environ["HELIXFLOW_DATA_DIR"] = str(folder)
    os.environ.setdefault("GOCACHE", str(folder / "go-cache"))  # of all workers: the first builds Go's library
    fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=64MB")
    if not os.environ.get("DATABASE_URL"):
        service = embedded.postgresql(folder, port=embedded.free_port(), options=fast)
        _run(service)
        os.environ["DATABASE_URL"] = service.url
    if not os.environ.get("REDIS_URL"):
        service = embedded.valkey(folder, port=embedded.free_port(), options=("--appendonly", "no"))
        _run(service)
        os.environ["REDIS_URL"] = service.url


_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker is None and not {"--help", "-h", "--version", "--collect-only", "--co"} & set(sys.argv):
    start()
elif _worker is not None:
    base, _, _ = os.environ["REDIS_URL"].rpartition("/")
    os.environ["REDIS_URL"] = f"{base}/{int(_worker.removeprefix('gw')) + 1}"
os.environ.setdefault("HELIXFLOW_ENV", "development")
os.environ.setdefault("HELIXFLOW_REDIS_BUDGET_MS", "2000")  # a busy machine must not look like a dead Redis
