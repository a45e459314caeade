"""Names of an organization's keys in Redis. All share its shard's tag: scripts run on clusters (docs/limits.md).

The generation's is ``accounts.generation``'s.
"""

import uuid

from helixflow.lib.redis import shard_tag


def window(organization_id: uuid.UUID) -> str:
    """Hash of the current minute: ``minute``, ``inference``, ``other``, and ``k:`` + API key."""
    return f"{shard_tag(organization_id)}:window:{organization_id.hex}"


def month(organization_id: uuid.UUID, month: int) -> str:
    """Hash of a calendar month: ``used`` and ``spent`` (millionths), and ``k:`` and ``s:`` + API key for each key's."""
    return f"{shard_tag(organization_id)}:month:{organization_id.hex}:{month}"


def parallel(organization_id: uuid.UUID) -> str:
    """Sorted set of the leases of requests under way: request id by when it expires."""
    return f"{shard_tag(organization_id)}:parallel:{organization_id.hex}"


def notes(tag: str) -> str:
    """Hash of a shard's requests that are admitted and not settled: request id → ``billing.admission.notes``."""
    return f"{tag}:notes"


def usage_stream(tag: str) -> str:
    """The shard's usage stream: ``billing.events``."""
    return f"{tag}:usage"
