"""Lanes: one worker at a time works for an organization, under a lease that it renews (docs/batch.md).

Rows are the queue. Celery's messages only say that there is work, and ``sweep`` says it again: a lost one, or a worker
that died, costs seconds. Who gets one takes the lane that has been due for longest, so that it doesn't matter how many
messages were sent for whom. ``due_at`` is when the next turn is due. A worker takes it away with its claim, so what is
there at the release came meanwhile, and is not forgotten.
"""

import logging
import threading
import time
import uuid
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

from celery import signature
from django import db
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from helixflow.lib import tasks
from inference.batch_models import BatchLane

logger = logging.getLogger(__name__)

WORK: Final = signature("inference.tasks.work_batches")  # by name, since that task stands on this module
RENEWALS: Final = 4  # in the life of a lease
LONGEST_COUNTDOWN_S: Final = 60

# Either waits for the other's commit: what is woken while a turn ends is due after it.
WAKE: Final = """
INSERT INTO inference_batchlane AS lane (organization_id, due_at) VALUES (%(organization)s, %(now)s)
ON CONFLICT (organization_id) DO UPDATE SET due_at = least(lane.due_at, excluded.due_at)
"""
RELEASE: Final = """
UPDATE inference_batchlane SET lease = NULL, leased_until = NULL, due_at = least(due_at, %(due_at)s::timestamptz)
WHERE lease = %(lease)s RETURNING due_at
"""


def wake(organization_id: uuid.UUID) -> None:
    """There is something to do: in the transaction that makes or cancels a batch. Nudges once that is committed."""
    with connection.cursor() as cursor:
        cursor.execute(WAKE, {"organization": organization_id, "now": timezone.now()})
    nudge()


def nudge(*, after_s: float = 0) -> None:
    """Tell the workers, once the transaction is committed. What is lost of that the sweeper makes up for."""
    # Robust: what fails here must not look like a failure of the transaction, which is committed.
    transaction.on_commit(partial(_tell, after_s), robust=True)


def _tell(after_s: float) -> None:
    countdown = {"countdown": after_s} if after_s else {}
    tasks.nudge(WORK, expires=after_s + 3 * settings.BATCH_LEASE_S, **countdown)


def sweep() -> int:
    """Tell the workers, once for every lane that is due and free; how many. Every few seconds."""
    due = _claimable(timezone.now()).count()
    for _ in range(due):
        nudge()
    return due


def somebody_waits() -> bool:
    """For a worker to come free."""
    return _claimable(timezone.now()).exists()


@transaction.atomic
def claim(organization_id: uuid.UUID | None = None) -> "Lane | None":
    """The lane that has been due for longest, or this one. None: nothing is due, or other workers are at it."""
    began = time.monotonic()
    lease, now = uuid.uuid4(), timezone.now()
    free = _claimable(now).select_for_update(skip_locked=True, no_key=True)
    if organization_id is not None:
        free = free.filter(organization_id=organization_id)
    lane = free.order_by(Coalesce("due_at", "leased_until")).first()
    if lane is None:
        return None
    until = now + timedelta(seconds=settings.BATCH_LEASE_S)
    BatchLane.objects.filter(pk=lane.pk).update(lease=lease, leased_until=until, due_at=None)
    return Lane(lane.organization_id, lease, began)


def _claimable(now: datetime) -> QuerySet[BatchLane]:
    """Due and free, or its worker is gone."""
    return BatchLane.objects.filter(Q(lease=None, due_at__lte=now) | Q(lease__isnull=False, leased_until__lte=now))


class Lane:
    """One that this worker has. As a context it renews the lease, from a thread, until it is left."""

    def __init__(self, organization_id: uuid.UUID, lease: uuid.UUID, began: float) -> None:
        self.organization_id = organization_id
        self.lease = lease
        self._held_until = began + settings.BATCH_LEASE_S  # monotonic
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="batch-lease", daemon=True)

    @property
    def held(self) -> bool:
        """Also False for a worker that was stopped for longer than its lease: nobody need tell it."""
        return not self._lost and time.monotonic() < self._held_until

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def renew(self) -> None:
        """Raises django.db.Error. A lease that another has taken is lost for good."""
        began = time.monotonic()
        until = timezone.now() + timedelta(seconds=settings.BATCH_LEASE_S)
        if BatchLane.objects.filter(lease=self.lease).update(leased_until=until):
            self._held_until = began + settings.BATCH_LEASE_S
        else:
            self._lost = True

    def release(self, due_at: datetime | None) -> None:
        """``due_at``: when there is more to do; None: nothing is known of. Nothing happens where the lease was lost."""
        with connection.cursor() as cursor:
            cursor.execute(RELEASE, {"lease": self.lease, "due_at": due_at})
            row = cursor.fetchone()
        if row is None or row[0] is None:
            return
        wait_s = max(0.0, (row[0] - timezone.now()).total_seconds())
        if wait_s <= LONGEST_COUNTDOWN_S:
            nudge(after_s=wait_s)

    def _keep_renewing(self) -> None:
        try:
            while not self._lost and not self._over.wait(settings.BATCH_LEASE_S / RENEWALS):
                try:
                    self.renew()
                except db.Error as error:  # the lease ends by itself if this goes on
                    logger.warning("the lease of a batch lane was not renewed: %s", str(error).partition("\n")[0])
                    connection.close()
        finally:
            connection.close()  # this thread's own
