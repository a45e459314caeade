"""Lua scripts on the data plane's path: one pipelined connection per event loop and lane, or one per node of a cluster.

A call costs some 6 µs of CPU this way, against 46 µs through redis-py's asyncio client (measured at 32 callers);
everything that is not on the path of a request uses redis-py.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any, Final
from weakref import WeakKeyDictionary

import hiredis
from django.conf import settings
from redis import exceptions

from helixflow.lib.redis_address import Address, parse
from helixflow.lib.redis_cluster import Cluster
from helixflow.lib.redis_connection import Argument, Command, Connection, Demoted, Reply

MAX_HOPS: Final = 5  # a script not known, a slot that moved or is moving, and room for another


class Script:
    """A Lua script, sent whole only to a server that does not know it yet.

    Replies come in order and have a budget: what moves much has a ``lane``, and so a connection, of its own.
    """

    def __init__(self, source: str, *, lane: str = "") -> None:
        self.source = source
        self.lane = lane
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: tuple[str, ...], *arguments: Argument) -> Coroutine[Any, Any, Reply]:
        """On the server that holds ``keys``, which share one shard tag.

        Raises redis.RedisError: ConnectionError and TimeoutError where the server can't be used (whether the script
        ran is then unknown), ResponseError from the script itself.
        """
        return self._run(keys, arguments, ("EVALSHA", self.sha, len(keys), *keys, *arguments))

    def prepare(self, keys: tuple[str, ...], *arguments: Argument) -> "Prepared":
        return Prepared(self, keys, arguments)

    async def _run(self, keys: tuple[str, ...], arguments: tuple[Argument, ...], command: Command) -> Reply:
        servers = _servers(self.lane)
        connection = servers.find(keys[0]) or await servers.search(keys[0])
        asking = False
        for _ in range(MAX_HOPS):
            try:
                server = connection.live or await connection.connected()
                if asking:
                    server.execute(("ASKING",)).add_done_callback(asyncio.Future.exception)
                return await server.execute(command)
            except exceptions.NoScriptError:
                command = ("EVAL", self.source, len(keys), *keys, *arguments)
            except exceptions.MovedError as moved:
                connection, asking = servers.moved(keys[0], moved, connection), False
            except exceptions.AskError as ask:
                connection, asking = servers.at(ask, connection), True
            except Demoted:
                connection.close()  # its name may lead to the new primary by now
                raise
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                servers.doubt()
                raise
        raise exceptions.ConnectionError("Redis: the cluster sends the request from node to node")


class Prepared:
    """A call that is made again and again with another last argument: the rest, most of its cost, is packed once."""

    __slots__ = ("_arguments", "_keys", "_packed", "_script")

    def __init__(self, script: Script, keys: tuple[str, ...], arguments: tuple[Argument, ...]) -> None:
        self._script = script
        self._keys = keys
        self._arguments = arguments
        command: Any = ("EVALSHA", script.sha, len(keys), *keys, *arguments, b"")
        self._packed = hiredis.pack_command(command).removesuffix(b"$0\r\n\r\n")

    def run(self, last: str) -> Coroutine[Any, Any, Reply]:
        """As ``Script.run``."""
        argument = last.encode()
        packed = b"%b$%d\r\n%b\r\n" % (self._packed, len(argument), argument)
        return self._script._run(self._keys, (*self._arguments, last), packed)  # noqa: SLF001  # the two are one


def epoch() -> int:
    """Grows when a server that this loop used may have been replaced by one that knows less than it did.

    That is: another run id at the same address (a restart, a failover behind a name), or a shard on another node.
    """
    return _servers().epoch


async def reach_all() -> bool:
    """Connect again to each server that this loop has used and lost. False if one is away; never raises RedisError.

    Between calls nobody notices a server that came back as another: ``epoch`` is up to date after this.
    """
    return await _servers().reach_all()


def run_ids() -> frozenset[str]:
    """Of the servers that the running loop is connected to."""
    return frozenset(connection.run_id for connection in _servers().connections() if connection.live)


class _Single:
    """One server, as ``Cluster`` presents many."""

    def __init__(self, address: Address) -> None:
        self.epoch = 0
        self._connection = Connection(address, address.nodes[0], self._replaced)

    def connections(self) -> list[Connection]:
        return [self._connection]

    def find(self, key: str) -> Connection:
        return self._connection

    async def search(self, key: str) -> Connection:
        return self._connection

    def moved(self, key: str, error: exceptions.MovedError, asked: Connection) -> Connection:
        return self.at(error, asked)

    def at(self, error: exceptions.AskError, asked: Connection) -> Connection:
        raise exceptions.ConnectionError("Redis: a node of a cluster; REDIS_URL must start with redis+cluster://")

    async def reach_all(self) -> bool:
        try:
            await self._connection.connected()
        except exceptions.RedisError:
            return False
        return True

    def doubt(self) -> None:
        """There is no other; the next call connects again if it must."""

    def _replaced(self) -> None:
        self.epoch += 1


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Single | Cluster]] = WeakKeyDictionary()


def _servers(lane: str = "") -> _Single | Cluster:
    """The running loop's own."""
    loop = asyncio.get_running_loop()
    lanes = _by_loop.get(loop)
    if lanes is None:
        for ended in [known for known in _by_loop if known.is_closed()]:  # their connections hold them
            del _by_loop[ended]
        lanes = _by_loop[loop] = {}
    found = lanes.get(lane)
    if found is None:
        address = parse(settings.REDIS_URL)
        found = lanes[lane] = Cluster(address) if address.is_cluster else _Single(address)
    return found
