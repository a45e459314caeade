"""The platform's Redis clients (Redis or Valkey, single or cluster) and the shard tags of its keys.

Celery, Channels and the cache have clients of their own; these are for limits, versions and the usage streams.
"""

import asyncio
import uuid
import zlib
from functools import cache
from typing import Any, cast
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from helixflow.lib.redis_address import Address, parse

SHARDS = 16
SHARD_TAGS = tuple(f"{{s{shard:02d}}}" for shard in range(SHARDS))
TIMEOUT_S = 0.5

RedisError = redis.RedisError

_async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis | redis.asyncio.RedisCluster] = (
    WeakKeyDictionary()
)


def shard_tag(organization_id: uuid.UUID) -> str:
    """``{s00}`` … ``{s15}``: all keys of an organization share one hash slot, so a script touches one node."""
    return SHARD_TAGS[zlib.crc32(organization_id.bytes) % SHARDS]


class _Cluster(redis.RedisCluster):
    """Its own exceptions are no RedisErrors, and RedisError is what callers are ready for."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]  # redis-py
        except redis.RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


def connect(*, timeout_s: float = TIMEOUT_S) -> redis.Redis:
    """A client of one's own, for threads. Raises redis.RedisError: that of a cluster asks for its nodes at once.

    Typed as the client of one server. That of a cluster has the same commands, but keys of one call must share a tag.
    """
    address = parse(settings.REDIS_URL)
    timeouts: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if not address.is_cluster:
        return redis.Redis.from_url(settings.REDIS_URL, **timeouts, retry=Retry(NoBackoff(), 1))
    try:
        client = _Cluster(
            startup_nodes=[redis.cluster.ClusterNode(*node) for node in address.nodes],  # type: ignore[no-untyped-call]  # as above
            dynamic_startup_nodes=False,  # the names in REDIS_URL outlive the addresses of today's nodes
            retry=Retry(NoBackoff(), 1),
            **timeouts,
            **_credentials(address),
        )
    except redis.RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error
    return cast("redis.Redis", client)


def sync_client() -> redis.Redis:
    """For the control plane. One pool a process. Raises redis.RedisError, as ``connect`` does."""
    return _sync_client(settings.REDIS_URL)


@cache
def _sync_client(url: str) -> redis.Redis:
    return connect()


async def ping() -> None:
    """Every server answers: that is what it takes. Raises redis.RedisError."""
    client = _async_client()
    try:
        if isinstance(client, redis.asyncio.RedisCluster):
            await client.ping(target_nodes=client.PRIMARIES)
        else:
            await client.ping()
    except redis.RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error


def _async_client() -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
    """One pool an event loop. The data plane's calls go through ``pipelined_redis``."""
    loop = asyncio.get_running_loop()
    if loop not in _async_clients:
        _async_clients[loop] = _connect_async()
    return _async_clients[loop]


def _connect_async() -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
    address = parse(settings.REDIS_URL)
    timeouts: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    if not address.is_cluster:
        return redis.asyncio.Redis.from_url(settings.REDIS_URL, **timeouts, retry=AsyncRetry(NoBackoff(), 1))
    return redis.asyncio.RedisCluster(
        startup_nodes=[redis.asyncio.cluster.ClusterNode(*node) for node in address.nodes],
        dynamic_startup_nodes=False,
        retry=AsyncRetry(NoBackoff(), 1),
        **timeouts,
        **_credentials(address),
    )


def _credentials(address: Address) -> dict[str, Any]:
    return {
        "username": address.user or None,
        "password": address.password or None,
        "ssl": address.tls,
        "ssl_ca_certs": address.ca_file or None,
    }
