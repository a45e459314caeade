"""Publishing events. Rows only: they are written in the transaction of what happened, and delivered after it.

An event becomes a delivery for each endpoint that subscribes to it. Completions, which are many, are written down only
where somebody does; the others are rare, and each is an organization's history.
"""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from helixflow.lib import ids
from webhooks import queue
from webhooks.models import Endpoint, Event, EventType

IF_WANTED: Final = frozenset({EventType.COMPLETION_CREATED, EventType.COMPLETION_FAILED})

# Raw, as neither bulk_create nor a foreign key can do this: with ON CONFLICT Django doesn't tell which rows were new,
# and the key is checked at the commit, where an organization that is gone would take the whole batch with it. The lock
# is the one that a foreign key takes; it keeps the organization until the commit. The rows travel as one JSON text: a
# fraction of the cost of arrays, whose every quote is quoted.
_INSERT: Final = """
INSERT INTO webhooks_event (id, organization_id, type, data, dedupe_key, created_at)
SELECT new.id, new.organization_id, new.type, new.data, new.dedupe_key, %s
FROM ROWS FROM (json_to_recordset(%s) AS (id uuid, organization_id uuid, type text, data jsonb, dedupe_key text))
     WITH ORDINALITY AS new (id, organization_id, type, data, dedupe_key, position)
JOIN accounts_organization AS organization ON organization.id = new.organization_id
ORDER BY new.position
FOR KEY SHARE OF organization
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING id
"""

# For the same reason. One whose endpoint is deleted at this moment is cancelled by the sweeper.
_INSERT_DELIVERIES: Final = """
INSERT INTO webhooks_delivery (
    id, organization_id, event_id, endpoint_id, test, state, step, attempt_count, next_attempt_at, last_error,
    created_at)
SELECT new.id, endpoint.organization_id, new.event_id, endpoint.id, false, 'pending', 0, 0, %s, '', %s
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) WITH ORDINALITY AS new (id, event_id, endpoint_id, position)
JOIN webhooks_endpoint AS endpoint ON endpoint.id = new.endpoint_id AND endpoint.deleted_at IS NULL
ORDER BY new.position
FOR KEY SHARE OF endpoint
RETURNING endpoint_id
"""


@dataclass(frozen=True, slots=True)
class Happening:
    """What ``publish`` takes. ``data`` is JSON whose texts PostgreSQL can hold (no NUL, no lone surrogates).

    ``api_key_id`` and ``model``, where there are such, are what endpoints can be limited to.
    """

    organization_id: uuid.UUID
    type: EventType
    data: Mapping[str, Any]
    dedupe_key: str | None = None
    api_key_id: uuid.UUID | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The enabled endpoints of some organizations."""

    _endpoints: Mapping[uuid.UUID, Sequence[Endpoint]] = field(default_factory=dict)

    def wants(self, organization_id: uuid.UUID, type_: EventType) -> bool:
        """Whether an endpoint may be told of such an event: what it needn't be, need not be made."""
        return any(type_ in endpoint.events for endpoint in self._endpoints.get(organization_id, ()))

    def of(self, happening: Happening) -> list[Endpoint]:
        endpoints = self._endpoints.get(happening.organization_id, ())
        return [endpoint for endpoint in endpoints if _subscribes(endpoint, happening)]


def subscribers(organization_ids: Collection[uuid.UUID]) -> Subscriptions:
    """One query, whatever their number."""
    endpoints: dict[uuid.UUID, list[Endpoint]] = defaultdict(list)
    rows = Endpoint.objects.filter(organization_id__in=organization_ids, disabled_at=None, deleted_at=None)
    for endpoint in rows.only("organization_id", "events", "api_key_ids", "model_names"):
        endpoints[endpoint.organization_id].append(endpoint)
    return Subscriptions(endpoints)


def publish(
    *,
    organization_id: uuid.UUID,
    type: EventType,  # noqa: A002  # as the row's
    data: Mapping[str, Any],
    dedupe_key: str | None = None,
) -> Event | None:
    """None if ``dedupe_key`` was there already, the organization is gone, or nobody wants to know.

    Never aborts the transaction around.
    """
    published = publish_all([Happening(organization_id, type, data, dedupe_key)])
    return published[0] if published else None


def publish_all(happenings: Iterable[Happening], *, subscriptions: Subscriptions | None = None) -> list[Event]:
    """The same for many in two statements; the events that are new.

    ``subscriptions`` spares the query for them. Keys are inserted in sorted order, so that two transactions with the
    same ones wait for each other one way only.
    """
    ordered = sorted(happenings, key=lambda happening: happening.dedupe_key or "")
    if not ordered:
        return []
    if subscriptions is None:
        subscriptions = subscribers({happening.organization_id for happening in ordered})
    told = [(happening, subscriptions.of(happening)) for happening in ordered]
    now = timezone.now()
    events = [
        (_event(happening, now), endpoints)
        for happening, endpoints in told
        if endpoints or happening.type not in IF_WANTED
    ]
    inserted = _insert([event for event, _ in events], now)
    new = [(event, endpoints) for event, endpoints in events if event.id in inserted]
    _deliver(new, now)
    return [event for event, _ in new]


def _subscribes(endpoint: Endpoint, happening: Happening) -> bool:
    """What names no key or no model is nothing that could be filtered by it."""
    if happening.type not in endpoint.events:
        return False
    if happening.api_key_id and endpoint.api_key_ids and happening.api_key_id not in endpoint.api_key_ids:
        return False
    return not (happening.model and endpoint.model_names and happening.model not in endpoint.model_names)


def _event(happening: Happening, now: datetime) -> Event:
    return Event(
        id=ids.uuid7(),
        organization_id=happening.organization_id,
        type=happening.type,
        data=dict(happening.data),
        dedupe_key=happening.dedupe_key,
        created_at=now,
    )


def _insert(events: list[Event], now: datetime) -> set[uuid.UUID]:
    """The ids of those that are new."""
    if not events:
        return set()
    rows = [
        {
            "id": str(event.id),
            "organization_id": str(event.organization_id),
            "type": event.type,
            "data": event.data,
            "dedupe_key": event.dedupe_key,
        }
        for event in events
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [now, json.dumps(rows)])
        return {row[0] for row in cursor.fetchall()}


def _deliver(events: list[tuple[Event, list[Endpoint]]], now: datetime) -> None:
    rows = [(ids.uuid7(), event.id, endpoint.id) for event, endpoints in events for endpoint in endpoints]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_DELIVERIES, [now, now, *map(list, zip(*rows, strict=True))])
        written = Counter(row[0] for row in cursor.fetchall())
    for endpoint_id, deliveries in written.items():
        queue.nudge(endpoint_id, deliveries)
