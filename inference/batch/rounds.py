"""A round: the requests of one batch go out, so many at once, and what comes of them is written down as it comes.

It ends when its time is over and somebody else waits for a turn, when none of the batch's requests is due, or when the
batch as a whole has to wait or to stop. Those under way are always waited for: they are the gateway's by then. Where
they take longer than the minute has left, the others go on in the next one.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from billing.admission.snapshots import Snapshot
from helixflow.lib import live, redis
from inference.batch import due, lanes, outcomes, pace, sealing, sending, verdicts
from inference.batch.lanes import Lane
from inference.batch.outcomes import Again, Outcome
from inference.batch.sending import Crew, Errand, Sent
from inference.batch.verdicts import Verdict
from inference.batch_models import Batch, BatchItem, BatchStatus, WaitsFor
from inference.keeping import taken

logger = logging.getLogger(__name__)

SERVICE_S: Final = 2.0  # until a part of the platform that is away is asked again
KEY_S: Final = 30.0  # until a key that only the gateway refuses is
ORGANIZATION_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5  # while nothing comes back
LEAVE_S: Final = 3.0  # that a worker which is to end waits for requests under way; their answers are kept
NUDGE_EVERY_S: Final = 1.0  # open pages

stopping = threading.Event()  # set when the worker is to end


@dataclass(frozen=True, slots=True)
class Pause:
    """The batch stands still."""

    waits_for: str
    until: datetime
    in_vain: bool = False  # nothing of it was even asked

    @classmethod
    def of(cls, waits_for: WaitsFor, seconds: float) -> "Pause":
        return cls(waits_for, timezone.now() + timedelta(seconds=seconds))


class Round:
    """``pause`` and ``rest`` say what came of the batch: when to go on, or why all that waits has failed."""

    def __init__(self, batch: Batch, snapshot: Snapshot, token: str, lane: Lane) -> None:
        self.pause: Pause | None = None
        self.rest = ""
        self.key_refused = False
        self._told: Pause | None = None  # what its row has of ``pause`` while requests are still under way
        self._batch = batch
        self._snapshot = snapshot
        self._lane = lane
        self._width = width(snapshot)
        self._box = sealing.Box(batch.sealed_key)
        self._errand = Errand(batch.operation, batch.public_id, token, self._box)
        self._wave: deque[BatchItem] = deque()
        self._last = -1
        self._look_at = 0.0  # whether the batch was cancelled
        self._heard = False  # of any request that was admitted
        self._ends_at = time.monotonic() + settings.BATCH_TURN_S
        self._over = False
        self._failures = 0  # in a row, of those that may pass
        self._doubting = False  # a refusal at the quota
        self._alone = -1  # position of what was sent with nothing else under way
        self._nudged_at = 0.0

    def run(self) -> None:
        crew = Crew(self._errand, lambda: self._lane.held)
        try:
            leave_at = math.inf
            while True:
                self._feed(crew)
                if not crew.under_way or time.monotonic() >= leave_at:
                    return
                self._tell()
                self._take(crew.done(wait_s=LOOK_EVERY_S))
                if stopping.is_set():
                    leave_at = min(leave_at, time.monotonic() + LEAVE_S)
        finally:
            crew.dismiss()
            self._nudge(at_once=True)
            if self.pause is not None and not self._heard:
                self.pause = replace(self.pause, in_vain=True)

    # What goes out

    def _feed(self, crew: Crew) -> None:
        while crew.under_way < self._width and not self._is_over():
            if not self._wave and not self._fetch():
                return
            # What the minute grants is sent at once: kept for later it would be the next minute's half and more.
            for _ in range(self._grant(min(self._width - crew.under_way, len(self._wave)))):
                item = self._wave.popleft()
                if self._doubting:  # nothing else is under way
                    self._alone = item.position
                crew.give(item)

    def _is_over(self) -> bool:
        if stopping.is_set() or not self._lane.held or (time.monotonic() >= self._look_at and self._was_ended()):
            self._over = True
        elif self._over and self._is_renewed():
            self._over, self.pause = False, None
        elif not self._over and time.monotonic() >= self._ends_at:
            self._over = lanes.somebody_waits() or due.batches(self._batch.organization_id, but=self._batch).exists()
            self._ends_at = time.monotonic() + settings.BATCH_TURN_S
        return self._over

    def _was_ended(self) -> bool:
        """Cancelled, or its time is over: what was fetched for it is not sent any more."""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        asking = Batch.objects.filter(id=self._batch.id, status=BatchStatus.IN_PROGRESS, expires_at__gt=timezone.now())
        return not asking.exists()

    def _is_renewed(self) -> bool:
        """The minute, if that was all there was to wait for."""
        pause = self.pause
        if pause is None or pause.waits_for != WaitsFor.RATE_LIMIT or self.rest:
            return False
        return pause.until <= timezone.now() and not self._was_ended()

    def _fetch(self) -> bool:
        """The next few that are due; False: there are none."""
        found = list(due.items(self._batch).filter(position__gt=self._last)[: 2 * self._width])
        if not found or self._was_ended():
            self._over = True
            return False
        self._wave.extend(found)
        self._last = found[-1].position
        return True

    def _grant(self, wanted: int) -> int:
        """How many the minute has room for."""
        try:
            granted, renewed_in_s = pace.take(self._snapshot, wanted)
        except redis.RedisError:
            self._halt(WaitsFor.SERVICE, SERVICE_S)
            return 0
        if granted == 0:
            self._halt(WaitsFor.RATE_LIMIT, renewed_in_s)
        return granted

    # What comes back

    def _take(self, done: Sequence[Sent]) -> None:
        ended: list[Outcome] = []
        answered: list[BatchItem] = []
        again: list[Again] = []
        for sent in done:
            verdict = verdicts.judge(sent)
            tries = sent.item.tries + 1
            self._heard |= verdict in {Verdict.COMPLETED, Verdict.FAILED, Verdict.AGAIN}
            if verdict is Verdict.AGAIN:
                self._failures += 1
                if tries <= len(settings.BATCH_DELAYS_S):
                    again.append(self._again(sent, tries))
                    continue
                verdict = Verdict.FAILED
            if verdict in {Verdict.COMPLETED, Verdict.FAILED}:
                completed = verdict is Verdict.COMPLETED
                ended.append(outcomes.of(sent, self._box, completed=completed))
                if completed:
                    self._failures = 0
                    answered.append(sent.item)
            else:
                self._stop_for(verdict, sent)
        self._write(ended, answered, again)
        if self._failures > self._width:  # not this request or that, but what they all need
            last = again[-1].due_at if again else timezone.now() + timedelta(seconds=settings.BATCH_DELAYS_S[-1])
            self._over, self.pause = True, self.pause or Pause(WaitsFor.UPSTREAM, last)

    def _again(self, sent: Sent, tries: int) -> Again:
        wait_s = max(settings.BATCH_DELAYS_S[tries - 1], verdicts.retry_after_s(sent.answer))
        return Again(sent.item.position, tries, timezone.now() + timedelta(seconds=wait_s))

    def _write(self, ended: list[Outcome], answered: list[BatchItem], again: list[Again]) -> None:
        if again:
            outcomes.postpone(self._batch.id, again)
        if not ended:
            return
        outcomes.write(self._batch.id, ended)
        if answered:  # only now: until then the kept answer is what a worker's death is made good with
            keys = [sending.idempotency_key(self._batch.public_id, item.position) for item in answered]
            taken.drop(self._snapshot.organization_id, self._snapshot.key_id, keys)
        self._nudge()

    def _nudge(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._nudged_at >= NUDGE_EVERY_S:
            self._nudged_at = now
            live.nudge([self._snapshot.organization_id])

    # What concerns the whole batch

    def _tell(self) -> None:
        """Requests under way may take minutes, and nobody is to wonder meanwhile why the others stand still."""
        pause = self.pause
        if pause is not self._told:
            self._told = pause
            waits_for, until = (pause.waits_for, pause.until) if pause else ("", None)
            Batch.objects.filter(id=self._batch.id).update(waits_for=waits_for, waits_until=until)
            self._nudge(at_once=True)

    def _stop_for(self, verdict: Verdict, sent: Sent) -> None:
        match verdict:
            case Verdict.LIMIT:
                self._halt(WaitsFor.RATE_LIMIT, max(1.0, verdicts.retry_after_s(sent.answer)))
            case Verdict.QUOTA:
                self._doubt_quota(sent)
            case Verdict.KEY:
                self.key_refused = True
                self._halt(WaitsFor.SERVICE, KEY_S)
            case Verdict.DISABLED:
                self._halt(WaitsFor.ORGANIZATION, ORGANIZATION_S)
            case Verdict.SERVICE:
                logger.warning("%s waits: %s", self._batch.public_id, sent.problem or _said(sent))
                self._halt(WaitsFor.SERVICE, max(SERVICE_S, verdicts.retry_after_s(sent.answer)))
            case _:
                self._over = True  # unsent: the lane is lost

    def _doubt_quota(self, sent: Sent) -> None:
        """Requests under way may yet fail and give their unit back: only one that was alone is told the truth."""
        if sent.item.position == self._alone:
            self.rest = "insufficient_quota"
            self._over = True
        elif not self._doubting:
            self._doubting, self._width = True, 1
            self._wave.appendleft(sent.item)

    def _halt(self, waits_for: WaitsFor, seconds: float) -> None:
        self._over = True
        if self.pause is None or waits_for != WaitsFor.RATE_LIMIT:
            self.pause = Pause.of(waits_for, seconds)


def width(snapshot: Snapshot) -> int:
    """How many of an organization's may be under way at once: at most half of what it may have."""
    most = settings.BATCH_PARALLEL
    return most if snapshot.max_parallel is None else max(1, min(most, snapshot.max_parallel // 2))


def _said(sent: Sent) -> str:
    return f"status {sent.answer.status}" if sent.answer else "no answer"
