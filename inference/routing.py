"""Which deployment to try next. Pure decision code."""

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol, TypeVar

from inference.catalogue import Deployment, Model
from inference.health import Board, Trial
from inference.providers.adapter import Operation


class Choice(Protocol):
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> int: ...


C = TypeVar("C", bound=Choice)


class Route:
    """The way of one request through the deployments of its model, and then of that model's fallbacks.

    ``model`` is the one whose deployment was handed out last.
    """

    def __init__(self, models: Sequence[Model], operation: Operation, board: Board, *, stream: bool) -> None:
        self.model = models[0]
        self._board = board
        self._stream = stream
        self._left = iter(
            [
                (model, deployment)
                for model in models
                for deployment in order(each for each in model.deployments if operation in each.adapter.operations)
            ]
        )

    def next(self) -> Deployment | None:
        """The deployment to try now; None when there is none left, or retries have used up their budget."""
        found = next(self._left, None)
        if found is None:
            return None
        self.model, deployment = found
        return deployment

    def begin(self, deployment: Deployment) -> Trial:
        return self._board.begin(deployment.id, stream=self._stream or deployment.stream_always)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a deployment may be tried again, if all are cut off."""
        return 1


def order(deployments: Iterable[C], rng: random.Random | None = None) -> list[C]:
    """Lowest priority number first; within one priority a weighted shuffle, so that the first gets its share.

    Each draws u**(1/weight) and the largest goes first: a weighted sample without replacement
    (Efraimidis and Spirakis, 2006).
    """
    choices = list(deployments)
    if len(choices) == 1:
        return choices
    draw = (rng or random).random
    ordered: list[C] = []
    for _, group in groupby(sorted(choices, key=lambda choice: choice.priority), key=lambda choice: choice.priority):
        ordered += sorted(group, key=lambda choice: draw() ** (1 / max(choice.weight, 1)), reverse=True)
    return ordered
