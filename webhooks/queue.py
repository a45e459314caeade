"""The queue of deliveries is their table: who may send what when, and what came of it (docs/webhooks.md).

A *lane* is one worker thread at one endpoint. It claims some of what is due under a lease, and nobody else touches
that until the lease ends: so a dead worker costs a delay and never an event. An endpoint has at most ``LANES`` at a
time over all workers, so that one slow receiver can't keep everybody waiting. Celery's messages only say where to
look; ``sweep`` says it again to make up for lost ones.
"""

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from celery import signature
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from helixflow.lib import ids, tasks
from webhooks.models import Attempt, Endpoint

LANES: Final = 4
BATCH: Final = 10  # deliveries that a lane claims at once
DISABLE_AFTER: Final = timedelta(days=5)  # of nothing but failures
STRAYS: Final = 1000  # of a deleted endpoint that are cancelled at once
LOOK_FOR_TESTS: Final = timedelta(minutes=10)
LOCKS: Final = 0x5745_4248  # the space of advisory locks that the endpoints' are in
LONGEST_COUNTDOWN_S: Final = 60
DELIVER: Final = signature("webhooks.tasks.deliver")  # by name, since that task stands on this module

# The lock keeps two lanes from counting at the same time. The second statement looks after the first has it. A claim
# that a crash of PostgreSQL undoes is no loss, so nobody waits for the disk. Tests go first: somebody looks on.
CLAIM: Final = """
SET LOCAL synchronous_commit = off;
SELECT pg_advisory_xact_lock(%(locks)s, hashtext(%(endpoint)s));
WITH lanes AS (
    SELECT count(DISTINCT lease) AS taken FROM webhooks_delivery
    WHERE endpoint_id = %(endpoint)s::uuid AND lease IS NOT NULL AND leased_until > %(now)s
), tests AS (
    SELECT delivery.id FROM webhooks_delivery AS delivery
    WHERE (SELECT taken FROM lanes) < %(lanes)s
    AND endpoint_id = %(endpoint)s::uuid AND state = 'pending' AND test AND next_attempt_at <= %(now)s
    AND (lease IS NULL OR leased_until <= %(now)s)
    LIMIT %(batch)s
    FOR NO KEY UPDATE SKIP LOCKED
), others AS (
    SELECT delivery.id FROM webhooks_delivery AS delivery
    WHERE (SELECT taken FROM lanes) < %(lanes)s AND NOT %(disabled)s
    AND endpoint_id = %(endpoint)s::uuid AND state = 'pending' AND NOT test AND next_attempt_at <= %(now)s
    AND (lease IS NULL OR leased_until <= %(now)s)
    ORDER BY next_attempt_at LIMIT %(batch)s
    FOR NO KEY UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM tests UNION ALL SELECT id FROM others LIMIT %(batch)s
)
UPDATE webhooks_delivery AS delivery SET lease = %(lease)s, leased_until = %(until)s
FROM due JOIN webhooks_delivery AS found ON found.id = due.id JOIN webhooks_event AS event ON event.id = found.event_id
WHERE delivery.id = due.id
RETURNING delivery.id, delivery.step, delivery.test, event.id, event.type, event.created_at, event.data
"""

# Whose lease ended meanwhile, or whose delivery was cancelled, has still made an attempt, and a success counts.
# What was sent to a URL that the endpoint no longer has says nothing of the new one, above all no 410.
# All of them succeeded, or there is one. Rows travel as one JSON text.
RECORD: Final = """
WITH told AS (
    SELECT * FROM json_populate_recordset(NULL::webhooks_attempt, %(attempts)s)
), found AS (
    SELECT id, state = 'pending' AND lease = %(lease)s AS is_mine FROM webhooks_delivery
    WHERE id = ANY(%(deliveries)s) ORDER BY id FOR NO KEY UPDATE
), attempt AS (
    INSERT INTO webhooks_attempt ({columns}) SELECT {told} FROM told JOIN found ON found.id = told.delivery_id
), health AS (
    UPDATE webhooks_endpoint SET
        failing_since = CASE WHEN %(succeeded)s THEN NULL ELSE coalesce(failing_since, %(started_at)s) END,
        disabled_at = CASE WHEN %(gone)s OR (NOT %(succeeded)s AND failing_since <= %(given_up)s)
            THEN %(now)s ELSE disabled_at END,
        disabled_reason = CASE WHEN %(gone)s THEN 'gone' WHEN NOT %(succeeded)s AND failing_since <= %(given_up)s
            THEN 'failing' ELSE disabled_reason END,
        owner_told_at = NULL
    WHERE id = %(endpoint)s AND url = %(url)s AND disabled_at IS NULL AND deleted_at IS NULL
    AND NOT (%(test)s AND NOT %(succeeded)s)
    AND (%(gone)s OR CASE WHEN %(succeeded)s THEN failing_since IS NOT NULL
        ELSE failing_since IS NULL OR failing_since <= %(given_up)s END)
    RETURNING disabled_at
)
UPDATE webhooks_delivery AS delivery SET
    attempt_count = attempt_count + 1,
    last_status = told.status,
    last_error = told.error_code,
    step = CASE WHEN is_mine THEN step + 1 ELSE step END,
    state = CASE WHEN %(succeeded)s THEN 'succeeded' WHEN is_mine AND told.next_attempt_at IS NULL
        THEN 'failed' ELSE state END,
    next_attempt_at = CASE WHEN %(succeeded)s THEN NULL WHEN is_mine THEN told.next_attempt_at
        ELSE delivery.next_attempt_at END,
    ended_at = CASE WHEN %(succeeded)s OR (is_mine AND told.next_attempt_at IS NULL)
        THEN %(now)s ELSE ended_at END,
    lease = CASE WHEN %(succeeded)s OR is_mine THEN NULL ELSE lease END,
    leased_until = CASE WHEN %(succeeded)s OR is_mine THEN NULL ELSE leased_until END
FROM found JOIN told ON told.delivery_id = found.id
WHERE delivery.id = found.id
RETURNING (SELECT disabled_at FROM health) IS NULL AND EXISTS (
    SELECT 1 FROM webhooks_endpoint
    WHERE id = %(endpoint)s AND url = %(url)s AND disabled_at IS NULL AND deleted_at IS NULL)
"""

_COLUMNS: Final = [field.attname for field in Attempt._meta.concrete_fields]  # noqa: SLF001  # Django documents it
_RECORD: Final = RECORD.format(columns=", ".join(_COLUMNS), told=", ".join(f"told.{name}" for name in _COLUMNS))

# One look into an index for each endpoint that could have something due: the order says into which.
DUE: Final = """
SELECT endpoint.id, due.found FROM webhooks_endpoint AS endpoint, LATERAL (
    SELECT count(*) AS found FROM (
        SELECT 1 FROM webhooks_delivery AS delivery
        WHERE endpoint_id = endpoint.id AND state = 'pending' AND next_attempt_at <= %(now)s
        AND (lease IS NULL OR leased_until <= %(now)s)
        AND (endpoint.disabled_at IS NULL OR (test AND delivery.id >= %(recent)s))
        ORDER BY next_attempt_at LIMIT %(most)s
    ) AS at_most
) AS due
WHERE endpoint.deleted_at IS NULL AND due.found > 0
AND (endpoint.disabled_at IS NULL OR EXISTS (
    SELECT 1 FROM webhooks_delivery
    WHERE endpoint_id = endpoint.id AND state = 'pending' AND test AND id >= %(recent)s))
"""

# Also of endpoints that were deleted long ago: the sweeper may have been away meanwhile. One look into an index for
# each, and what somebody else holds at this moment is left to the next sweep, so that two sweepers don't lock each
# other out.
CANCEL_STRAYS: Final = """
WITH stray AS (
    SELECT found.id FROM webhooks_endpoint AS endpoint, LATERAL (
        SELECT delivery.id FROM webhooks_delivery AS delivery
        WHERE endpoint_id = endpoint.id AND state = 'pending' AND (lease IS NULL OR leased_until <= %(now)s)
        ORDER BY next_attempt_at LIMIT %(most)s
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS found
    WHERE endpoint.deleted_at IS NOT NULL
)
UPDATE webhooks_delivery AS delivery
SET state = 'cancelled', next_attempt_at = NULL, ended_at = %(now)s, lease = NULL, leased_until = NULL
WHERE delivery.id = ANY(ARRAY(SELECT id FROM stray))  -- each by its key: of a join the planner reads the whole table
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery in hand. ``step``: attempts of its schedule that were made."""

    id: uuid.UUID
    step: int
    test: bool
    event_id: uuid.UUID
    event_type: str
    created_at: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt. No ``error_code``: it succeeded; no ``status``: nothing answered. The body is what is kept of it."""

    started_at: datetime
    duration_ms: float
    url: str
    request_headers: dict[str, str]
    address: str | None = None
    status: int | None = None
    response_headers: dict[str, str] | None = None
    response_body: str = ""
    response_truncated: bool = False
    error_code: str = ""
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return not self.error_code


def claim(endpoint: Endpoint) -> tuple[uuid.UUID, list[Claimed]]:
    """What is due, tests first, then the longest overdue, under a lease of its own; nothing if all lanes are taken."""
    now = timezone.now()
    lease = uuid.uuid4()
    values: dict[str, Any] = {
        "locks": LOCKS,
        "endpoint": str(endpoint.id),
        "now": now,
        "lanes": LANES,
        "disabled": endpoint.disabled_at is not None,
        "batch": BATCH,
        "lease": lease,
        "until": now + timedelta(seconds=settings.WEBHOOK_LEASE_S),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CLAIM, values)
        while cursor.nextset():
            pass  # to the last statement's rows
        rows = cursor.fetchall()
    claimed = [Claimed(*columns, data=json.loads(data)) for *columns, data in rows]  # type: ignore[misc]  # in order
    return lease, sorted(claimed, key=lambda each: (not each.test, each.id))


def record(
    *, lease: uuid.UUID, endpoint: Endpoint, delivery: Claimed, outcome: Outcome, next_attempt_at: datetime | None
) -> bool:
    """Write an attempt down, and what follows from it. Whether the endpoint is still to be sent to, as it was known.

    ``next_attempt_at``: where it failed, when to try again; None: never. A receiver that answers 410, or one of which
    nothing but failures was seen for ``DISABLE_AFTER``, is disabled; a test decides nothing of that.
    """
    return _record(lease, endpoint, [(delivery, outcome)], next_attempt_at)


def record_successes(*, lease: uuid.UUID, endpoint: Endpoint, successes: Sequence[tuple[Claimed, Outcome]]) -> bool:
    """The same for several at once, which costs little more than for one."""
    return _record(lease, endpoint, successes, None)


def _record(
    lease: uuid.UUID,
    endpoint: Endpoint,
    attempts: Sequence[tuple[Claimed, Outcome]],
    next_attempt_at: datetime | None,
) -> bool:
    now = timezone.now()
    delivery, outcome = attempts[0]
    rows = [_row(endpoint, delivery, outcome, next_attempt_at) for delivery, outcome in attempts]
    values: dict[str, Any] = {
        "attempts": msgspec.json.encode(rows).decode(),
        "deliveries": [delivery.id for delivery, _ in attempts],
        "lease": lease,
        "endpoint": endpoint.id,
        "url": endpoint.url,
        "succeeded": outcome.succeeded,
        "started_at": outcome.started_at,
        "gone": outcome.status == 410 and not delivery.test,
        "test": delivery.test,
        "given_up": now - DISABLE_AFTER,
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, values)
        row = cursor.fetchone()
    return bool(row and row[0])


def _row(
    endpoint: Endpoint, delivery: Claimed, outcome: Outcome, next_attempt_at: datetime | None
) -> dict[str, object]:
    """As a row of Attempt has it."""
    return {
        "id": ids.uuid7(),
        "delivery_id": delivery.id,
        "endpoint_id": endpoint.id,
        "started_at": outcome.started_at,
        "duration_ms": outcome.duration_ms,
        "url": outcome.url,
        "address": outcome.address,
        "request_headers": outcome.request_headers,
        "succeeded": outcome.succeeded,
        "status": outcome.status,
        "response_headers": outcome.response_headers or {},
        "response_body": outcome.response_body,
        "response_truncated": outcome.response_truncated,
        "error_code": outcome.error_code,
        "error": outcome.error,
        "next_attempt_at": next_attempt_at,
    }


def release(lease: uuid.UUID) -> None:
    """Give back what was not tried."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE webhooks_delivery SET lease = NULL, leased_until = NULL WHERE lease = %s", [lease])


def nudge(endpoint_id: uuid.UUID, deliveries: int = 1, *, after_s: float = 0) -> None:
    """Tell the workers, once the transaction is committed. What is lost of that the sweeper makes up for."""
    lanes = min(LANES, -(-deliveries // BATCH))
    # Robust: what fails here must not look like a failure of the transaction, which is committed.
    transaction.on_commit(partial(_tell, endpoint_id, lanes, after_s), robust=True)


def _tell(endpoint_id: uuid.UUID, lanes: int, after_s: float) -> None:
    expires = after_s + settings.WEBHOOK_LEASE_S
    for _ in range(lanes):
        countdown = {"countdown": after_s} if after_s else {}
        tasks.nudge(DELIVER, str(endpoint_id), expires=expires, **countdown)


def sweep() -> int:
    """Tell the workers of all that is due and that nobody is at; how many endpoints that is. Every few seconds."""
    now = timezone.now()
    cancel_strays()
    _end_rotations(now)
    values: dict[str, Any] = {"now": now, "recent": ids.first_at(now - LOOK_FOR_TESTS), "most": LANES * BATCH}
    with connection.cursor() as cursor:
        cursor.execute(DUE, values)
        due: Collection[tuple[uuid.UUID, int]] = cursor.fetchall()
    for endpoint_id, found in due:
        nudge(endpoint_id, found)
    return len(due)


def cancel_strays() -> int:
    """Some of what waits for endpoints that are deleted, and nobody is at; how many deliveries."""
    with connection.cursor() as cursor:
        cursor.execute(CANCEL_STRAYS, {"now": timezone.now(), "most": STRAYS})
        return int(cursor.rowcount)


def _end_rotations(now: datetime) -> None:
    """A secret that signs nothing any more need not be kept."""
    over = Endpoint.objects.filter(rotation_ends_at__lte=now)
    over.update(sealed_previous_secret="", rotation_ends_at=None)
