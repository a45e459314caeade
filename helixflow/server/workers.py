"""`manage.py web`: uvicorn, hardened, in one process or in several on one socket.

uvicorn's own supervisor is not used: it starts workers anew (seconds of imports), keeps the socket open while they
drain, and leaves them behind when it is killed. Here the parent imports the application, binds, forks, and from then
on only waits. The shutdown sequence is drawn in docs/server.md.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.importer import import_from_string

from helixflow.server import lifecycle, metrics_directory
from helixflow.server.protocol import Limits, Protocol
from helixflow.server.websocket import MESSAGE_BYTES, PING_S, WebSocket

logger = logging.getLogger(__name__)

SETTLE_S = 5  # for what was cancelled to say goodbye, and again for the application's own shutdown
RESTART_PAUSE_S = 1  # before replacing a worker that died within a second
NOT_SENT_BYTES = 64 * 1024  # the kernel's share of what a slow reader holds back
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    grace_s: float = 20
    limits: Limits = field(default_factory=Limits)
    metrics: Path | None = None  # where the processes share what they count


def run(app: str, options: Options) -> int:
    """Serve until a signal; returns the exit code. Raises OSError if the address cannot be had."""
    application = import_from_string(app)
    listener = bind(options.host, options.port)
    raise_descriptor_limit()
    address = listener.getsockname()
    logger.info("serving http://%s:%d with %d process(es)", options.host, address[1], options.workers)
    with metrics_directory.opened(options.metrics) as shared:
        if options.workers == 1:
            shared.join(0)
            return serve(application, listener, options)
        return Supervisor(application, listener, options, shared).run()


def bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25), NOT_SENT_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def raise_descriptor_limit() -> None:
    """A stream takes two descriptors, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what it calls unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(application: Any, listener: socket.socket, options: Options, *, parent: int | None = None) -> int:
    """One process: the whole of it with one worker, or one of several."""
    protocol = type("LimitedProtocol", (Protocol,), {"limits": options.limits, "max_connections": connection_limit()})
    config = uvicorn.Config(
        application,
        interface="asgi3",
        loop="uvloop",
        http=protocol,
        ws=type("LimitedWebSocket", (WebSocket,), {"limits": options.limits}),
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # messages of a few bytes, for which it would keep a window per connection
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=2048,
    )
    server = Server(config, options, parent=parent)
    try:
        server.run(sockets=[listener])
    except SystemExit as startup_failed:
        return int(startup_failed.code or 0)
    return 0


def connection_limit() -> int:
    """Leaves a descriptor for each connection's upstream, and some for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft // 2 - 64, 16)


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, options: Options, *, parent: int | None = None) -> None:
        super().__init__(config)
        self.options = options
        self.parent = parent
        self.next_sweep = 0.0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's raises the signal again at the end; a clean end is exit code 0 here."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.handle_exit)
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        await self.sweep()
        if self.parent is not None and os.getppid() != self.parent:
            self.should_exit = True
        return await super().on_tick(counter)

    async def sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self.next_sweep:
            return
        self.next_sweep = now + self.options.limits.sweep_s
        ended: Counter[str] = Counter()
        for done, connection in enumerate(list(self.server_state.connections)):
            if isinstance(connection, Protocol | WebSocket) and (what := connection.sweep(now)):
                ended[what] += 1
            if done % 50 == 49:
                await asyncio.sleep(0)  # a crowd of slow sockets must not hold up the others
        if ended:
            logger.info("closed connections: %s", ", ".join(f"{count} {what}" for what, count in ended.items()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        lifecycle.enter("draining")
        state = self.server_state
        logger.info("draining: %d connections, %d requests", len(state.connections), len(state.tasks))
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(state.connections):
            connection.shutdown()
        await self.settle(self.options.grace_s)
        if state.tasks:
            logger.warning("ending %d requests after %g s", len(state.tasks), self.options.grace_s)
            for task in list(state.tasks):
                task.cancel()
            await self.settle(SETTLE_S)
        for connection in list(state.connections):
            if isinstance(connection, Protocol | WebSocket):
                connection.cut()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), SETTLE_S)

    async def settle(self, seconds: float) -> None:
        """Wait until every request is answered and every connection closed, or ``seconds`` have passed."""
        state = self.server_state
        deadline = time.monotonic() + seconds
        while (state.connections or state.tasks) and not self.force_exit and time.monotonic() < deadline:
            await self.sweep()
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Worker:
    """``slot`` passes to whoever replaces it; ``started_at`` is on the monotonic clock."""

    slot: int
    started_at: float


class Supervisor:
    """Keeps ``options.workers`` forked workers alive. One thread, which sleeps in ``sigwait``."""

    signals = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM})

    def __init__(
        self, application: Any, listener: socket.socket, options: Options, shared: metrics_directory.Directory
    ) -> None:
        self.application = application
        self.listener = listener
        self.options = options
        self.shared = shared
        self.workers: dict[int, Worker] = {}  # by process id
        self.stopping = False

    def run(self) -> int:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # one that is ignored by default is not queued everywhere
        signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        self.fill()
        while self.workers or not self.stopping:
            self.act(signal.sigwait(self.signals))
        return 0

    def act(self, number: signal.Signals | int) -> None:
        if number == signal.SIGCHLD:
            self.reap()
        elif number == signal.SIGALRM:
            self.fill() if not self.stopping else self.tell(signal.SIGKILL)
        elif not self.stopping:
            self.stop()
        elif number == signal.SIGINT:  # the second Ctrl-C
            self.tell(signal.SIGKILL)

    def fill(self) -> None:
        while len(self.workers) < self.options.workers:
            self.start()

    def start(self) -> None:
        parent = os.getpid()
        slot = min(set(range(self.options.workers)) - {worker.slot for worker in self.workers.values()})
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            self.workers[child] = Worker(slot, time.monotonic())
            return
        code = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)
            die_with_parent()
            self.shared.join(slot)
            code = serve(self.application, self.listener, self.options, parent=parent)
        except BaseException:
            logger.exception("a web worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # nothing of the parent's stack may run again in the child

    def reap(self) -> None:
        """Several deaths can come as one signal."""
        pause = False
        for worker in list(self.workers):
            ended, status = os.waitpid(worker, os.WNOHANG)
            if not ended:
                continue
            lived = time.monotonic() - self.workers.pop(worker).started_at
            if not self.stopping:
                logger.error("web worker %d ended with code %d", worker, os.waitstatus_to_exitcode(status))
                pause = pause or lived < RESTART_PAUSE_S
        if self.stopping:
            return
        if pause:
            signal.alarm(RESTART_PAUSE_S)
        else:
            self.fill()

    def stop(self) -> None:
        """Our copy of the socket must go at once, or new connections would wait in it unanswered."""
        self.stopping = True
        self.listener.close()
        self.tell(signal.SIGTERM)
        signal.alarm(int(self.options.grace_s + 3 * SETTLE_S))

    def tell(self, number: signal.Signals) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)


def die_with_parent() -> None:
    """A killed parent's workers drain and end. Elsewhere than on Linux `Server.on_tick` sees it, a tenth later."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
