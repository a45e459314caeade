"""Which deployment is tried, and which next."""

from collections import Counter
from types import SimpleNamespace

import pytest

from inference.breaker import OPEN_S
from inference.budget import EARNED, FULL, PER_SECOND, RetryBudget
from inference.providers.adapter import Operation
from tests.inference.routing_world import World, deployment, handed_out, model


@pytest.fixture
def tiers() -> World:
    """Two of the first priority, one of the second, and a fallback model with one."""
    own = model(deployment("spare", priority=1), deployment("a"), deployment("b"))
    return World(own, model(deployment("other"), name="fallback"))


def test_priorities_come_in_order_and_fallback_models_last(tiers):
    for _ in range(20):
        first, second, *rest = tiers.walk()
        assert {first, second} == {"a", "b"}
        assert rest == ["spare", "other"]


def test_the_model_is_that_of_the_deployment_handed_out_last(tiers):
    route = tiers.route()
    names = [route.model.name]
    while (found := route.next()) is not None:
        route.begin(found).left()
        names.append(route.model.name)
    assert names == ["model", "model", "model", "model", "fallback"]


def test_the_first_choice_has_the_shares_of_the_weights():
    world = World(model(deployment("a", weight=1), deployment("b", weight=2), deployment("c", weight=7)))
    chosen = Counter(world.walk()[0] for _ in range(20_000))
    assert [chosen[name] / 20_000 for name in "abc"] == pytest.approx([0.1, 0.2, 0.7], abs=0.01)


def test_those_left_share_what_one_that_is_cut_off_had():
    world = World(model(deployment("a", weight=1), deployment("b", weight=3), deployment("c", weight=6)))
    world.fail("c")
    chosen = Counter(world.walk()[0] for _ in range(20_000))
    assert [chosen[name] / 20_000 for name in "abc"] == pytest.approx([0.25, 0.75, 0], abs=0.01)


def test_the_next_priority_answers_while_all_of_the_first_are_cut_off(tiers):
    tiers.fail("a", "b")
    assert handed_out(tiers.route()).name == "spare"
    tiers.fail("spare")
    route = tiers.route()
    assert (handed_out(route).name, route.model.name) == ("other", "fallback")


def test_the_choice_is_made_with_the_health_of_that_moment():
    world = World(model(deployment("a"), deployment("b", priority=1), deployment("c", priority=2)))
    route = world.route()
    route.begin(handed_out(route)).failed("status 500")
    world.fail("b")
    assert handed_out(route).name == "c"


def test_what_an_adapter_cannot_do_is_not_asked_of_it():
    embedding = SimpleNamespace(operations=frozenset({Operation.EMBEDDING}))
    world = World(model(deployment("a", adapter=embedding), deployment("b")))
    assert world.walk() == ["b"]
    alone = World(model(deployment("a", adapter=embedding)))
    assert alone.walk() == []
    assert alone.route().retry_after_s == 1


def test_one_deployment_that_is_cut_off_is_not_asked_until_its_time():
    world = World(model(deployment("a")))
    world.begin("a").failed("status 503", 30)
    route = world.route()
    assert route.next() is None
    assert 30 <= route.retry_after_s <= 33
    world.now += 33
    assert world.walk() == ["a"]


def test_callers_are_told_when_the_first_comes_back():
    world = World(model(deployment("a")), model(deployment("b"), name="fallback"))
    world.begin("a").limited(50)
    world.begin("b").limited(20)
    assert 20 <= world.route().retry_after_s <= 22


def test_a_probe_goes_to_one_caller_at_a_time():
    world = World(model(deployment("a"), deployment("b", priority=1)))
    world.fail("a")
    world.now += OPEN_S * 1.1
    first, second = world.route(), world.route()
    probe = first.begin(handed_out(first))
    assert handed_out(second).name == "b"
    probe.answered()
    assert handed_out(world.route()).name == "a"


def test_a_caller_whose_probe_fails_falls_on_to_the_next():
    world = World(model(deployment("a"), deployment("b", priority=1)))
    world.fail("a")
    world.now += OPEN_S * 1.1
    route = world.route()
    route.begin(handed_out(route)).failed("status 500")
    assert handed_out(route).name == "b"


def test_who_has_failed_once_is_sent_to_one_that_is_well():
    world = World(model(deployment("a"), deployment("b"), deployment("c")))
    for _ in range(50):
        world.fail("b", times=5)
        world.now += 400
        route = world.route()
        while (first := handed_out(route)).name != "a":
            route = world.route()
        route.begin(first).failed("status 500")
        assert handed_out(route).name == "c"
        world.begin("a").answered()
        world.begin("b").answered()


@pytest.mark.parametrize("answers", [False, True])
def test_one_that_stalls_gets_nothing_while_another_is_there(answers):
    world = World(model(deployment("a"), deployment("b")))
    world.answer("a", 0.5)
    for _ in range(3):
        world.begin("a")
    world.now += 6
    if answers:
        world.answer("a", 0.5)
    chosen = {handed_out(world.route()).name for _ in range(50)}
    assert chosen == ({"a", "b"} if answers else {"b"})


def test_if_all_stall_all_are_asked():
    world = World(model(deployment("a"), deployment("b")))
    for _ in range(3):
        world.begin("a")
        world.begin("b")
    world.now += 6
    assert {handed_out(world.route()).name for _ in range(50)} == {"a", "b"}


# Least latency


@pytest.fixture
def fast_and_slow() -> World:
    world = World(model(deployment("fast"), deployment("slow"), least_latency=True))
    world.answer("fast", 0.2)
    world.answer("slow", 2.0)
    return world


def test_the_fastest_is_chosen(fast_and_slow):
    assert {fast_and_slow.walk()[0] for _ in range(20)} == {"fast"}


def test_one_that_stalls_is_left_before_anything_fails(fast_and_slow):
    for _ in range(3):
        fast_and_slow.begin("fast")
    fast_and_slow.now += 1
    assert handed_out(fast_and_slow.route()).name == "slow"


def test_an_idle_one_is_measured_again_by_one_request(fast_and_slow):
    for _ in range(1_000):
        fast_and_slow.answer("fast", 0.2)
        if handed_out(fast_and_slow.route()).name == "slow":
            break
    else:
        pytest.fail("it was never measured again")
    measuring = fast_and_slow.begin("slow")
    assert {handed_out(fast_and_slow.route()).name for _ in range(20)} == {"fast"}
    fast_and_slow.now += 0.05
    measuring.first_token()  # it became the faster one
    fast_and_slow.answer("slow", 0.05)
    for _ in range(10):
        fast_and_slow.answer("slow", 0.05)
        fast_and_slow.answer("fast", 0.2)
    assert handed_out(fast_and_slow.route()).name == "slow"


def test_a_new_one_is_tried_at_once_by_one_request(fast_and_slow):
    fast_and_slow.models[0] = model(deployment("fast"), deployment("slow"), deployment("new"), least_latency=True)
    route = fast_and_slow.route()
    found = handed_out(route)
    assert found.name == "new"
    route.begin(found)
    assert handed_out(fast_and_slow.route()).name == "fast"


def test_whole_answers_are_compared_with_whole_answers(fast_and_slow):
    fast_and_slow.answer("fast", 9.0, stream=False)
    fast_and_slow.answer("slow", 3.0, stream=False)
    assert handed_out(fast_and_slow.route(stream=False)).name == "slow"
    assert handed_out(fast_and_slow.route(stream=True)).name == "fast"


def test_all_new_ones_share_the_first_burst():
    world = World(model(*(deployment(name) for name in "abc"), least_latency=True))
    begun = Counter[str]()
    for _ in range(30):
        route = world.route()
        found = handed_out(route)
        route.begin(found)
        begun[found.name] += 1
    assert set(begun.values()) == {10}


# The budget


def test_retries_that_fail_use_it_up_and_answered_first_attempts_fill_it():
    budget = RetryBudget()
    for _ in range(int(FULL)):
        assert budget.take()
        budget.attempt_failed()
    assert not budget.take()
    for _ in range(int(1 / EARNED) + 1):
        budget.first_answered()
    assert budget.take()
    for _ in range(10_000):
        budget.first_answered()
    assert budget._left == FULL
    assert (budget.counts.made, budget.counts.refused) == (FULL + 1, 1)


def test_an_empty_budget_leaves_one_attempt():
    world = World(model(deployment("a"), deployment("b")))
    budget = world.board.budget("model")
    for _ in range(int(FULL)):
        budget.attempt_failed()
    route = world.route()
    route.begin(handed_out(route)).failed("status 500")
    assert route.next() is None


def test_a_caller_whose_probe_fails_falls_on_even_with_an_empty_budget():
    world = World(model(deployment("a"), *(deployment(name, priority=1) for name in "bc")))
    world.fail("a")
    for _ in range(int(FULL)):
        world.board.budget("model").attempt_failed()
    world.now += 3
    route = world.route()
    route.begin(handed_out(route)).failed("status 500")
    route.begin(handed_out(route)).failed("status 500")
    assert route.next() is None  # that one was no probe


def test_a_last_resort_is_not_owed_to_a_caller_whose_probe_fails():
    world = World(model(deployment("a"), deployment("b")))
    world.fail("a")
    world.now += 1
    world.fail("b")
    for _ in range(int(FULL)):
        world.board.budget("model").attempt_failed()
    world.now += 1.3  # a may be probed, b not yet
    route = world.route()
    first = handed_out(route)
    assert first.name == "a"
    route.begin(first).failed("status 500")
    assert route.next() is None


def test_an_empty_budget_fills_with_time():
    now = 1_000.0
    budget = RetryBudget(clock=lambda: now)
    for _ in range(int(FULL)):
        budget.attempt_failed()
    assert not budget.take()
    now += 1 / PER_SECOND + 0.001
    assert budget.take()
    budget.attempt_failed()
    assert not budget.take()
    now += 100_000
    assert budget.take()
    assert budget._left == FULL


def test_one_that_cannot_be_asked_costs_no_retry():
    world = World(model(deployment("a"), deployment("b")))
    for _ in range(int(FULL)):
        world.board.budget("model").attempt_failed()
    assert len(world.walk()) == 2


def test_what_was_under_way_as_it_was_cut_off_is_paid_once():
    world = World(model(deployment("a")))
    trials = [world.begin("a", paid=True) for _ in range(300)]
    for trial in trials:
        trial.failed("status 500")
    assert world.board.budget("model")._left == FULL - 5


# All cut off


def test_the_one_that_has_not_failed_for_longest_is_asked_before_a_request_is_failed():
    world = World(model(deployment("a"), deployment("b"), deployment("c")))
    for name in "bca":
        world.fail(name)
        world.now += 0.1
    assert world.walk() == ["b", "c", "a"]


def test_it_is_closed_by_an_answer_and_makes_way_by_a_failure():
    world = World(model(deployment("a"), deployment("b")))
    world.fail("a")
    world.now += 0.1
    world.fail("b")
    world.now += 0.1
    route = world.route()
    route.begin(handed_out(route)).failed("status 500")
    found = handed_out(world.route())
    assert found.name == "b"
    world.route().begin(found).first_token()
    assert {world.walk()[0] for _ in range(20)} == {"b"}


def test_that_too_has_to_be_paid_for():
    world = World(model(deployment("a"), deployment("b")))
    world.fail("a", "b")
    attempts = 0
    for _ in range(1_000):
        route = world.route()
        while (found := route.next()) is not None:
            route.begin(found).failed("status 500")
            attempts += 1
    assert attempts <= FULL
    assert world.route().next() is None
    assert world.route().retry_after_s >= 1
