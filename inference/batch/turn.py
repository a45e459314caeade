"""An organization's turn: its lane is claimed, one of its batches is taken a few steps further, the lane is released.

    validating ─ prepare ─▶ in_progress ─ rounds of requests ─▶ finalizing ─ finish ─▶ completed, expired
        └─▶ failed             cancelling ─────────────────────────────────── finish ─▶ cancelled

Each step can be interrupted anywhere and taken again, by another worker (docs/batch.md).
"""

import logging
import time
import uuid
from datetime import timedelta
from typing import Final

from django import db
from django.conf import settings
from django.utils import timezone

from accounts import passes
from accounts.models import ApiKey
from billing.admission import snapshots
from billing.admission.snapshots import Snapshot
from helixflow.lib import errors, live
from inference.batch import due, finishing, lanes, outcomes, preparing, results, rounds
from inference.batch.lanes import Lane
from inference.batch.rounds import Pause, Round
from inference.batch_models import Batch, BatchStatus, WaitsFor

logger = logging.getLogger(__name__)

AWAY: Final = (db.OperationalError, db.InterfaceError)  # PostgreSQL is; other errors of it are about what it was told
AFTER_FAILURE_S: Final = 30.0
SUCCESSORS: Final = 20  # of a key that was rotated again and again
KEY_GONE: Final = "invalid_api_key"


def work(organization_id: uuid.UUID | None = None) -> None:
    """A worker thread's turn, at whoever has waited longest unless it is said.

    Raises AWAY: then the lease ends, and the sweeper tells of the lane again.
    """
    lane = lanes.claim(organization_id)
    if lane is None:
        return
    with lane:
        try:
            _take(lane)
        except AWAY:
            raise
        except Exception:
            logger.exception("a turn at the batches of %s failed", lane.organization_id)
            lane.release(timezone.now() + timedelta(seconds=AFTER_FAILURE_S))
            return
    lane.release(due.next_turn_at(lane.organization_id))


def _take(lane: Lane) -> None:
    batch = due.batches(lane.organization_id).first()
    if batch is None:
        return
    turned_at, settled = batch.turned_at, batch.settled
    # It waits for nothing now, and is the last to have its turn again.
    Batch.objects.filter(id=batch.id).update(turned_at=timezone.now(), waits_for="", waits_until=None)
    ends_at = time.monotonic() + settings.BATCH_TURN_S
    while lane.held and not rounds.stopping.is_set() and time.monotonic() < ends_at:
        batch.refresh_from_db()
        if not batch.is_open:
            return
        status = batch.status
        try:
            pause = _step(batch, lane)
        except AWAY:
            raise
        except Exception:  # its files can't be kept or read: the organization's other batches go on
            logger.exception("a step of %s failed", batch)
            pause = Pause.of(WaitsFor.SERVICE, AFTER_FAILURE_S)
        live.nudge([lane.organization_id])
        if pause is not None:
            if pause.in_vain and batch.settled == settled:  # that was no turn: else the first would always be first
                Batch.objects.filter(id=batch.id).update(turned_at=turned_at)
            _stand_still(batch, status, pause)
            return
        if status == BatchStatus.IN_PROGRESS and due.batches(lane.organization_id, but=batch).exists():
            return


def _stand_still(batch: Batch, status: str, pause: Pause) -> None:
    """Unless it was cancelled meanwhile. Its day ends it before whatever it waits for."""
    until = pause.until if batch.expires_at <= timezone.now() else min(pause.until, batch.expires_at)
    logger.info("%s waits for %s until %s", batch, pause.waits_for, until)
    rows = Batch.objects.filter(id=batch.id)
    if status != BatchStatus.CANCELLING:
        rows = rows.exclude(status=BatchStatus.CANCELLING)
    rows.update(waits_for=pause.waits_for, waits_until=until)


def _step(batch: Batch, lane: Lane) -> Pause | None:
    match batch.status:
        case BatchStatus.VALIDATING:
            preparing.prepare(batch, lane)
        case BatchStatus.IN_PROGRESS if due.waiting(batch).exists():
            return _ask(batch, lane)
        case BatchStatus.CANCELLING if batch.in_progress_at is not None:
            outcomes.settle_rest(batch.id, results.CANCELLED)
            finishing.finish(batch, lane)
        case _:
            finishing.finish(batch, lane)
    return None


def _ask(batch: Batch, lane: Lane) -> Pause | None:
    if batch.expires_at <= timezone.now():
        outcomes.settle_rest(batch.id, results.EXPIRED)
        return None
    found = _identify(batch)
    if found is None:
        outcomes.settle_rest(batch.id, KEY_GONE)
        return None
    snapshot, token = found
    if not snapshot.enabled:
        return Pause.of(WaitsFor.ORGANIZATION, rounds.ORGANIZATION_S)
    going = Round(batch, snapshot, token, lane)
    going.run()
    if going.rest:
        outcomes.settle_rest(batch.id, going.rest)
        return None
    if going.key_refused and (_identify(batch) or (None, ""))[1] != token:
        return None  # its successor goes on, or there is none
    if going.pause is not None:
        return going.pause
    return _until_tried_again(batch)


def _until_tried_again(batch: Batch) -> Pause | None:
    """All that waits has failed, and is to be tried later."""
    at = due.next_item_at(batch)
    if at is None or due.items(batch).exists():
        return None
    return Pause(WaitsFor.UPSTREAM, at)


def _identify(batch: Batch) -> tuple[Snapshot, str] | None:
    """The API key in whose name the batch asks, or the first of its successors that may. None: there is none."""
    key: ApiKey | None = batch.api_key
    for _ in range(SUCCESSORS):
        if key is None:
            return None
        token = passes.pass_for(key)
        try:
            return snapshots.load(token), token
        except errors.InvalidApiKey:
            key = key.rotated_to
    return None
