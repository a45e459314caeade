"""Which deployments to try, in which order. Pure decision code."""

import random
from collections.abc import Iterable
from itertools import groupby
from typing import Protocol, TypeVar


class Choice(Protocol):
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> int: ...


C = TypeVar("C", bound=Choice)


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
