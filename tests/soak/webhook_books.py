"""Compares, when all is over, what was published, what the receiver saw, and what the rows say.

A worker that is killed writes nothing of its calls under way, so the receiver may have seen calls without an attempt:
at most those of the lanes it had. Of everything else nothing is tolerated.
"""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from tests.soak.moody import RETRY_AFTER_S, Arrival, MoodyReceiver
from webhooks import queue
from webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, Event

BUSY_S: Final = 1.0  # between a call's end and the plan made of it, or between two clocks' readings of one moment
# An attempt may be late by a lease, two sweeps and what a busy machine needs to start workers again.
LATE_S: Final = 45.0
EARLY_S: Final = 0.002  # microseconds are rounded
JITTER: Final = 0.2


class Books:
    def __init__(
        self,
        published: dict[str, int],
        receiver: MoodyReceiver,
        endpoints: Sequence[Endpoint],
        delays_s: Sequence[float],
        kills: int,
    ) -> None:
        self._published = published
        self._receiver = receiver
        self._delays_s = delays_s
        self._kills = kills
        self._paths = {endpoint.id: f"/{endpoint.description}" for endpoint in endpoints}
        self._deliveries = list(
            Delivery.objects.filter(endpoint__in=endpoints).select_related("event").order_by("created_at")
        )
        self.attempts = list(Attempt.objects.filter(endpoint__in=endpoints).order_by("started_at"))
        self._attempts: dict[uuid.UUID, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            self._attempts[attempt.delivery_id].append(attempt)
        self._arrivals: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        for arrival in receiver.arrivals:
            self._arrivals[arrival.path, arrival.event_id].append(arrival)

    def problems(self) -> list[str]:
        """One line for each kind, with the first example."""
        found: Counter[str] = Counter()
        example: dict[str, str] = {}
        parts = (self._of_events(), self._of_arrivals(), self._of_deliveries(), self._of_lanes(), self._of_kills())
        for part in parts:
            for problem, about in part:
                found[problem] += 1
                example.setdefault(problem, about)
        return [f"{count} × {problem}: {example[problem]}" for problem, count in found.items()]

    def lateness_s(self) -> dict[str, float]:
        late = sorted(_seconds(attempt.started_at - due) for attempt, due in self._due())
        if not late:
            return {}
        return {
            "median": late[len(late) // 2],
            "99th percentile": late[int(len(late) * 0.99)],
            "at most": late[-1],
        }

    def _of_events(self) -> Iterator[tuple[str, str]]:
        arrived = {event_id for _, event_id in self._arrivals}
        for event_id in self._published.keys() - arrived:
            yield "an event never arrived", event_id
        for event_id in arrived - self._published.keys():
            yield "an event arrived that nobody published", event_id
        rows = {event.public_id for event in Event.objects.all()}
        if rows != self._published.keys():
            yield "the events are not those that were published", str(rows ^ self._published.keys())[:200]
        deliveries = Counter(delivery.event.public_id for delivery in self._deliveries)
        for event_id in self._published:
            if deliveries[event_id] != 1:
                yield f"an event has {deliveries[event_id]} deliveries, not one", event_id

    def _of_arrivals(self) -> Iterator[tuple[str, str]]:
        events = {delivery.event.public_id: delivery.event for delivery in self._deliveries}
        for (_, event_id), calls in self._arrivals.items():
            for call in calls:
                if call.forged:
                    yield "a signature is wrong", f"{event_id}: {call.forged}"
            if len({call.body for call in calls}) > 1:
                yield "an event's bodies differ", event_id
            event = events.get(event_id)
            told = json.loads(calls[0].body)
            if event and (set(told), told["event"], told["data"]) != (
                {"event", "timestamp", "data"},
                event.type,
                event.data,
            ):
                yield "a body is not its event's", f"{event_id}: {calls[0].body[:200]!r}"

    def _of_deliveries(self) -> Iterator[tuple[str, str]]:
        for delivery in self._deliveries:
            attempts = self._attempts[delivery.id]
            calls = self._arrivals[self._paths[delivery.endpoint_id], delivery.event.public_id]
            shown = f"{delivery.public_id} {delivery.state}: {[_shown(attempt) for attempt in attempts]}"
            doomed = self._receiver.is_doomed(self._published.get(delivery.event.public_id, 0))
            if delivery.state != (DeliveryState.FAILED if doomed else DeliveryState.SUCCEEDED):
                yield f"a delivery {'nobody took' if doomed else 'that was taken'} is {delivery.state}", shown
            if delivery.lease or delivery.leased_until or delivery.next_attempt_at or not delivery.ended_at:
                yield "a delivery that is over is waiting for something", shown
            if delivery.attempt_count != len(attempts) or delivery.step != len(attempts):
                yield f"{delivery.attempt_count} attempts are counted, at step {delivery.step}", shown
            if len(attempts) > len(calls):
                yield "an attempt that the receiver did not see", shown
            if sum(attempt.succeeded for attempt in attempts) != (not doomed) or (not doomed and not attempts):
                yield "the number of successes is wrong", shown
            if doomed and len(attempts) != len(self._delays_s):
                yield "the schedule was not spent", shown
            yield from self._of_schedule(attempts, calls, shown)
        for attempt, due in self._due():
            if _seconds(attempt.started_at - due) > LATE_S:
                yield f"an attempt is more than {LATE_S:.0f} s late", f"{attempt.delivery_id} {_shown(attempt)}"

    def _of_schedule(self, attempts: list[Attempt], calls: list[Arrival], shown: str) -> Iterator[tuple[str, str]]:
        """``calls`` too, since those of killed workers are no attempts and must not come early either."""
        for number, attempt in enumerate(attempts, 1):
            last = attempt.succeeded or number >= len(self._delays_s)
            if (attempt.next_attempt_at is None) != last:
                yield "a next attempt is planned where there is none, or not where there is", shown
            if attempt.next_attempt_at is None:
                continue
            ended = _end(attempt)
            planned = self._delays_s[number]
            asked = attempt.status == 503 and "Retry-After" in attempt.response_headers
            least, most = planned * (1 - JITTER), planned * (1 + JITTER)
            if asked:
                least, most = max(least, min(RETRY_AFTER_S, 2 * planned)), 2 * planned
            delay = _seconds(attempt.next_attempt_at - ended)
            if not least - EARLY_S <= delay <= most + BUSY_S:
                yield "a delay is not the schedule's", f"{delay:.3f} s, not {least} to {most}, after {number}: {shown}"
            if any(
                ended.timestamp() + BUSY_S < call.began_at < attempt.next_attempt_at.timestamp() - EARLY_S
                for call in calls
            ):
                yield "a call came before its time", shown

    def _due(self) -> Iterator[tuple[Attempt, datetime]]:
        """Each attempt, and when it should have been."""
        for delivery in self._deliveries:
            due: datetime | None = delivery.created_at
            for attempt in self._attempts[delivery.id]:
                if due is not None:
                    yield attempt, due
                due = attempt.next_attempt_at

    def _of_lanes(self) -> Iterator[tuple[str, str]]:
        edges: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for arrival in self._receiver.arrivals:
            if arrival.ended_at is None:
                yield "a call is still under way", arrival.event_id
                continue
            edges[arrival.path] += [(arrival.began_at, 1), (arrival.ended_at, -1)]
        for path, each in edges.items():
            under_way = most = 0
            for _, change in sorted(each):
                under_way += change
                most = max(most, under_way)
            if most > queue.LANES:
                yield f"more than {queue.LANES} calls at once", f"{most} at {path}"

    def _of_kills(self) -> Iterator[tuple[str, str]]:
        unwritten = len(self._receiver.arrivals) - len(self.attempts)
        if unwritten > self._kills * queue.LANES * len(self._paths):
            yield "calls without an attempt, more than the kills explain", f"{unwritten} of {self._kills} kills"


def _end(attempt: Attempt) -> datetime:
    return attempt.started_at + timedelta(milliseconds=attempt.duration_ms)


def _seconds(duration: timedelta) -> float:
    return duration.total_seconds()


def _shown(attempt: Attempt) -> str:
    due = f", then {attempt.next_attempt_at:%H:%M:%S.%f}" if attempt.next_attempt_at else ""
    return f"{attempt.started_at:%H:%M:%S.%f} {attempt.duration_ms:.0f} ms {attempt.status} {attempt.error_code}{due}"
