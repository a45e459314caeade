"""The models that answer in place of one that can't, and the callers who refuse that."""

import json

import pytest

from accounts import api_keys
from inference.models import Fallback, Model
from tests.factories import MODEL, deploy, reread_catalogue
from tests.fakes.upstream import refused_url
from tests.inference.errors_told import error

OTHER = "gpt-4"


@pytest.fixture
def other(transactional_db, upstream) -> Model:
    """``MODEL`` is at an address where nobody answers, and falls back to this one."""
    broken, working = deploy(refused_url(), name="broken"), deploy(upstream, name="working", model=OTHER)
    Fallback.objects.create(model=broken.model, to=working.model)
    reread_catalogue()
    return working.model


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_answers_under_the_name_that_was_asked_for(plane, other, token, stream, settled):
    response = plane.chat(token, stream=stream)
    assert response.status_code == 200
    body = response.content.decode()
    first = json.loads(body if not stream else body.split("\n\n")[0].removeprefix("data: "))
    assert first["model"] == MODEL
    assert response.headers["x-helixflow-upstream"] == "working"
    assert response.headers["x-helixflow-fallback-model"] == OTHER
    event = settled()
    assert (event.model, event.fallback_model, event.deployment) == (MODEL, OTHER, "working")
    assert [attempt.deployment for attempt in event.attempts] == ["broken", "working"]


def test_a_repeat_tells_which_model_answered_too(plane, other, token, upstream):
    once = {"Idempotency-Key": "order-4711"}
    first, again = (plane.chat(token, headers=once) for _ in range(2))
    assert again.content == first.content
    assert again.headers["x-helixflow-fallback-model"] == OTHER
    assert len(upstream.requests) == 1


def test_a_caller_can_refuse_fallbacks(plane, other, token, upstream, settled):
    error(plane.chat(token, headers={"X-HelixFlow-Fallback": "off"}), 503, "service_unavailable")
    assert not upstream.requests
    assert settled().fallback_model == ""


def test_the_model_itself_needs_no_fallback(plane, other, token, upstream):
    deploy(upstream, name="well")
    response = plane.chat(token)
    assert response.headers["x-helixflow-upstream"] == "well"
    assert "x-helixflow-fallback-model" not in response.headers


def test_a_key_is_not_led_to_a_model_off_its_list(plane, other, organization, owner, upstream):
    _, token = api_keys.create(organization=organization, user=owner, name="one", models=[MODEL])
    error(plane.chat(token), 503, "service_unavailable")
    assert not upstream.requests


def test_an_organization_is_not_led_to_a_model_of_others(plane, other, token, outsider, upstream):
    other.only_for.add(outsider.memberships.get().organization)
    reread_catalogue()
    error(plane.chat(token), 503, "service_unavailable")
    assert not upstream.requests


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_timeout_that_is_none_is_refused(plane, deployment, token, upstream, seconds):
    response = plane.chat(token, headers={"X-HelixFlow-Timeout": seconds})
    if seconds:
        assert "X-HelixFlow-Timeout" in error(response, 400, "invalid_request")["message"]
        assert not upstream.requests
    else:
        assert response.status_code == 200


@pytest.mark.parametrize(("behaviour", "stream"), [("stall-before-head", False), ("stall-before-first", True)])
def test_a_callers_timeout_shortens_the_deadlines(plane, deployment, token, upstream, behaviour, stream, settled):
    upstream.script(behaviour)
    response = plane.chat(token, stream=stream, headers={"X-HelixFlow-Timeout": "0.3"})
    error(response, 503, "timeout")
    assert upstream.disconnected.wait(5)
    assert settled().units == 0


def test_a_callers_timeout_covers_all_attempts(plane, token, upstream):
    for number in range(3):
        deploy(upstream, name=f"slow-{number}")
        upstream.script("stall-before-head")
    error(plane.chat(token, headers={"X-HelixFlow-Timeout": "0.3"}), 503, "timeout")
    assert len(upstream.requests) == 1


def test_a_callers_timeout_ends_a_stream_under_way(plane, deployment, token, upstream):
    upstream.script("stall-in-the-middle")
    response = plane.chat(token, stream=True, headers={"X-HelixFlow-Timeout": "0.5"})
    assert response.status_code == 200
    assert json.loads(response.content.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "timeout"
