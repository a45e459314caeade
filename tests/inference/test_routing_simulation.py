"""Thousands of requests on a virtual clock over deployments that fail, crawl and refuse in turn.

Nobody may see an error that a deployment which was well could have prevented, and an outage may not be multiplied.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from inference.catalogue import Deployment
from inference.health import Trial
from tests.inference.routing_world import World, deployment, model

WELL, SLOW, FAILING, LIMITED, POLITE, HANGING = "well", "slow", "failing", "limited", "polite", "hanging"
TIMEOUT_S = 60.0
ROTATION = (FAILING, SLOW, LIMITED)

Modes = Callable[[str, float], str]


@dataclass
class Outcome:
    requests: int = 0
    attempts: int = 0
    most: int = 0  # attempts of one request
    errors: list[float] = field(default_factory=list)  # when they were met
    preventable: list[float] = field(default_factory=list)  # of those, who did not meet every deployment
    answered: Counter[str] = field(default_factory=Counter)


class Simulation:
    """``modes`` says how a deployment treats an attempt that reaches it at a time."""

    def __init__(self, world: World, modes: Modes, *, per_s: float, for_s: float, seed: int) -> None:
        self.world = world
        self.modes = modes
        self.outcome = Outcome()
        self._rng = random.Random(seed)
        self._order = count()
        self._began = world.now
        self._due: list[tuple[float, int, Iterator[float]]] = []
        at = 0.0
        while (at := at + self._rng.expovariate(per_s)) < for_s:
            self._schedule(at, self._request())

    def run(self) -> Outcome:
        while self._due:
            at, _, steps = heapq.heappop(self._due)
            self.world.now = self._began + at
            pause = next(steps, None)
            if pause is not None:
                self._schedule(at + pause, steps)
        return self.outcome

    def _schedule(self, at: float, steps: Iterator[float]) -> None:
        heapq.heappush(self._due, (at, next(self._order), steps))

    def _request(self) -> Iterator[float]:
        """Yields how long each of its steps lasts."""
        outcome, route = self.outcome, self.world.route()
        outcome.requests += 1
        attempts = 0
        while (found := route.next()) is not None:
            attempts += 1
            outcome.attempts += 1
            outcome.most = max(outcome.most, attempts)
            if (yield from self._attempt(route.begin(found), found)):
                outcome.answered[found.name] += 1
                return
        outcome.errors.append(self.world.now - self._began)
        if attempts < len(self.world.models[0].deployments):
            outcome.preventable.append(self.world.now - self._began)

    def _attempt(self, trial: Trial, found: Deployment) -> Generator[float, None, bool]:
        mode = self.modes(found.name, self.world.now - self._began)
        if mode in {WELL, SLOW}:
            yield self._rng.uniform(0.05, 0.2) if mode == WELL else self._rng.uniform(1, 3)
            trial.first_token()
            yield self._rng.uniform(0.2, 4)
            trial.answered()
            return True
        yield TIMEOUT_S if mode == HANGING else self._rng.uniform(0.005, 0.1)
        if mode == LIMITED:
            trial.limited(None)
        elif mode == POLITE:
            trial.limited(1.0)
        else:
            trial.failed("status 500")
        return False


def world(*, least_latency: bool = False, seed: int = 1) -> World:
    return World(model(*(deployment(name) for name in "abc"), least_latency=least_latency), seed=seed)


def in_turn(roles: tuple[str, ...], turn_s: float) -> Modes:
    return lambda name, at: roles[("abc".index(name) + int(at / turn_s)) % len(roles)]


def always(**modes: str) -> Modes:
    return lambda name, at: modes[name]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("least_latency", [False, True], ids=["by weight", "least latency"])
@pytest.mark.parametrize("per_s", [2, 20, 300], ids=["quiet", "busy", "hundreds in flight"])
@pytest.mark.parametrize("limited", [LIMITED, POLITE])
def test_as_they_take_turns_nobody_sees_an_error_that_could_be_prevented(per_s, least_latency, limited, seed):
    roles = tuple(limited if role == LIMITED else role for role in ROTATION)
    here = world(least_latency=least_latency, seed=seed)
    outcome = Simulation(here, in_turn(roles, 7.0), per_s=per_s, for_s=63, seed=seed).run()
    assert outcome.preventable == []
    assert len(outcome.errors) < 8  # who met one before a turn and the others after it, each in trouble
    assert outcome.requests > 50 * per_s
    assert set(outcome.answered) == {"a", "b", "c"}
    assert outcome.attempts / outcome.requests < (2 if per_s < 10 else 1.25)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bad", [FAILING, LIMITED, POLITE])
def test_one_of_three_that_falls_under_hundreds_in_flight_costs_no_request(bad, seed):
    def modes(name: str, at: float) -> str:
        return bad if name == "a" and at > 10 else SLOW

    outcome = Simulation(world(seed=seed), modes, per_s=300, for_s=40, seed=seed).run()
    assert outcome.errors == []
    assert outcome.attempts / outcome.requests < 1.05


def test_two_that_stay_down_cost_no_request_however_few_there_are():
    outcome = Simulation(world(), always(a=FAILING, b=FAILING, c=WELL), per_s=1 / 90, for_s=90 * 2_000, seed=1).run()
    assert outcome.requests > 1_900
    assert outcome.errors == []


def test_one_that_hangs_gets_less_and_less_of_the_traffic():
    outcome = Simulation(world(), always(a=HANGING, b=WELL, c=WELL), per_s=50, for_s=120, seed=1).run()
    assert outcome.errors == []
    assert outcome.attempts / outcome.requests < 1.05


def test_one_that_hangs_is_noticed_before_the_first_deadline_has_passed():
    modes = lambda name, at: HANGING if name == "a" and at > 30 else WELL  # noqa: E731  # one line each
    outcome = Simulation(world(), modes, per_s=50, for_s=30 + TIMEOUT_S, seed=1).run()
    assert outcome.errors == []
    assert outcome.attempts - outcome.requests < 300  # its share of a minute would be a thousand


def test_least_latency_avoids_one_that_hangs_before_it_has_failed():
    here = world(least_latency=True)
    modes = lambda name, at: HANGING if name == "a" and at > 30 else WELL  # noqa: E731  # one line each
    outcome = Simulation(here, modes, per_s=50, for_s=30 + TIMEOUT_S, seed=1).run()
    assert outcome.errors == []
    assert outcome.attempts - outcome.requests < 30


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bad", [FAILING, LIMITED, POLITE])
def test_an_outage_is_not_multiplied(bad, seed):
    outcome = Simulation(world(seed=seed), always(a=bad, b=bad, c=bad), per_s=100, for_s=120, seed=seed).run()
    assert outcome.answered.total() == 0
    assert outcome.attempts / outcome.requests < 0.2


def test_nor_is_one_that_is_never_bad_enough_to_open():
    """45% of all answers fail: the breakers stay closed, and only the budget holds retries back."""
    rng = random.Random(1)
    flaky = lambda name, at: FAILING if rng.random() < 0.45 else WELL  # noqa: E731  # one line each
    outcome = Simulation(world(), flaky, per_s=100, for_s=120, seed=1).run()
    assert outcome.attempts / outcome.requests < 1.2


def test_after_an_outage_all_is_as_before():
    def modes(name: str, at: float) -> str:
        return FAILING if 20 < at < 80 else WELL

    outcome = Simulation(world(), modes, per_s=100, for_s=240, seed=1).run()
    assert all(19 < at < 80 + 66 for at in outcome.errors)
    assert outcome.answered.total() > 100 * 90
