"""The platform's Redis clients (Redis or Valkey, single or cluster) and the shard tags of its keys.

Celery, Channels and the cache have clients of their own; these are for limits, versions and the usage streams.
"""

import asyncio
import uuid
import zlib
from functools import cache
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

SHARDS = 16
SHARD_TAGS = tuple(f"{{s{shard:02d}}}" for shard in range(SHARDS))
TIMEOUT_S = 0.5

RedisError = redis.RedisError

_async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


def shard_tag(organization_id: uuid.UUID) -> str:
    """``{s00}`` … ``{s15}``: all keys of an organization share one hash slot, so a script touches one node."""
    return SHARD_TAGS[zlib.crc32(organization_id.bytes) % SHARDS]


@cache
def sync_client(timeout_s: float = TIMEOUT_S) -> redis.Redis:
    """For the control plane. One pool a process and ``timeout_s``."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=timeout_s, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1)
    )


def async_client() -> redis.asyncio.Redis:
    """For the data plane. One pool an event loop."""
    loop = asyncio.get_running_loop()
    client = _async_clients.get(loop)
    if client is None:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=AsyncRetry(NoBackoff(), 1),
        )
        _async_clients[loop] = client
    return client
