"""Callers who leave at any moment: nothing of them stays behind."""

import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts import api_keys
from billing.models import Plan, Subscription
from inference import catalogue, health
from inference.breaker import State
from inference.upstream import Deadlines
from tests.factories import MODEL, deploy
from tests.fakes.upstream import Upstream
from tests.inference.settled import notes, usage_events, used
from tests.stack import wait_for

CALLERS = 12
CALLS = 25  # of each
LATEST_S = 0.15
TROUBLES = ["drip", "status-500", "close-before-head", "stall-before-head", "stall-in-the-middle", "cut-fin", "normal"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """The board is the process's, and so would be its budgets."""
    monkeypatch.setattr(health.board, "standings", {})
    monkeypatch.setattr(health.board, "_budgets", {})


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def leave(url: str, token: str, seed: str) -> None:
    """One call after the other, each left after a while; some are sent under keys that others have too."""
    dice = random.Random(seed)
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    for _ in range(CALLS):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": dice.random() < 0.6}
        if dice.random() < 0.2:
            body["temperature"] = 0
        sent = json.dumps(body).encode()
        key = f"Idempotency-Key: {len(sent)}-{dice.randrange(8)}\r\n" if dice.random() < 0.4 else ""
        hurry = "X-HelixFlow-Timeout: 0.1\r\n" if dice.random() < 0.2 else ""
        with socket.create_connection((host, int(port)), timeout=10) as caller:
            caller.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{key}{hurry}"
                f"Authorization: Bearer {token}\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
                + sent
            )
            time.sleep(dice.uniform(0, LATEST_S))


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_stays_behind(plane, upstream, second, organization, owner, monkeypatch, seed):
    organization.cache_ttl_s = 600
    organization.save()
    plan = Plan.objects.create(slug="plenty", name="Plenty", requests_per_minute=100_000, requests_per_month=100_000)
    Subscription.objects.create(organization=organization, plan=plan, max_parallel=10_000)
    _, token = api_keys.create(organization=organization, user=owner, name="leaving")
    # What is finished for its key must not take a minute.
    monkeypatch.setattr(catalogue, "DEADLINES", Deadlines(connect_s=1, first_byte_s=1, gap_s=1, total_s=5))
    dice = random.Random(seed)
    for name, each in (("first", upstream), ("second", second)):
        deploy(each, name=name)
        each.script(*dice.choices(TROUBLES, k=CALLERS * CALLS))
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(lambda number: leave(plane.url, token, f"{seed}/{number}"), range(CALLERS)))
    wait_for(lambda: not any(each.in_flight for each in health.board.standings.values()), seconds=30, what="in flight")
    wait_for(lambda: not notes(organization), what="they were not settled")
    wait_for(lambda: not plane.gateway.claims._flights, what="a key is held")
    assert used(organization) == sum(event.units for event in usage_events(organization))
    assert len({event.id for event in usage_events(organization)}) == len(usage_events(organization))
    for standing in health.board.standings.values():
        assert (standing.streamed.waiting, standing.whole.waiting) == (0, 0)
        assert standing.breaker._probes == 0 or standing.breaker.state(time.monotonic()) is State.OPEN
    client = plane.gateway.client
    assert set(client._keys) == {each for idle in client._idle.values() for each in idle}
