"""What `manage.py up` runs: the embedded servers, setup, then web, meter, workers and beat. See docs/embedded.md."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Final

from django.conf import settings

from helixflow.lib import env
from helixflow.lib.secrets import write_private
from helixflow.stack import demo, embedded
from helixflow.stack.console import Console
from helixflow.stack.embedded import EmbeddedError, Service
from helixflow.stack.supervisor import Program, Supervisor

# Below the range from which systems give ports to outgoing connections (32768 on Linux): else a client that tries to
# reach a server while it is being restarted can be given that server's port, and keep it.
PORTS: Final = range(20_000, 30_000)
PASSING: Final = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
DRAIN_S: Final = 10  # how long a port may stay taken by what a killed `up` left behind


@dataclass(frozen=True)
class Stack:
    """The whole of one data directory. Only used by who holds its lock."""

    data_dir: Path
    console: Console
    with_demo: bool = False

    def run(self) -> None:
        """Until a signal. Raises EmbeddedError or SupervisorError: one clear line."""
        with _lock(self.data_dir):
            unclean = self._services_file.exists()
            _require_free_port(settings.HOST, settings.PORT, patience_s=DRAIN_S if unclean else 0)
            services = self._services(patience_s=DRAIN_S if unclean else 0)
            write_private(self._services_file, json.dumps(_addresses(services), indent=2))
            self.console.note("starting " + ", ".join([*(service.name for service in services), "setup", "web …"]))
            Supervisor(self.console).run(partial(self._start, services=services))
            self._services_file.unlink(missing_ok=True)
            self.console.note("stopped")

    async def _start(self, supervisor: Supervisor, *, services: list[Service]) -> None:
        names = tuple(service.name for service in services)
        stores = tuple(name for name in names if name != "model")
        supervisor.start(*(_program(service) for service in services))
        await supervisor.ready(*stores)
        await supervisor.run_once(Program("setup", _manage("setup", *(["--demo"] if self.with_demo else []))))
        supervisor.start(Program("meter", _manage("meter"), needs=stores, hidden=HIDDEN))  # and stopped after web
        supervisor.start(_web(needs=stores))
        await supervisor.ready("web")
        supervisor.start(
            _worker("worker", stores, queue="celery", threads=4),
            # What it calls may hang: each call holds a thread, and a stop waits for those that are under way.
            _worker("deliverer", stores, queue="webhooks", threads=32, stop_seconds=settings.WEBHOOK_TIMEOUT_S + 5),
            # A thread for each organization whose batches are being worked on, with requests of its own under way.
            _worker("batcher", stores, queue="batches", threads=16),
            _celery("beat", "beat", stores),
        )
        await supervisor.ready(*names)
        self.console.write(self._welcome())

    @property
    def _services_file(self) -> Path:
        return self.data_dir / "services.json"

    def _services(self, *, patience_s: float) -> list[Service]:
        """What is embedded: whatever has no address in the environment. Checks the addresses that are given."""
        ports = _Ports(self.data_dir / "ports.json", patience_s)
        services: list[Service] = []
        if env.text("DATABASE_URL"):
            _require_postgresql(settings.DATABASE_URL)
        else:
            options = ("log_line_prefix=", "log_min_messages=fatal")  # failed statements are the application's to tell
            services.append(embedded.postgresql(self.data_dir, port=ports.get("postgresql"), options=options))
        if env.text("REDIS_URL"):
            _require_redis(settings.REDIS_URL)
        else:
            services.append(embedded.valkey(self.data_dir, port=ports.get("valkey"), options=("--loglevel", "warning")))
        if env.boolean("HELIXFLOW_EMBEDDED_MODEL", not settings.PRODUCTION):
            services.append(embedded.model(self.data_dir, port=ports.get("model")))
        return services

    def _welcome(self) -> str:
        site = settings.PUBLIC_URL
        manage = f"{_short(Path(sys.executable))} {_short(settings.BASE_DIR / 'manage.py')}"
        if env.text("HELIXFLOW_DATA_DIR"):  # another terminal would find the copy that is there by default
            manage = f"HELIXFLOW_DATA_DIR={shlex.quote(str(settings.DATA_DIR))} {manage}"
        lines = [
            self.console.bold(f"HelixFlow is up: {site}"),
            "",
            f"Sign up   {site}/signup",
            f"Docs      {site}/docs",
            f"Admin     {site}/admin/  (an administrator: {manage} createsuperuser)",
            *(["Mail      is not sent but shown in this log, links and all"] if _shows_mail() else []),
            "Stop      Ctrl-C",
        ]
        account = demo.read() if self.with_demo else None
        if account:
            lines += ["", f"Demo      {account.email}  password {account.password}", f"API key   {account.api_key}", ""]
            lines += demo.curl(account).splitlines()
        rule = "─" * 78
        return "\n".join(["", rule, *(f"  {line}".rstrip() for line in lines), rule, "", ""])


# What the servers say at every start and stop, or where another of HelixFlow's lines says it better.
HIDDEN: Final = (
    "Memory overcommit must be enabled",
    "Received SIGTERM scheduling shutdown",
    "is now ready to exit",
    "the database system is starting up",
    "need to evaluate at least 1 token",  # the model, of every prompt that it met before
    "n_past was set to",
    "model default pooling_type is",  # that it embeds is told on the page about it
    "embeddings required but some input tokens",
    "Started server process",
    "Waiting for application",
    "Application startup complete",
    "Application shutdown complete",
    "Finished server process",
)


def _program(service: Service) -> Program:
    return Program(
        service.name,
        service.command,
        is_ready=service.is_ready,
        prepare=service.prepare,
        identity=service.identity,
        passing=PASSING if service.name == "postgresql" else (),
        hidden=HIDDEN,
        stop_signal=Signals[service.stop_signal],
    )


def _web(needs: tuple[str, ...]) -> Program:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104  # compared, not bound
    return Program(
        "web",
        _manage("web"),
        needs=needs,
        hidden=HIDDEN,
        is_ready=partial(embedded.http_answers, host, settings.PORT, "/livez"),
        stop_seconds=settings.SHUTDOWN_GRACE_S + 16,  # what web allows itself after its grace, and a little
    )


def _manage(*arguments: str) -> list[str]:
    return [*embedded.dies_with_parent(), sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def _worker(name: str, needs: tuple[str, ...], *, queue: str, threads: int, stop_seconds: float = 10) -> Program:
    """Workers of one machine need names that differ: Celery addresses them by it."""
    options = (f"--queues={queue}", f"--hostname={name}@%h", "--pool=threads", f"--concurrency={threads}")
    return _celery(name, "worker", needs, *options, "--without-gossip", "--without-mingle", stop_seconds=stop_seconds)


def _celery(name: str, what: str, needs: tuple[str, ...], *options: str, stop_seconds: float = 10) -> Program:
    """The path to the code is given, since children run in /."""
    return Program(
        name,
        [
            # Its warning about root is for those who accept pickled tasks.
            *(*embedded.dies_with_parent(), sys.executable, "-W", "ignore:You're running the worker", "-m", "celery"),
            *("-q", "--workdir", str(settings.BASE_DIR), "-A", "helixflow", what, "--loglevel=WARNING", *options),
        ],
        needs=needs,
        stop_seconds=stop_seconds,
    )


def _shows_mail() -> bool:
    return settings.EMAIL_BACKEND == "helixflow.mail.EmailBackend"


def _short(path: Path) -> Path:
    """As seen from here, where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _addresses(services: list[Service]) -> dict[str, str]:
    """What the other commands need to know of the embedded servers (``helixflow.settings``)."""
    found = {service.name: service for service in services}
    addresses = {}
    if "postgresql" in found:
        addresses["DATABASE_URL"] = found["postgresql"].url
    if "valkey" in found:
        addresses["REDIS_URL"] = found["valkey"].url
    if "model" in found:
        addresses["EMBEDDED_MODEL_URL"] = found["model"].url
        addresses["EMBEDDED_MODEL_KEY"] = found["model"].api_key
    return addresses


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """One `up` on a data directory. The kernel lets go of the lock however its holder ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise EmbeddedError(
                f"HelixFlow already runs on {data_dir} ({file.read().strip()}). "
                "For a second copy set HELIXFLOW_DATA_DIR and HELIXFLOW_PORT."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {settings.PUBLIC_URL}")
        file.flush()
        yield


class _Ports:
    """The ports of the embedded servers: those of the last start where they are free, else others."""

    def __init__(self, path: Path, patience_s: float) -> None:
        self._path = path
        self._patience_s = patience_s
        try:
            self._known = {str(name): int(port) for name, port in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            self._known = {}

    def get(self, name: str) -> int:
        port = self._known.get(name)
        if port is None or not _becomes_free("127.0.0.1", port, self._patience_s):
            port = self._choose()
            self._known[name] = port
            write_private(self._path, json.dumps(self._known))
        return port

    def _choose(self) -> int:
        while True:
            port = PORTS[secrets.randbelow(len(PORTS))]
            if port not in self._known.values() and _becomes_free("127.0.0.1", port, 0):
                return port


def _require_free_port(host: str, port: int, *, patience_s: float) -> None:
    try:
        if _becomes_free(host, port, patience_s):
            return
    except OSError as error:
        raise EmbeddedError(f"Cannot listen on {host} port {port}: {error.strerror}. Set HELIXFLOW_HOST.") from None
    raise EmbeddedError(f"Port {port} of {host} is taken by another program. Set HELIXFLOW_PORT to a free one.")


def _becomes_free(host: str, port: int, patience_s: float) -> bool:
    """Raises OSError for an address that is not this machine's."""
    deadline = time.monotonic() + patience_s
    while not _is_free(host, port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def _is_free(host: str, port: int) -> bool:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what is closing doesn't count
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _require_postgresql(url: str) -> None:
    import psycopg  # only where an address is given

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        raise EmbeddedError(f"DATABASE_URL: {_first_line(error)}") from None


def _require_redis(url: str) -> None:
    from redis import RedisError  # as above

    from helixflow.lib import redis
    from helixflow.lib.redis_address import parse

    address = parse(url)
    place = ", ".join(f"{host}:{port}" for host, port in address.nodes)
    try:
        with redis.connect(timeout_s=5) as client:
            client.ping()
            is_node = not address.is_cluster and bool(client.info("cluster")["cluster_enabled"])
    except RedisError as error:
        raise EmbeddedError(f"REDIS_URL: {place}: {_first_line(error)}") from None
    if is_node:
        raise EmbeddedError(f"REDIS_URL: {place} belongs to a cluster: the URL must start with redis+cluster://.")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
