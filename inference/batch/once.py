"""``Idempotency-Key`` where batches are made. A key chooses the batch's id before there is a batch.

So whoever comes with it, at once, later, or after a death half-way, makes the same batch or finds it made
(``batches.create``): nobody waits for anybody, and there is no lease to lose.
"""

import hashlib
import uuid
from typing import Final, cast

from helixflow.lib import errors, ids, redis
from inference.keeping.idempotency import HEADER, LIFE_S, MAX_KEY

ID: Final = 16  # bytes of one, behind the digest of what was asked


def batch_id(organization_id: uuid.UUID, api_key_id: uuid.UUID, key: str, asked: bytes) -> uuid.UUID:
    """That of the batch which ``asked`` makes under ``key``. Raises InvalidRequest, redis.RedisError."""
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise errors.InvalidRequest(f"{HEADER} must be 1 to {MAX_KEY} printable ASCII characters.", param=HEADER)
    mine = hashlib.sha256(asked).digest() + ids.uuid7().bytes
    found = redis.sync_client().set(_name(organization_id, api_key_id, key), mine, nx=True, get=True, ex=LIFE_S)
    kept = cast(bytes, found or mine)
    if kept[:-ID] != mine[:-ID]:
        raise errors.InvalidRequest(
            f"This {HEADER} was used with another request body: use a new one for each batch.", param=HEADER
        )
    return uuid.UUID(bytes=kept[-ID:])


def _name(organization_id: uuid.UUID, api_key_id: uuid.UUID, key: str) -> str:
    hidden = hashlib.sha256(api_key_id.bytes + key.encode()).hexdigest()
    return f"{redis.shard_tag(organization_id)}:batch-once:{organization_id.hex}:{hidden}"
