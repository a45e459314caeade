"""How much an organization may have kept in Redis, and how Redis is asked for any of it.

Redis evicts nothing by itself, since it holds the ledger as well, so ``lua/room.lua`` keeps books and makes room.
"""

import asyncio
import uuid
from typing import Any, Final

from django.conf import settings

from billing.admission import limits
from helixflow.lib import redis
from helixflow.lib.pipelined_redis import Script
from inference.keeping.kept import KeptAnswer, pack, unpack
from inference.keeping.sealing import Seal, Unopenable

SMALL: Final = 64 * 1024  # packed and sealed in a fraction of a millisecond


def books(organization_id: uuid.UUID) -> tuple[str, str, str]:
    base = f"{redis.shard_tag(organization_id)}:kept:{organization_id.hex}"
    return base, f"{base}:due", f"{base}:turn"


def key(organization_id: uuid.UUID, name: str) -> str:
    return f"{books(organization_id)[0]}:{name}"


def limit() -> int:
    return settings.KEPT_ANSWERS_MB * 1024 * 1024


async def run(script: Script, keys: tuple[str, ...], *arguments: Any) -> Any:
    """Raises redis.RedisError, at once where Redis is known to be away."""
    if not limits.breaker.allows():
        raise redis.RedisError("Redis has failed too often to be asked")
    try:
        reply = await script.run(keys, *arguments)
    except redis.RedisError:
        limits.breaker.failed()
        raise
    limits.breaker.succeeded()
    return reply


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
