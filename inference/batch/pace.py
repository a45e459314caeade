"""The minute: batches have at most half of it, so that whoever waits for an answer has the rest.

Counted by Redis's clock, as admission counts. Admission goes on to count each request too: what others have used of the
minute is gone for batches as well.
"""

import uuid
from typing import Any, Final, NamedTuple

from billing.admission import limits
from billing.admission.snapshots import Snapshot
from helixflow.lib import redis
from inference import lua

_SOURCE: Final = lua.source("batch_pace")


class Taken(NamedTuple):
    granted: int
    renewed_in_s: int


def take(snapshot: Snapshot, wanted: int) -> Taken:
    """So many requests may be sent, and are counted. Raises redis.RedisError."""
    own = snapshot.key_requests_per_minute
    script: Any = redis.sync_client().register_script(_SOURCE)
    reply = script(
        keys=[key(snapshot.organization_id)],
        args=[
            *(limits.clock_offset_s, wanted, share(snapshot.requests_per_minute)),
            *(snapshot.key_id.hex, -1 if own is None else share(own)),
        ],
    )
    return Taken(*reply)


def share(per_minute: int) -> int:
    """Half, but at least one: else batches of who may ask once a minute would stand still."""
    return max(1, per_minute // 2)


def key(organization_id: uuid.UUID) -> str:
    return f"{redis.shard_tag(organization_id)}:batches:{organization_id.hex}"
