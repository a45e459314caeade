"""Answers under Idempotency-Keys that their caller, a worker of ours, has written down: Redis need not keep them.

For a minute a mark stays in place of each. So whoever still believes that it is their request to send, having slept
through the end of their lease, is refused, and nothing is billed twice.
"""

import logging
import uuid
from collections.abc import Collection
from typing import Any, Final

from helixflow.lib import redis
from inference.keeping import lua, room
from inference.keeping.sealing import Seal

logger = logging.getLogger(__name__)

MARKED_S: Final = 60
_SOURCE: Final = lua.source("room", "taken")


def drop(organization_id: uuid.UUID, api_key_id: uuid.UUID, keys: Collection[str]) -> int:
    """How many were there. With Redis away none: what is left expires by itself. Never raises for that."""
    names = [_name(organization_id, api_key_id, key) for key in keys]
    records = [room.key(organization_id, name) for name in names]
    try:
        script: Any = redis.sync_client().register_script(_SOURCE)
        return int(script(keys=[*room.books(organization_id), *records], args=[MARKED_S * 1000, *names]))
    except redis.RedisError as error:
        logger.info("%d kept answers were not dropped: %s", len(names), error)
        return 0


def _name(organization_id: uuid.UUID, api_key_id: uuid.UUID, key: str) -> str:
    return Seal.of_idempotency_key(organization_id, api_key_id, key).name
