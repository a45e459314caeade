"""A deployment that fails behind the real gateway: left alone, told to all, let in again."""

import pytest

from inference import health, health_shared
from inference.breaker import FAILURES_IN_A_ROW, State
from inference.models import Deployment
from tests.factories import deploy
from tests.fakes.behaviours import Call, status
from tests.fakes.upstream import Upstream
from tests.helixflow.serving import wait_for


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """The board is the process's, and so would be its budgets."""
    monkeypatch.setattr(health.board, "standings", {})
    monkeypatch.setattr(health.board, "_budgets", {})


@pytest.fixture
def failing(upstream: Upstream) -> Upstream:
    async def down(call: Call) -> bool:
        await status(503, "Out of order.", "Retry-After: 40")(call)
        return True

    upstream.trouble = down
    return upstream


def state_of(deployment: Deployment) -> State:
    found = health_shared.shared().get(deployment.id.hex)
    return found.state if found else State.CLOSED


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_not_asked_again_before_its_time_and_callers_are_told_when(plane, deployment, failing, token, stream):
    answers = [plane.chat(token, stream=stream) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert len(failing.requests) == 1
    assert 35 <= int(answers[-1].headers["Retry-After"]) <= 44
    assert answers[-1].json()["error"]["code"] == "service_unavailable"


def test_failures_without_a_time_open_it_after_some_in_a_row(plane, deployment, upstream, token):
    upstream.script(*[status(500)] * 20)
    for _ in range(FAILURES_IN_A_ROW + 3):
        assert plane.chat(token).status_code == 503
    assert len(upstream.requests) == FAILURES_IN_A_ROW


def test_a_caller_s_own_mistakes_cut_nothing_off(plane, deployment, upstream, token):
    upstream.script(*[status(400)] * 10)
    assert [plane.chat(token).status_code for _ in range(10)] == [400] * 10
    assert plane.chat(token).status_code == 200


def test_another_deployment_answers_and_the_failing_one_is_left_alone(plane, deployment, failing, token):
    with Upstream() as well:
        deploy(well, name="second", priority=1)
        answers = [plane.chat(token) for _ in range(5)]
        assert [answer.headers["X-HelixFlow-Upstream"] for answer in answers] == ["second"] * 5
        assert len(failing.requests) == 1


def test_operators_see_it_and_can_let_it_in_again(plane, deployment, failing, token):
    plane.chat(token)
    wait_for(lambda: state_of(deployment) is State.OPEN)
    found = health_shared.shared()[deployment.id.hex]
    assert found.reason.startswith("status 503")
    failing.trouble = None
    assert plane.chat(token).status_code == 503
    assert health_shared.reset(deployment.id)
    wait_for(lambda: plane.chat(token).status_code == 200)
    wait_for(lambda: health_shared.shared()[deployment.id.hex].latency_ms is not None)
    assert state_of(deployment) is State.CLOSED
