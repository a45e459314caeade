"""What can be seen of deliveries and done with them: the log, figures, sending again, sending a test event."""

import logging
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import Organization, User
from helixflow.lib import errors, ids
from webhooks import pace, payloads, queue
from webhooks.models import Delivery, DeliveryState, Endpoint, Event, EventType

logger = logging.getLogger(__name__)

TESTS_A_MINUTE: Final = 10  # an endpoint
_BATCH: Final = 1_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)  # no id is older
STATISTICS_OF: Final = timedelta(hours=24)
MAX_ATTEMPTS: Final = 50_000  # an endpoint, the newest: a page must not read millions

# Each endpoint's part is a range of the index attempt_endpoint_newest, which holds all that is read.
_STATEMENT: Final = """
SELECT wanted.id, attempts.total, attempts.succeeded, attempts.quantiles,
       (SELECT count(*) FROM webhooks_delivery
         WHERE endpoint_id = wanted.id AND state = 'pending') AS pending
FROM unnest(%s::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE lately.succeeded) AS succeeded,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY lately.duration_ms) AS quantiles
    FROM (
        SELECT succeeded, duration_ms FROM webhooks_attempt
         WHERE endpoint_id = wanted.id AND id >= %s
         ORDER BY id DESC LIMIT %s
    ) AS lately
) AS attempts
"""


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """Of attempts, tests among them, of the last 24 h: of the newest 50,000 where there were more."""

    attempts: int = 0
    succeeded: int = 0
    success_rate: float | None = None  # 0 to 1; None: no attempts
    p50_ms: float | None = None
    p95_ms: float | None = None
    pending: int = 0  # deliveries that wait now


def log(
    organization: Organization,
    *,
    endpoint: Endpoint | None = None,
    event_type: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[Delivery]:
    """Deliveries with their event and endpoint, also of endpoints that are deleted; ``helixflow.lib.paging`` orders.

    Created from ``since`` on and before ``until``. Raises InvalidRequest.
    """
    rows = Delivery.objects.filter(organization=organization).select_related("event", "endpoint")
    if endpoint is not None:
        rows = rows.filter(endpoint=endpoint)
    if event_type is not None:
        rows = rows.filter(event__type=_event_type(event_type))
    if state is not None:
        if state not in DeliveryState.values:
            raise errors.InvalidRequest(f"The state is one of {', '.join(DeliveryState.values)}.", param="state")
        rows = rows.filter(state=state)
    return _created(rows, since, until)


@transaction.atomic
def resend(*, delivery: Delivery, user: User) -> Delivery:
    """Sends the same event under the same id again, from the schedule's beginning, also one that succeeded.

    Raises InvalidRequest: its endpoint is deleted or disabled, it is a test, or it is being sent at this moment;
    NotFound if the retention has taken it meanwhile.
    """
    rows = Delivery.objects.select_for_update(of=("self",)).select_related("event", "endpoint")
    current = rows.filter(id=delivery.id).first()
    if current is None:
        raise errors.NotFound("This delivery is not kept any more.")
    if current.test:
        raise errors.InvalidRequest("A test event is sent once. Send another one from its endpoint.")
    _require_receiving(current.endpoint)
    if current.leased_until is not None and timezone.now() < current.leased_until:
        raise errors.InvalidRequest("This delivery is being sent right now. Look again in a few seconds.")
    for column, value in (anew := _anew()).items():
        setattr(current, column, value)
    current.save(update_fields=list(anew))
    queue.nudge(current.endpoint_id)
    logger.info("delivery %s sent again by %s", current.public_id, user.public_id)
    return current


def resend_failed(*, endpoint: Endpoint, user: User, since: datetime, until: datetime) -> int:
    """Sends again what was created from ``since`` on and before ``until`` and failed; how many. Tests are left out.

    In batches, each with a transaction of its own: one that is cut short can be repeated. Raises InvalidRequest.
    """
    endpoint.refresh_from_db(fields=["deleted_at", "disabled_at"])
    _require_receiving(endpoint)
    failed = _created(Delivery.objects.filter(endpoint=endpoint, state=DeliveryState.FAILED, test=False), since, until)
    count = sum(_resend_batches(failed))
    queue.nudge(endpoint.id, count)
    logger.info("webhook endpoint %s: %d deliveries sent again by %s", endpoint.public_id, count, user.public_id)
    return count


@transaction.atomic
def send_test(*, endpoint: Endpoint, user: User, event_type: str) -> Delivery:
    """An example event, marked ``"test": true``, sent once: of any type, and to a disabled endpoint too.

    Raises InvalidRequest, NotFound; RateLimitExceeded after ten in a minute.
    """
    kind = _event_type(event_type)
    # Locked, so that tests that are sent at once are counted one after another.
    current = Endpoint.objects.select_for_update(no_key=True).filter(id=endpoint.id, deleted_at=None).first()
    if current is None:
        raise errors.NotFound("This webhook endpoint has been deleted.")
    pace.require_calm(
        Delivery.objects.filter(endpoint=current, test=True),
        most=TESTS_A_MINUTE,
        within=timedelta(minutes=1),
        message=f"An endpoint is sent at most {TESTS_A_MINUTE} test events a minute.",
    )
    event = Event.objects.create(
        organization=endpoint.organization,
        type=kind,
        data={**payloads.example(kind, endpoint.organization.public_id), "test": True},
    )
    delivery = Delivery.objects.create(organization=endpoint.organization, event=event, endpoint=current, test=True)
    queue.nudge(current.id)
    logger.info("webhook endpoint %s: test event %s by %s", current.public_id, event.public_id, user.public_id)
    return delivery


def statistics(endpoint_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, EndpointStatistics]:
    """One statement for all; each id is in the answer."""
    if not endpoint_ids:
        return {}
    since = ids.first_at(timezone.now() - STATISTICS_OF)
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, [list(endpoint_ids), since, MAX_ATTEMPTS])
        return {row[0]: _of(*row[1:]) for row in cursor.fetchall()}


def _event_type(value: str) -> EventType:
    if value not in EventType.values:
        raise errors.InvalidRequest(f"The event is one of {', '.join(EventType.values)}.", param="event")
    return EventType(value)


def _created(rows: QuerySet[Delivery], since: datetime | None, until: datetime | None) -> QuerySet[Delivery]:
    """By id, which is ordered by time and indexed with what the log is of."""
    if since is not None and until is not None and since >= until:
        raise errors.InvalidRequest("Since must be before until.", param="since")
    if since is not None:
        rows = rows.filter(id__gte=ids.first_at(max(since, _EPOCH)))
    if until is not None:
        rows = rows.filter(id__lt=ids.first_at(max(until, _EPOCH)))
    return rows


def _require_receiving(endpoint: Endpoint) -> None:
    if endpoint.deleted_at is not None:
        raise errors.InvalidRequest("This webhook endpoint has been deleted: nothing is sent to it any more.")
    if not endpoint.is_enabled:
        raise errors.InvalidRequest("This webhook endpoint is disabled. Enable it first, then send again.")


def _anew() -> dict[str, Any]:
    """The columns of a delivery whose schedule begins again."""
    return {
        "state": DeliveryState.PENDING,
        "step": 0,
        "next_attempt_at": timezone.now(),
        "ended_at": None,
        "lease": None,
        "leased_until": None,
    }


def _resend_batches(failed: QuerySet[Delivery]) -> Iterator[int]:
    """How many each batch sent again. Rows that somebody else is changing are theirs."""
    rows = failed.order_by("id")
    while True:
        with transaction.atomic():
            locked = rows.select_for_update(skip_locked=True).values_list("id", flat=True)
            found = list(locked[:_BATCH])
            Delivery.objects.filter(id__in=found).update(**_anew())
        if not found:
            return
        yield len(found)
        rows = rows.filter(id__gt=found[-1])


def _of(attempts: int, succeeded: int, quantiles: list[float] | None, pending: int) -> EndpointStatistics:
    p50_ms, p95_ms = quantiles or (None, None)
    return EndpointStatistics(
        attempts=attempts,
        succeeded=succeeded,
        success_rate=succeeded / attempts if attempts else None,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        pending=pending,
    )
