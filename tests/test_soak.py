"""A few seconds of the randomised run (`make soak` gives it minutes), and proof that its checker sees its quarry."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.behaviours import LEAKY_KEY
from tests.soak.checker import miscounts, problems
from tests.soak.clients import Entry
from tests.soak.http import Answer
from tests.soak.run import CALM, KILLS, soak
from tests.soak.world import Tenant, make_tenant


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("scenario", "workers"), [(CALM, 1), (KILLS, 2)])
def test_random_clients_and_a_misbehaving_upstream_break_nothing(tmp_path: Path, scenario: str, workers: int) -> None:
    report = soak(seed=20240101, seconds=6, data_dir=tmp_path, workers=workers, scenario=scenario)
    assert report.problems == []
    assert report.calls > 100
    assert report.records > 50
    assert (report.kills > 0) == (scenario == KILLS)


def refused(code: str, status: int, *, request_id: str = "req_1", kind: str = "bad", **headers: str) -> Entry:
    body = json.dumps({"error": {"code": code, "request_id": "req_1"}}).encode()
    return Entry(kind, "", False, "", Answer(status, {"x-request-id": request_id, **headers}, body, complete=True))


def streamed(*payloads: Any, kind: str = "good") -> Entry:
    body = "".join(f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n" for payload in payloads)
    headers = {"x-request-id": "req_1", "content-type": "text/event-stream"}
    return Entry(kind, "normal", True, "", Answer(200, headers, body.encode(), complete=True))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (refused("server_error", 502), "502 with code server_error"),
        (refused("service_unavailable", 503), "service_unavailable without Retry-After"),
        (refused("server_error", 500, kind="good"), "500 server_error for a good call"),
        (refused("server_error", 500, kind="revoked"), "500 server_error for a revoked call"),
        (refused("server_error", 500, request_id="req_2"), "the body's request_id is not the header's"),
        (refused("server_error", 500, request_id=""), "no X-Request-ID"),
        (streamed({"choices": [{"delta": {"content": "Hel"}}]}, "[DONE]"), "is not whole"),
        (streamed({"choices": [{"delta": {"content": "Hel"}}]}), "neither [DONE] nor an error"),
        (streamed({"error": {"code": "server_error"}}), "a good stream failed"),
        (streamed({"error": {"message": LEAKY_KEY}}, kind="bad"), "leaked"),
        (streamed("[DONE]", kind="revoked"), "200 for a call that must be refused"),
        (Entry("good", "normal", False, "", Answer()), "no answer at all"),
    ],
)
def test_the_checker_sees(entry: Entry, problem: str) -> None:
    assert problem in " ".join(problems([entry]))


def test_the_checker_is_content_with_a_proper_refusal() -> None:
    assert problems([refused("service_unavailable", 503, **{"retry-after": "5"})]) == []


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("counted", limit=3)


def counted(remaining: int) -> Entry:
    headers = {"x-ratelimit-limit": "3", "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": "60"}
    return Entry("good", "normal", False, "counted", Answer(200, headers, complete=True))


def test_the_checker_sees_a_unit_that_was_given_twice(tenant: Tenant) -> None:
    assert "given twice" in miscounts([counted(2), counted(2)], [tenant])[0]


def test_the_checker_sees_a_unit_that_nobody_got(tenant: Tenant) -> None:
    assert "counted for 0 unread answers" in miscounts([counted(2), counted(0)], [tenant])[0]


def test_the_checker_explains_a_missing_unit_by_a_client_who_left(tenant: Tenant) -> None:
    left = Entry("leave", "normal", False, "counted", Answer(left=True))
    assert miscounts([counted(2), left, counted(0)], [tenant]) == []
