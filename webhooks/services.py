"""Publishing events. Rows only: they are written in the transaction of what happened, and delivered after it."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from helixflow.lib import ids
from webhooks.models import Event, EventType

# Raw, as neither bulk_create nor a foreign key can do this: with ON CONFLICT Django doesn't tell which rows were new,
# and the key is checked at the commit, where an organization that is gone would take the whole batch with it. The lock
# is the one that a foreign key takes; it keeps the organization until the commit.
_INSERT: Final = """
INSERT INTO webhooks_event (id, organization_id, type, data, dedupe_key, created_at)
SELECT new.id, new.organization_id, new.type, new.data::jsonb, new.dedupe_key, %s
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[])
     WITH ORDINALITY AS new (id, organization_id, type, data, dedupe_key, position)
JOIN accounts_organization AS organization ON organization.id = new.organization_id
ORDER BY new.position
FOR KEY SHARE OF organization
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Happening:
    """What ``publish`` takes. ``data`` is JSON whose texts PostgreSQL can hold (no NUL, no lone surrogates)."""

    organization_id: uuid.UUID
    type: EventType
    data: Mapping[str, Any]
    dedupe_key: str | None = None


def publish(
    *,
    organization_id: uuid.UUID,
    type: EventType,  # noqa: A002  # as the row's
    data: Mapping[str, Any],
    dedupe_key: str | None = None,
) -> Event | None:
    """None if ``dedupe_key`` was there already, or the organization is gone. Never aborts the transaction around."""
    published = publish_all([Happening(organization_id, type, data, dedupe_key)])
    return published[0] if published else None


def publish_all(happenings: Iterable[Happening]) -> list[Event]:
    """The same for many in one statement; the events that are new.

    Keys are inserted in sorted order, so that two transactions with the same ones wait for each other one way only.
    """
    now = timezone.now()
    ordered = sorted(happenings, key=lambda happening: happening.dedupe_key or "")
    events = [_event(happening, now) for happening in ordered]
    if not events:
        return []
    with connection.cursor() as cursor:
        columns = zip(
            *((row.id, row.organization_id, row.type, json.dumps(row.data), row.dedupe_key) for row in events),
            strict=True,
        )
        cursor.execute(_INSERT, [now, *map(list, columns)])
        inserted = {row[0] for row in cursor.fetchall()}
    return [event for event in events if event.id in inserted]


def _event(happening: Happening, now: datetime) -> Event:
    return Event(
        id=ids.uuid7(),
        organization_id=happening.organization_id,
        type=happening.type,
        data=dict(happening.data),
        dedupe_key=happening.dedupe_key,
        created_at=now,
    )
