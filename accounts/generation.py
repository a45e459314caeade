"""``Organization.generation``: how every gateway process learns at once that a snapshot of an organization is old.

The column is incremented in the transaction of the change; after commit, and before the response, Redis's copy is
raised to it. Admission compares (``billing/admit.lua``). If Redis can't be told, snapshots age out in 30 s.
"""

import logging
import uuid
from functools import partial
from typing import Final

from django.db import transaction
from django.db.models import F

from accounts.models import Organization
from helixflow.lib import redis

logger = logging.getLogger(__name__)

# Raise KEYS[1] to ARGV[1], never lower it: two publishers may arrive in either order.
RAISE: Final = """
local known = tonumber(redis.call('GET', KEYS[1]))
if not known or known < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
"""


def redis_key(organization_id: uuid.UUID) -> str:
    return f"{redis.shard_tag(organization_id)}:generation:{organization_id.hex}"


def bump(organization_id: uuid.UUID) -> None:
    """Call inside the transaction that changes anything a snapshot holds."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("generation.bump must share a transaction with the change it announces")
    Organization.objects.filter(id=organization_id).update(generation=F("generation") + 1)
    generation = Organization.objects.values_list("generation", flat=True).get(id=organization_id)
    transaction.on_commit(partial(publish, organization_id, generation))


def publish(organization_id: uuid.UUID, generation: int) -> None:
    try:
        redis.sync_client().eval(RAISE, 1, redis_key(organization_id), generation)
    except redis.RedisError:
        logger.exception("generation of %s not published; snapshots age out within 30 s", organization_id)
