"""Nudges: "this organization's numbers have changed", to whoever has one of its pages open (docs/live.md).

A nudge says nothing but that. It is published as Channels' Redis layer does it, but from plain threads: the layer
belongs to event loops, and the meter has none. Lost ones are made up for, since open pages also ask now and then.
"""

import logging
import time
import uuid
from collections.abc import Collection
from functools import cache
from typing import Any, Final

import redis
from channels.layers import get_channel_layer
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from helixflow.lib import redis_address

logger = logging.getLogger(__name__)

USAGE: Final = "usage"  # the consumer's method that is called, and the type that browsers are told
TIMEOUT_S: Final = 0.3
SILENT_S: Final = 5.0  # after a failure: who publishes must not wait for a Redis that is away, time and again
GROUP_CHANNEL: Final = "asgi__group__"  # what channels_redis.pubsub puts before the name of a group


def group(organization_id: uuid.UUID) -> str:
    return f"organization.{organization_id.hex}"


class Publisher:
    """One server, or any node of a cluster: what is published at one is heard at all."""

    def __init__(self, url: str) -> None:
        self._servers = redis_address.servers(url)
        self._turn = 0
        self._client: redis.Redis | None = None
        self._silent_until = 0.0

    def nudge(self, organizations: Collection[uuid.UUID]) -> bool:
        """In one round trip. Whether Redis took them; never raises for a Redis that does not."""
        if not organizations or time.monotonic() < self._silent_until:
            return False
        message = _message()
        try:
            pipeline = self._connected().pipeline(transaction=False)
            for organization_id in organizations:
                pipeline.publish(GROUP_CHANNEL + group(organization_id), message)
            pipeline.execute()
        except redis.RedisError as error:
            logger.warning("open pages are not told of changes: %s", error)
            self._client = None
            self._turn += 1
            self._silent_until = time.monotonic() + SILENT_S
            return False
        return True

    def _connected(self) -> redis.Redis:
        if self._client is None:
            server = self._servers[self._turn % len(self._servers)]
            self._client = redis.Redis.from_url(
                server, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1)
            )
        return self._client


def nudge(organizations: Collection[uuid.UUID]) -> bool:
    """Tell the open pages of these organizations. Call it after the commit of what changed."""
    return _publisher(settings.CHANNELS_REDIS_URL).nudge(organizations)


@cache
def _publisher(url: str) -> Publisher:
    return Publisher(url)


@cache
def _message() -> bytes:
    layer: Any = get_channel_layer()
    message: bytes = layer.serialize({"type": USAGE})
    return message
