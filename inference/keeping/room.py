"""How much an organization may have kept in Redis, and how Redis is asked for any of it.

Redis evicts nothing by itself, since it holds the ledger as well, so ``lua/room.lua`` keeps books and makes room.
"""

import asyncio
import uuid
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.conf import settings

from billing.admission import limits
from billing.admission.breaker import Breaker
from helixflow.lib import redis
from helixflow.lib.pipelined_redis import Script
from inference.keeping import lua
from inference.keeping.kept import KeptAnswer, pack, unpack
from inference.keeping.sealing import Seal, Unopenable

SMALL: Final = 64 * 1024  # packed, sealed and sent in a fraction of a millisecond

breaker = Breaker()  # admission has its own: a slow answer of ours must not cost it Redis
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def books(organization_id: uuid.UUID) -> tuple[str, str, str]:
    base = f"{redis.shard_tag(organization_id)}:kept:{organization_id.hex}"
    return base, f"{base}:due", f"{base}:turn"


def key(organization_id: uuid.UUID, name: str) -> str:
    return f"{books(organization_id)[0]}:{name}"


def limit() -> int:
    return settings.KEPT_ANSWERS_MB * 1024 * 1024


def script(*names: str) -> Script:
    """On a connection that admission does not share: a megabyte may be ahead in the line."""
    return Script(lua.source(*names), lane="kept")


async def run(script: Script, keys: tuple[str, ...], *arguments: Any) -> Any:
    """Raises redis.RedisError, at once where Redis is known to be away."""
    if limits.breaker.is_open or not breaker.allows():
        raise redis.RedisError("Redis has failed too often to be asked")
    try:
        reply = await script.run(keys, *arguments)
    except redis.RedisError:
        breaker.failed()
        raise
    breaker.succeeded()
    return reply


async def store(script: Script, organization_id: uuid.UUID, name: str, *arguments: str | bytes | int) -> Any:
    """For scripts that begin with room.lua; the last argument is what to store. Raises as ``run``.

    Large ones take turns, since all that leaves in one write has to be answered within one budget.
    """
    keys = (*books(organization_id), key(organization_id, name))
    value = arguments[-1]
    if isinstance(value, bytes) and len(value) > SMALL:
        async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await run(script, keys, name, limit(), *arguments)
    return await run(script, keys, name, limit(), *arguments)


async def close(seal: Seal, answer: KeptAnswer) -> bytes:
    """Packed and sealed; a large one in a thread, so that nobody's stream stutters."""
    if len(answer.body) <= SMALL:
        return seal.close(pack(answer))
    return await asyncio.to_thread(lambda: seal.close(pack(answer)))


def open_(seal: Seal, sealed: bytes) -> KeptAnswer:
    """Raises Unopenable."""
    try:
        return unpack(seal.open(sealed))
    except ValueError as problem:
        raise Unopenable from problem
