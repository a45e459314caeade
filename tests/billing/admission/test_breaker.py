"""The breaker, with a clock of the test's own."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.admission.breaker import ONE_S, Breaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(failures=5, window_s=10, pause_s=1, clock=clock)


def _open(breaker, clock):
    for _ in range(5):
        clock.now += 2 * ONE_S
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_open


def test_it_lets_everything_through_while_things_work(breaker):
    for _ in range(1000):
        assert breaker.allows()
        breaker.succeeded()
    assert not breaker.is_open


def test_five_failures_within_the_window_open_it(breaker, clock):
    for _ in range(4):
        breaker.failed()
        clock.now += 2.5
    assert breaker.allows()
    breaker.failed()  # exactly 10 s after the first
    assert breaker.is_open
    assert not breaker.allows()


def test_failures_further_apart_do_not(breaker, clock):
    for _ in range(50):
        breaker.failed()
        clock.now += 2.6
        assert breaker.allows()


def test_failures_at_once_are_one(breaker, clock):
    """All who waited for a Redis that paused fail together; that it paused once is no reason to do without it."""
    for _ in range(100):
        breaker.failed()
    clock.now += 2 * ONE_S
    for _ in range(100):
        breaker.failed()
    assert not breaker.is_open


def test_successes_in_between_do_not_hide_failures(breaker, clock):
    for _ in range(5):
        assert not breaker.is_open
        clock.now += 2 * ONE_S
        breaker.failed()
        breaker.succeeded()
    assert breaker.is_open


def test_one_probe_goes_through_after_each_pause(breaker, clock):
    _open(breaker, clock)
    clock.now += 0.99
    assert not breaker.allows()
    clock.now += 0.01
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 0.99
    assert not breaker.allows()
    clock.now += 0.01
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_the_pause_begins_when_the_probe_fails(breaker, clock):
    _open(breaker, clock)
    clock.now += 1
    assert breaker.allows()
    clock.now += 0.5
    breaker.failed()
    clock.now += 0.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()


def test_a_probes_success_closes_it_and_forgets_the_failures(breaker, clock):
    _open(breaker, clock)
    clock.now += 1
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    for _ in range(4):
        breaker.failed()
    assert breaker.allows()


def test_calls_that_were_under_way_change_nothing(breaker, clock):
    _open(breaker, clock)
    clock.now += 0.9
    breaker.failed()
    breaker.succeeded()
    assert breaker.is_open
    clock.now += 0.1
    assert breaker.allows()


def test_a_probe_that_never_reports_is_followed_by_another(breaker, clock):
    _open(breaker, clock)
    clock.now += 1
    assert breaker.allows()
    clock.now += 1
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open


def test_it_opens_again_after_it_closed(breaker, clock):
    _open(breaker, clock)
    clock.now += 1
    assert breaker.allows()
    breaker.succeeded()
    _open(breaker, clock)
    assert not breaker.allows()


def test_threads_that_ask_at_once_get_one_probe(breaker, clock, monkeypatch):
    _open(breaker, clock)
    clock.now += 1

    def slow(self):
        time.sleep(0.001)  # others get their turn between reading the clock and deciding
        return self.now

    monkeypatch.setattr(Clock, "__call__", slow)
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: breaker.allows(), range(8))) == 1
