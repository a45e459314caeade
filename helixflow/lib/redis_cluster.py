"""Which node of a Redis Cluster holds which shard, for ``helixflow.lib.pipelined_redis``.

Keys carry one of a few shard tags, so the map that is looked at on every call has an entry per tag, not per slot.
"""

import asyncio
from typing import Any, Final

from django.conf import settings
from redis import RedisError, exceptions
from redis.crc import key_slot

from helixflow.lib.redis_address import Address, Node
from helixflow.lib.redis_connection import Connection

LOOK_EVERY_S: Final = 0.1


class Cluster:
    """One connection per node, and who owns which slots: read when first needed, and again whenever in doubt."""

    def __init__(self, address: Address) -> None:
        self.epoch = 0
        self._address = address
        self._nodes: dict[Node, Connection] = {}
        self._slots: list[tuple[int, int, Node]] = []
        self._by_tag: dict[str, Connection] = {}
        self._slot_of: dict[str, int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")

    def connections(self) -> list[Connection]:
        return list(self._nodes.values())

    def find(self, key: str) -> Connection | None:
        return self._by_tag.get(_tag(key))

    async def search(self, key: str) -> Connection:
        """Raises redis.RedisError, within twice the budget."""
        if not self._slots:
            try:
                async with asyncio.timeout(2 * settings.REDIS_BUDGET_S):
                    await asyncio.shield(self._look())
            except TimeoutError:
                raise exceptions.TimeoutError("Redis: no node of the cluster answers in time") from None
        node = self._owner(key_slot(key.encode()))
        if node is None:
            self.doubt()
            raise exceptions.ConnectionError("Redis: no node of the cluster serves this shard")
        return self._assign(_tag(key), key_slot(key.encode()), node)

    def moved(self, key: str, error: exceptions.MovedError, asked: Connection) -> Connection:
        """One slot moved; others may have, so the rest is read again beside the calls."""
        self.doubt()
        return self._assign(_tag(key), error.slot_id, _named(error, asked))

    def at(self, error: exceptions.AskError, asked: Connection) -> Connection:
        """Where a slot is moving to: for one call."""
        return self._connection(_named(error, asked))

    async def reach_all(self) -> bool:
        """Connect to every node in use again; one that can't be reached may have handed over, so look who owns what."""
        used = dict.fromkeys(self._by_tag.values())
        results = await asyncio.gather(*(each.connected() for each in used), return_exceptions=True)
        reached = not any(isinstance(result, RedisError) for result in results)
        if not reached:
            self.doubt()
        return reached

    def doubt(self) -> None:
        if asyncio.get_running_loop().time() - self._looked_at > LOOK_EVERY_S:
            self._look()

    def _look(self) -> "asyncio.Task[None]":
        """Read the slots anew; all who wait share one attempt."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._read_slots())
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: "asyncio.Task[None]") -> None:
        self._looking = None
        self._looked_at = asyncio.get_running_loop().time()
        if not task.cancelled():
            task.exception()  # whoever waited has it

    async def _read_slots(self) -> None:
        """From any node that answers, those first that are connected: the one in doubt may hang."""
        known = [self._connection(node) for node in dict.fromkeys((*self._nodes, *self._address.nodes))]
        for connection in sorted(known, key=lambda each: each.live is None):
            try:
                reply: Any = await (await connection.connected()).execute(("CLUSTER", "SLOTS"))
            except RedisError:
                continue
            if reply:
                self._slots = [
                    (first, last, _node(primary[0], primary[1], connection)) for first, last, primary, *_ in reply
                ]
                self._settle_down()
                return
        raise exceptions.ConnectionError("Redis: no node of the cluster answers")

    def _settle_down(self) -> None:
        """Shards go to their owners of now; nodes that own nothing and aren't connected are forgotten."""
        for tag, slot in self._slot_of.items():
            node = self._owner(slot)
            if node is not None:
                self._assign(tag, slot, node)
        owners = {node for _, _, node in self._slots}
        self._nodes = {node: each for node, each in self._nodes.items() if node in owners or each.live}

    def _owner(self, slot: int) -> Node | None:
        return next((node for first, last, node in self._slots if first <= slot <= last), None)

    def _assign(self, tag: str, slot: int, node: Node) -> Connection:
        connection = self._connection(node)
        self._slot_of.setdefault(tag, slot)
        if self._by_tag.setdefault(tag, connection) is not connection:
            self._by_tag[tag] = connection
            self.epoch += 1  # a replica that took over may lack what its primary had not sent
        return connection

    def _connection(self, node: Node) -> Connection:
        if node not in self._nodes:
            self._nodes[node] = Connection(self._address, node, self._replaced)
        return self._nodes[node]

    def _replaced(self) -> None:
        self.epoch += 1


def _tag(key: str) -> str:
    """What decides on the slot, for keys that begin with it; one without a tag stands for itself."""
    return key.partition("}")[0]


def _named(error: exceptions.AskError, asked: Connection) -> Node:
    return _node(error.host, error.port, asked)


def _node(host: bytes | str | None, port: int, asked: Connection) -> Node:
    """A node that doesn't know its own address means the one it was asked at."""
    name = host.decode() if isinstance(host, bytes) else host
    return (asked.host if name in {None, "", "?"} else str(name)), port
