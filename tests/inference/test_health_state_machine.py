"""Whatever happens in whatever order, a breaker and its attempts keep their promises."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helixflow.lib.metrics import Upstream
from inference import breaker as rules
from inference.breaker import Breaker, State
from inference.budget import FULL, RetryBudget
from inference.health import Standing, Trial

WAITS = st.one_of(st.none(), st.floats(0, 1_000))


class Deployments(RuleBasedStateMachine):
    """One deployment, attempts that begin and end anyhow, other processes that tell of it."""

    @initialize(draw=st.floats(0, 1, exclude_max=True))
    def start(self, draw: float) -> None:
        self.now = 500.0
        self.breaker = Breaker(draw=lambda: draw)
        self.standing = Standing(self.breaker, Upstream())
        self.budget = RetryBudget()
        self.under_way: list[Trial] = []
        self.begun = 0

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.allows(self.now))
    @rule(stream=st.booleans(), paid=st.booleans())
    def begin(self, stream: bool, paid: bool) -> None:
        self.under_way.append(Trial(self.standing, self.budget, lambda: self.now, stream=stream, paid=paid))
        self.begun += 1

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.under_way)).first_token()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["answered", "failed", "limited", "left"]), wait_s=WAITS)
    def end(self, data: st.DataObject, how: str, wait_s: float | None) -> None:
        trial = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(trial)
        match how:
            case "answered":
                trial.answered()
            case "failed":
                trial.failed("status 500", wait_s)
            case "limited":
                trial.limited(wait_s)
            case "left":
                trial.left()
        assert trial.blamed == (how in {"failed", "limited"})
        before = self.seen()
        trial.answered()  # the first word counts
        trial.failed("again", 300)
        trial.left()
        assert self.seen() == before

    @rule(
        state=st.sampled_from([State.OPEN, State.LIMITED, State.CLOSED]),
        wait_s=st.floats(0, 300),
        level=st.integers(0, 9),
    )
    def news(self, state: State, wait_s: float, level: int) -> None:
        self.breaker.adopt(state, self.now, until=self.now + wait_s, level=level, reason="told")
        assert not self.breaker.unsaid
        assert (self.breaker.cut_off is None) == (state is State.CLOSED)

    @rule()
    def closed_by_hand(self) -> None:
        self.breaker.close(self.now)
        assert self.breaker.state(self.now) is State.CLOSED
        assert self.breaker.level == 0

    @precondition(lambda self: self.breaker.cut_off is None)
    @rule()
    def failures_in_a_row_open_it(self) -> None:
        for _ in range(rules.FAILURES_IN_A_ROW):
            self.begin(stream=True, paid=False)
            self.under_way.pop().failed("status 500")
        assert not self.breaker.allows(self.now)

    @invariant()
    def it_comes_back(self) -> None:
        """Nothing can keep it away for ever: not a lost probe, not a huge Retry-After."""
        wait_s = self.breaker.wait_s(self.now)
        assert 0 <= wait_s <= rules.LONGEST_ASKED_S * (1 + rules.JITTER)
        assert self.breaker.allows(self.now + wait_s + 0.001)

    @invariant()
    def state_and_leave_agree(self) -> None:
        state = self.breaker.state(self.now)
        if state is State.CLOSED:
            assert self.breaker.allows(self.now)
        if state in {State.OPEN, State.LIMITED}:
            assert not self.breaker.allows(self.now)

    @invariant()
    def counts_agree(self) -> None:
        counts, standing = self.standing.counts, self.standing
        assert standing.in_flight == len(self.under_way)
        assert standing.requests == self.begun
        assert counts.answered + counts.failed + counts.limited + counts.left == self.begun - len(self.under_way)
        assert 0 <= standing.streamed.waiting + standing.whole.waiting <= len(self.under_way)
        assert standing.streamed.cost(self.now) >= 0
        assert standing.whole.cost(self.now) >= 0

    @invariant()
    def the_budget_stays_within_bounds(self) -> None:
        assert 0 <= self.budget._left <= FULL

    def seen(self) -> tuple[object, ...]:
        counts = self.standing.counts
        return (
            *(counts.answered, counts.failed, counts.limited, counts.left, self.standing.in_flight),
            *(self.breaker.epoch, self.breaker.until, self.budget._left),
        )


TestDeployments = Deployments.TestCase
TestDeployments.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
