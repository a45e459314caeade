"""How each deployment has been doing, as this process and the others see it. Pure; for the event loop's thread.

``inference.breaker`` decides whether a deployment may be asked, this module how long it takes to answer, and
``inference.health_shared`` tells the other processes.
"""

import random
import time
from collections.abc import Callable, Mapping
from math import exp
from typing import Final

from helixflow.lib import metrics
from inference.breaker import Breaker, State
from inference.budget import RetryBudget

NEWEST_COUNTS: Final = 0.2  # of a latency that is measured, in the average
STALE_S: Final = 10.0  # an average that nothing confirms fades with this time constant, so that it is measured again
UNKNOWN_S: Final = 1.0  # the latency that is assumed while the first measurement is under way
STALLED_TIMES: Final = 5.0  # as long as usual, and at least as many seconds
STALLED_FEWEST: Final = 3
RECENT_S: Final = 300.0  # half of what "recently" is for operators
LEAST_S: Final = 0.001


class Latency:
    """Of one deployment and one kind of answer: until the first token of a stream, or the end of a whole answer.

    ``waiting`` attempts have shown nothing yet; ``began_sum`` adds up when they began, so that their mean age costs no
    list of them.
    """

    __slots__ = ("average_s", "began_sum", "measured_at", "waiting")

    def __init__(self) -> None:
        self.average_s: float | None = None
        self.measured_at = 0.0
        self.waiting = 0
        self.began_sum = 0.0

    def began(self, now: float) -> None:
        self.waiting += 1
        self.began_sum += now

    def ended(self, began: float) -> None:
        self.waiting -= 1
        self.began_sum = (
            self.began_sum - began if self.waiting else 0.0
        )  # and no rounding error outlives an idle moment

    def measured(self, seconds: float, now: float) -> None:
        average = self.average_s
        self.average_s = seconds if average is None else average + NEWEST_COUNTS * (seconds - average)
        self.measured_at = now

    def lasted(self, seconds: float, now: float) -> None:
        """Without an answer, which would have taken longer. A refusal that came quicker says nothing."""
        if seconds > (UNKNOWN_S if self.average_s is None else self.average_s):
            self.measured(seconds, now)

    def cost(self, now: float) -> float:
        """What one more would meet: the usual time, or the age of those who wait if that is worse, times their number.

        Idle ones get cheaper with time until one request measures them again; only one, as it doesn't while any waits.
        """
        average = self.average_s
        if not self.waiting:
            return 0.0 if average is None else average * exp((self.measured_at - now) / STALE_S)
        age = now - self.began_sum / self.waiting
        return max(UNKNOWN_S if average is None else average, age, LEAST_S) * (self.waiting + 1)

    def stalls(self, now: float) -> bool:
        """Several wait much longer than usual, and nobody has been answered meanwhile."""
        if self.waiting < STALLED_FEWEST:
            return False
        limit = STALLED_TIMES * max(self.average_s or 0.0, 1.0)
        return now - self.measured_at > limit and now - self.began_sum / self.waiting > limit


class Standing:
    """All that is known here of one deployment. ``counts`` are what Prometheus sees."""

    __slots__ = (
        *("_mark", "_mark_before", "_marked_at", "breaker", "counts", "failures", "in_flight", "reason"),
        *("requests", "streamed", "whole"),
    )

    def __init__(self, breaker: Breaker, counts: metrics.Upstream) -> None:
        self.breaker = breaker
        self.counts = counts
        self.streamed = Latency()
        self.whole = Latency()
        self.in_flight = self.requests = self.failures = 0
        self.reason = ""  # of the last failure
        self._mark = self._mark_before = (0, 0)
        self._marked_at = float("-inf")

    def recent(self, now: float) -> tuple[int, int]:
        """Requests and failures of the last five to ten minutes. Asked every second or so."""
        if now >= self._marked_at + RECENT_S:
            self._mark_before, self._mark = self._mark, (self.requests, self.failures)
            self._marked_at = now
        requests, failures = self._mark_before
        return self.requests - requests, self.failures - failures

    @property
    def latency_s(self) -> float | None:
        """Until the first token where streams were seen, else until the end."""
        return self.whole.average_s if self.streamed.average_s is None else self.streamed.average_s


class Trial:
    """One attempt at a deployment. The first of ``answered``, ``refused``, ``failed``, ``limited``, ``left`` counts."""

    __slots__ = (
        *("_began", "_budget", "_clock", "_epoch", "_latency", "_over", "_paid", "_standing", "_stream"),
        *("_waiting", "blamed", "probe"),
    )

    def __init__(
        self, standing: Standing, budget: RetryBudget, clock: Callable[[], float], *, stream: bool, paid: bool
    ) -> None:
        breaker = standing.breaker
        self._began = now = clock()
        self._clock = clock
        self._standing = standing
        self._budget = budget
        self._stream = stream
        self._paid = paid
        self.probe = breaker.cut_off is not None and breaker.begin(now)
        self._epoch = breaker.epoch
        self._over = False
        self._waiting = True
        self._latency = standing.streamed if stream else standing.whole
        self._latency.began(now)
        self.blamed = False  # it ended, and the deployment is why
        standing.in_flight += 1
        standing.requests += 1

    def first_token(self) -> None:
        """Something was produced: of a stream, that is when it has answered. Later calls do nothing."""
        if not self._waiting or self._over:
            return
        now = self._clock()
        breaker = self._standing.breaker
        if breaker.cut_off is not None:
            self._epoch = breaker.produced(self._epoch, now)
        if self._stream:
            self._measure(now)

    def answered(self) -> None:
        if self._over:
            return
        now = self._clock()
        if self._waiting and not self._stream:
            self._measure(now)
        self._succeed(now)

    def refused(self) -> None:
        """The request is invalid, it says: it lives, but how long its answers take is not known any better."""
        if not self._over:
            self._succeed(self._clock())

    def _succeed(self, now: float) -> None:
        self._end(now)
        standing = self._standing
        standing.breaker.succeeded(self._epoch, now)
        standing.counts.answered += 1
        if not self._paid:
            self._budget.first_answered()

    def failed(self, reason: str, retry_after_s: float | None = None) -> None:
        if self._over:
            return
        now = self._clock()
        self._end(now)
        standing = self._standing
        standing.failures += 1
        standing.reason = reason
        standing.counts.failed += 1
        self._blame(news=standing.breaker.failed(self._epoch, now, reason, retry_after_s))

    def limited(self, retry_after_s: float | None = None) -> None:
        """It is well, but wants to be left alone for a while (429)."""
        if self._over:
            return
        now = self._clock()
        self._end(now)
        self._standing.counts.limited += 1
        self._blame(news=self._standing.breaker.limited(self._epoch, now, retry_after_s))

    def left(self) -> None:
        """It ended through no doing of the deployment's."""
        if self._over:
            return
        self._end(self._clock())
        self._standing.counts.left += 1
        if self.probe:
            self._standing.breaker.left(self._epoch)

    def _blame(self, *, news: bool) -> None:
        """Probes are free, as the breaker sees to it that they are few; so are attempts that were under way when it cut
        the deployment off, or the fall of one under load would use up the budget of its whole model."""
        self.blamed = True
        if self._paid and news and not self.probe:
            self._budget.attempt_failed()

    def _measure(self, now: float) -> None:
        self._waiting = False
        latency = self._latency
        took = now - self._began
        latency.ended(self._began)
        latency.measured(took, now)
        self._standing.counts.latency.add(took * 1000)

    def _end(self, now: float) -> None:
        self._over = True
        self._standing.in_flight -= 1
        if self._waiting:
            self._waiting = False
            self._latency.ended(self._began)
            self._latency.lasted(now - self._began, now)


class Board:
    """What this process knows of all deployments, by id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random) -> None:
        self.clock = clock
        self.draw = draw
        self.standings: dict[str, Standing] = {}
        self._budgets: dict[str, RetryBudget] = {}

    def standing(self, deployment_id: str, model: str, name: str) -> Standing:
        """That of a deployment which need not have been seen before."""
        found = self.standings.get(deployment_id)
        if found is None:
            found = Standing(Breaker(self.draw), metrics.upstream(model, name))
            self.standings[deployment_id] = found
        return found

    def budget(self, model: str) -> RetryBudget:
        found = self._budgets.get(model)
        if found is None:
            found = self._budgets[model] = RetryBudget(metrics.retries(model), self.clock)
        return found

    def keep(self, names: Mapping[str, tuple[str, str]]) -> None:
        """Forget deployments that are no more; ``names`` has model and name of those that are, by id."""
        for deployment_id, standing in list(self.standings.items()):
            if deployment_id in names:
                standing.counts = metrics.upstream(*names[deployment_id])
                standing.counts.cut_off = int(standing.breaker.state(self.clock()) is not State.CLOSED)
            elif not standing.in_flight:
                standing.counts.cut_off = 0
                del self.standings[deployment_id]
        models = {model for model, _ in names.values()}
        self._budgets = {model: budget for model, budget in self._budgets.items() if model in models}


board = Board()
