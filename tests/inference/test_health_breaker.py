"""When a deployment is cut off, for how long, and what lets it in again."""

import pytest

from inference import breaker as rules
from inference.breaker import Breaker, State


class Line:
    """A breaker and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.breaker = Breaker(draw=lambda: 0.0)

    def state(self) -> State:
        return self.breaker.state(self.now)

    def allows(self) -> bool:
        return self.breaker.allows(self.now)

    def begin(self) -> int:
        self.breaker.begin(self.now)
        return self.breaker.epoch

    def ok(self) -> None:
        self.breaker.succeeded(self.begin(), self.now)

    def fail(self, times: int = 1, retry_after_s: float | None = None) -> None:
        for _ in range(times):
            self.breaker.failed(self.begin(), self.now, "status 500", retry_after_s)

    def limit(self, retry_after_s: float | None = None) -> None:
        self.breaker.limited(self.begin(), self.now, retry_after_s)

    def wait_out(self) -> float:
        """Until it may be tried again; returns how long that was."""
        waited = self.breaker.wait_s(self.now)
        self.now = self.breaker.until
        return waited


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def opened(line: Line) -> Line:
    line.fail(rules.FAILURES_IN_A_ROW)
    return line


def test_a_new_one_is_closed(line):
    assert line.state() is State.CLOSED
    assert line.allows()
    assert line.breaker.wait_s(line.now) == 0


def test_failures_in_a_row_open_it(line):
    line.fail(rules.FAILURES_IN_A_ROW - 1)
    assert line.state() is State.CLOSED
    line.fail()
    assert line.state() is State.OPEN
    assert not line.allows()
    assert line.breaker.reason == "status 500"


def test_a_success_between_them_starts_the_row_over(line):
    for _ in range(3):
        line.fail(rules.FAILURES_IN_A_ROW - 1)
        line.ok()
    assert line.state() is State.CLOSED


def test_half_of_the_requests_failing_opens_it(line):
    for _ in range(rules.WINDOW_REQUESTS // 2 - 1):
        line.ok()
        line.fail()
    line.ok()
    assert line.state() is State.CLOSED
    line.fail()
    assert line.state() is State.OPEN


def test_a_third_of_them_does_not(line):
    for _ in range(100):
        line.ok()
        line.ok()
        line.fail()
    assert line.state() is State.CLOSED


def test_failures_of_long_ago_are_forgotten(line):
    for _ in range(9):
        line.fail(2)
        line.ok()
    line.now += rules.WINDOW_S + 1
    line.fail()
    line.ok()
    line.fail()
    assert line.state() is State.CLOSED


def test_what_lies_a_moment_back_is_not_forgotten_as_the_window_turns(line):
    for _ in range(9):
        line.ok()
        line.fail()
    line.now += rules.WINDOW_S / 2
    line.ok()
    line.fail()
    assert line.state() is State.OPEN


def test_after_its_time_one_probe_may_go(opened):
    assert opened.wait_out() == rules.OPEN_S
    assert opened.state() is State.HALF_OPEN
    assert opened.allows()
    opened.begin()
    assert not opened.allows()


def test_a_probe_that_lasts_makes_room_for_another(opened):
    opened.wait_out()
    opened.begin()
    assert opened.breaker.wait_s(opened.now) == rules.PATIENCE_S
    opened.now += rules.PATIENCE_S
    assert opened.allows()


def test_a_probe_that_ended_without_a_word_makes_room_at_once(opened):
    opened.wait_out()
    opened.breaker.left(opened.begin())
    assert opened.allows()


def test_a_probe_that_is_answered_closes_it_and_all_is_forgotten(opened):
    opened.wait_out()
    opened.ok()
    assert opened.state() is State.CLOSED
    opened.fail(rules.FAILURES_IN_A_ROW - 1)
    assert opened.state() is State.CLOSED
    opened.fail()
    assert opened.wait_out() == rules.OPEN_S


def test_each_probe_that_fails_doubles_the_time_up_to_a_limit(opened):
    waits = []
    for _ in range(8):
        waits.append(opened.wait_out())
        opened.fail()
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_probe_s_first_token_lets_others_in_on_probation(opened):
    opened.wait_out()
    epoch = opened.breaker.produced(opened.begin(), opened.now)
    assert opened.state() is State.CLOSED
    opened.breaker.failed(epoch, opened.now, "broke off")
    assert opened.wait_out() == rules.OPEN_S * 2


def test_a_probe_s_whole_answer_ends_the_probation(opened):
    opened.wait_out()
    epoch = opened.breaker.produced(opened.begin(), opened.now)
    opened.breaker.succeeded(epoch, opened.now)
    opened.fail(rules.FAILURES_IN_A_ROW - 1)
    assert opened.state() is State.CLOSED


def test_what_began_before_it_opened_says_nothing(line):
    before = line.begin()
    line.fail(rules.FAILURES_IN_A_ROW)
    line.breaker.succeeded(before, line.now)
    assert line.state() is State.OPEN
    until = line.breaker.until
    assert not line.breaker.failed(before, line.now, "late")
    assert not line.breaker.limited(before, line.now, 60)
    assert line.breaker.produced(before, line.now) == before
    assert (line.state(), line.breaker.until) == (State.OPEN, until)


def test_a_failure_that_names_a_time_cuts_it_off_for_that_long(line):
    line.fail(retry_after_s=17)
    assert line.state() is State.OPEN
    assert line.wait_out() == 17


def test_a_time_that_is_shorter_than_the_backoff_does_not_shorten_it(opened):
    opened.wait_out()
    opened.fail(retry_after_s=1)
    assert opened.wait_out() == rules.OPEN_S * 2


@pytest.mark.parametrize("cut_off", [Line.fail, Line.limit])
def test_nobody_is_left_alone_for_longer_than_five_minutes(line, cut_off):
    cut_off(line, retry_after_s=86_400)
    assert line.wait_out() == rules.LONGEST_ASKED_S


def test_a_limit_is_no_failure(line):
    line.fail(rules.FAILURES_IN_A_ROW - 1)
    line.limit(retry_after_s=7)
    assert line.state() is State.LIMITED
    assert not line.allows()
    assert line.wait_out() == 7
    assert line.state() is State.CLOSED
    assert line.allows()
    line.begin()
    assert line.allows()  # all may come, not one probe


def test_limits_without_a_time_last_longer_as_they_repeat(line):
    waits = []
    for _ in range(7):
        line.limit()
        waits.append(line.wait_out())
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    line.ok()
    line.limit()
    assert line.wait_out() == 1


def test_a_burst_of_limits_is_one(line):
    epochs = [line.begin() for _ in range(50)]
    news = [line.breaker.limited(epoch, line.now) for epoch in epochs]
    assert news == [True] + [False] * 49
    assert line.wait_out() == 1


def test_a_probe_that_meets_a_limit_shows_that_it_is_alive(opened):
    opened.wait_out()
    opened.limit(retry_after_s=3)
    assert opened.state() is State.LIMITED
    opened.wait_out()
    assert opened.state() is State.CLOSED
    opened.ok()
    assert opened.breaker.level == 0


def test_an_answer_before_its_time_is_over_closes_it(opened):
    opened.ok()
    assert opened.state() is State.CLOSED


def test_a_failure_before_its_time_is_over_changes_no_times(opened):
    until = opened.breaker.until
    opened.now += 1
    opened.fail()
    assert (opened.state(), opened.breaker.until, opened.breaker.failed_at) == (State.OPEN, until, opened.now)


def test_a_limit_lifted_before_its_time_is_told(line):
    line.limit(retry_after_s=60)
    line.breaker.unsaid = False
    line.ok()
    assert line.state() is State.CLOSED
    assert line.breaker.unsaid


def test_a_limit_that_is_over_is_not(line):
    line.limit(retry_after_s=60)
    line.breaker.unsaid = False
    line.wait_out()
    line.ok()
    assert not line.breaker.unsaid


def test_jitter_never_brings_it_back_too_early():
    breaker = Breaker(draw=lambda: 0.999)
    breaker.limited(breaker.epoch, 0.0, 10)
    assert 10 < breaker.until < 11
