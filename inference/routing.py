"""Which deployment to try next. Pure decision code.

Nothing is decided ahead: each ``next`` chooses by the health of that moment, which hundreds of other requests may have
changed since the last. docs/routing.md tells the whole of it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inference.health import Board, Latency, Trial
from inference.providers.adapter import Operation

if TYPE_CHECKING:  # it reads PostgreSQL
    from inference.catalogue import Deployment, Model


class Route:
    """The way of one request through the deployments of its model, and then of that model's fallbacks.

    ``model`` is the one whose deployment was handed out last.
    """

    __slots__ = ("_board", "_budget", "_models", "_operation", "_paid", "_stream", "_trial", "_tried", "model")

    def __init__(self, models: "Sequence[Model]", operation: Operation, board: Board, *, stream: bool) -> None:
        self.model = models[0]
        self._models = models
        self._operation = operation
        self._board = board
        self._stream = stream
        self._budget = board.budget(self.model.name)
        self._tried: tuple[Deployment, ...] = ()
        self._trial: Trial | None = None
        self._paid = False  # by the budget, should it fail: a retry, or a last resort

    def next(self) -> "Deployment | None":
        """The deployment to try now; None when there is none left, or retries have used up their budget."""
        owed = False  # to who tried one out for everybody
        if self._trial is not None and self._trial.blamed:
            self._paid = True
            owed = self._trial.probe
        for model in self._models:
            found = self._choose(model)
            if found is not None:
                break
        else:
            model, found = self._last_resort()
            if found is None:
                return None
            self._paid = True
            owed = False
        if self._paid and not self._budget.take(owed=owed):
            return None
        self.model = model
        return found

    def begin(self, deployment: "Deployment") -> Trial:
        """Whole answers are timed to their end even where a deployment makes them out of a stream: each model's
        deployments are compared by the same measure."""
        self._tried += (deployment,)
        board = self._board
        standing = board.standings.get(deployment.id) or board.standing(deployment.id, self.model.name, deployment.name)
        self._trial = Trial(standing, self._budget, board.clock, stream=self._stream, paid=self._paid)
        return self._trial

    @property
    def has_more(self) -> bool:
        """Whether there are deployments that were not tried: cut off, and nobody paid for trying them."""
        return any(
            self._operation in deployment.adapter.operations and deployment not in self._tried
            for model in self._models
            for deployment in model.deployments
        )

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a deployment may be tried again, if all are cut off."""
        now = self._board.clock()
        waits = [
            standing.breaker.wait_s(now)
            for model in self._models
            for deployment in model.deployments
            if self._operation in deployment.adapter.operations
            and (standing := self._board.standings.get(deployment.id)) is not None
        ]
        return max(1, math.ceil(min(waits, default=0.0)))

    def _choose(self, model: "Model") -> "Deployment | None":
        """One of the model's best priority that may be asked: its healthy ones first if this is a retry already, as
        nobody need be the one who tries out two."""
        candidates: list[Deployment] = []
        for deployment in model.deployments:
            if (
                (not candidates or deployment.priority <= candidates[0].priority)
                and self._operation in deployment.adapter.operations
                and deployment not in self._tried
                and self._may_be_asked(deployment)
            ):
                if candidates and deployment.priority < candidates[0].priority:
                    candidates.clear()
                candidates.append(deployment)
        if self._paid and len(candidates) > 1:
            candidates = [each for each in candidates if self._is_well(each)] or candidates
        if len(candidates) <= 1:
            return candidates[0] if candidates else None
        now = self._board.clock()
        if model.least_latency:
            return self._fastest(candidates, now)
        return self._by_weight([each for each in candidates if not self._stalls(each, now)] or candidates)

    def _last_resort(self) -> "tuple[Model, Deployment | None]":
        """All that is left is cut off, each since a moment of its own, and one may be well by now: the one that has not
        failed for longest, so that each that fails makes way for another. A model with a single deployment has nothing
        to find out, and waits."""
        for model in self._models:
            left = [
                each
                for each in model.deployments
                if self._operation in each.adapter.operations and each not in self._tried
            ]
            if left and len(left) + len(self._tried) > 1:
                return model, min(left, key=lambda each: self._board.standings[each.id].breaker.failed_at)
        return self.model, None

    def _may_be_asked(self, deployment: "Deployment") -> bool:
        standing = self._board.standings.get(deployment.id)
        return standing is None or standing.breaker.cut_off is None or standing.breaker.allows(self._board.clock())

    def _is_well(self, deployment: "Deployment") -> bool:
        standing = self._board.standings.get(deployment.id)
        return standing is None or standing.breaker.cut_off is None

    def _by_weight(self, candidates: "list[Deployment]") -> "Deployment":
        drawn = self._board.draw() * sum(each.weight for each in candidates)
        for each in candidates:
            drawn -= each.weight
            if drawn < 0:
                return each
        return candidates[-1]

    def _fastest(self, candidates: "list[Deployment]", now: float) -> "Deployment":
        """The exact minimum: groups are small, and everything it takes is in this process."""
        return min(candidates, key=lambda each: (self._cost(each, now), self._board.draw()))

    def _cost(self, deployment: "Deployment", now: float) -> float:
        latency = self._latency(deployment)
        return 0.0 if latency is None else latency.cost(now)

    def _stalls(self, deployment: "Deployment", now: float) -> bool:
        latency = self._latency(deployment)
        return latency is not None and latency.stalls(now)

    def _latency(self, deployment: "Deployment") -> Latency | None:
        standing = self._board.standings.get(deployment.id)
        if standing is None:
            return None
        return standing.streamed if self._stream else standing.whole
