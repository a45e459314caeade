"""A model, a board with a clock of its own, and routes over them, for what decides without a network."""

import random
from types import SimpleNamespace
from typing import Any

from inference.catalogue import Deployment, Model
from inference.health import Board, Trial
from inference.providers.adapter import Operation
from inference.routing import Route

ADAPTER: Any = SimpleNamespace(operations=frozenset({Operation.CHAT}))


def deployment(name: str, *, priority: int = 0, weight: int = 1, adapter: Any = ADAPTER) -> Deployment:
    return Deployment(f"id-{name}", name, "provider", "upstream", adapter, priority=priority, weight=weight)


def model(*deployments: Deployment, name: str = "model", least_latency: bool = False) -> Model:
    return Model(name, "owner", 0, None, deployments, least_latency=least_latency)


class World:
    def __init__(self, *models: Model, seed: int = 1) -> None:
        self.now = 1_000.0
        self.models = list(models)
        self.board = Board(clock=lambda: self.now, draw=random.Random(seed).random)

    def route(self, *, stream: bool = True) -> Route:
        return Route(self.models, Operation.CHAT, self.board, stream=stream)

    def begin(self, name: str, *, stream: bool = True, paid: bool = False) -> Trial:
        """An attempt at the deployment of that name, whatever routing thinks of it."""
        standing = self.board.standing(f"id-{name}", self.models[0].name, name)
        return Trial(standing, self.board.budget(self.models[0].name), self.board.clock, stream=stream, paid=paid)

    def fail(self, *names: str, times: int = 5) -> None:
        for name in names:
            for _ in range(times):
                self.begin(name).failed("status 500")

    def answer(self, name: str, after_s: float, *, stream: bool = True) -> None:
        trial = self.begin(name, stream=stream)
        self.now += after_s
        trial.first_token()
        trial.answered()

    def walk(self) -> list[str]:
        """The deployments that one request tries, if none of them answers and none is to blame."""
        route = self.route()
        tried = []
        while (found := route.next()) is not None:
            tried.append(found.name)
            route.begin(found).left()
        return tried


def handed_out(route: Route) -> Deployment:
    found = route.next()
    assert found is not None
    return found
