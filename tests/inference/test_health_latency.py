"""How long a deployment takes, as least-latency routing sees it."""

import pytest

from inference.health import STALE_S, UNKNOWN_S, Board, Latency
from tests.inference.routing_world import World, deployment, model


@pytest.fixture
def world() -> World:
    return World(model(deployment("a")))


def latency(world: World, *, stream: bool = True) -> Latency:
    standing = world.board.standings["id-a"]
    return standing.streamed if stream else standing.whole


def test_the_first_measurement_is_the_average_and_later_ones_move_it(world):
    world.answer("a", 1.0)
    assert latency(world).average_s == pytest.approx(1.0)
    world.answer("a", 2.0)
    assert latency(world).average_s == pytest.approx(1.2)


def test_a_stream_is_timed_to_its_first_token_and_a_whole_answer_to_its_end(world):
    for stream in (True, False):
        trial = world.begin("a", stream=stream)
        world.now += 0.2
        trial.first_token()
        world.now += 3
        trial.first_token()
        trial.answered()
    assert latency(world).average_s == pytest.approx(0.2)
    assert latency(world, stream=False).average_s == pytest.approx(3.2)
    assert world.board.standings["id-a"].latency_s == pytest.approx(0.2)


def test_a_refusal_is_no_measurement(world):
    world.answer("a", 1.0, stream=False)
    for stream in (True, False):
        world.begin("a", stream=stream).refused()
    assert latency(world, stream=False).average_s == pytest.approx(1.0)
    assert latency(world).average_s is None
    assert world.board.standings["id-a"].in_flight == 0


def test_one_that_stalls_costs_more_the_longer_it_does(world):
    world.answer("a", 0.1)
    waiting = [world.begin("a"), world.begin("a")]
    before = latency(world).cost(world.now)
    world.now += 20
    assert before == pytest.approx(0.1 * 3)
    assert latency(world).cost(world.now) == pytest.approx(20 * 3)
    for trial in waiting:
        trial.left()
    assert (latency(world).average_s or 0) > 4  # the wait of those who left counts too


def test_a_quick_refusal_makes_it_look_no_faster(world):
    world.begin("a").failed("connection refused")
    world.begin("a").limited()
    assert latency(world).average_s is None
    world.answer("a", 2.0)
    world.begin("a").failed("connection refused")
    assert latency(world).average_s == pytest.approx(2.0)


def test_what_was_measured_long_ago_fades_until_one_request_measures_it_again(world):
    world.answer("a", 2.0)
    world.now += STALE_S * 3
    assert latency(world).cost(world.now) < 0.11
    measuring = world.begin("a")
    assert latency(world).cost(world.now) == pytest.approx(2.0 * 2)
    measuring.left()


def test_nothing_is_known_of_one_that_was_never_asked(world):
    world.begin("a").left()
    assert latency(world).cost(world.now) == 0
    world.begin("a")
    assert latency(world).cost(world.now) == pytest.approx(UNKNOWN_S * 2)


def test_recent_requests_are_those_of_the_last_minutes():
    now = 0.0
    board = Board(clock=lambda: now)
    standing = board.standing("id", "model", "a")
    standing.requests, standing.failures = 10, 4
    assert standing.recent(0) == (10, 4)
    standing.requests = 15
    assert standing.recent(299) == (15, 4)
    assert standing.recent(301) == (5, 0)
    standing.requests = 16
    assert standing.recent(600) == (6, 0)
    assert standing.recent(602) == (1, 0)
