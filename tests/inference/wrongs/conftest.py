"""One model for each lane, behind a data plane of this process."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import requests

from accounts.models import Organization
from billing import events
from billing.models import Plan, Subscription
from helixflow.lib import ids
from inference import health
from inference.models import Deployment, Model, Provider
from tests.factories import reread_catalogue
from tests.fakes.upstream import Upstream
from tests.inference.conftest import DataPlane
from tests.inference.settled import notes, usage_events
from tests.inference.wrongs.lanes import LANES, Lane, Wrong
from tests.stack import wait_for

T = TypeVar("T")


@dataclass
class Running:
    """A lane with its upstream. Its model has one deployment; ``relieved`` has a second that is well."""

    lane: Lane
    upstream: Upstream
    provider: Provider

    @property
    def relieved(self) -> str:
        return f"{self.lane.name}-relieved"


class World:
    def __init__(self, plane: DataPlane, token: str, organization: Organization, running: list[Running]) -> None:
        self.plane = plane
        self.token = token
        self.organization = organization
        self.running = running

    def each(self, act: Callable[[Running], T], lanes: tuple[Lane, ...] = LANES) -> dict[str, T]:
        """What comes of it on these lanes, all at once. No deployment is cut off for what it did before."""
        health.board.standings.clear()
        chosen = [running for running in self.running if running.lane in lanes]
        with ThreadPoolExecutor(len(chosen)) as pool:
            return dict(zip((each.lane.name for each in chosen), pool.map(act, chosen), strict=True))

    def ask(self, running: Running, wrong: Wrong | None = None, *, model: str = "") -> requests.Response:
        """The whole answer, of an upstream that does this first."""
        lane = running.lane
        if wrong is not None:
            running.upstream.script(wrong(lane))
        response: requests.Response = self.plane.ask(lane.path, self.token, lane.body(model or lane.name))
        return response

    def record(self, response: requests.Response) -> events.Usage:
        return self.record_of(response.headers["x-request-id"])

    def record_of(self, public_id: str) -> events.Usage:
        """The one record of a request, once nothing is under way."""
        wanted = ids.parse_public_id(ids.REQUEST, public_id)
        found: list[events.Usage] = []

        def settled() -> bool:
            found[:] = [event for event in usage_events(self.organization) if event.id == wanted]
            return bool(found)

        wait_for(settled, what="it was not settled")
        assert len(found) == 1
        return found[0]

    def settle(self) -> list[events.Usage]:
        wait_for(lambda: not notes(self.organization), what="not all was settled")
        found: list[events.Usage] = usage_events(self.organization)
        assert len({event.id for event in found}) == len(found)
        return found


@pytest.fixture
def world(plane: DataPlane, token: str, organization: Organization) -> Iterator[World]:
    plan = Plan.objects.create(slug="plenty", name="Plenty", requests_per_minute=100_000, requests_per_month=100_000)
    Subscription.objects.create(organization=organization, plan=plan)
    assert plane.gateway.client is not None
    plane.gateway.client._max_idle = 0  # what breaks off on a kept connection is sent again: see upstream_client
    with ExitStack() as stack:
        running = [_start(lane, stack.enter_context(lane.server())) for lane in LANES]
        reread_catalogue()
        yield World(plane, token, organization, running)


def _start(lane: Lane, upstream: Upstream) -> Running:
    provider = Provider(
        name=lane.name,
        kind=lane.kind,
        base_url=upstream.url,
        region="eu-central-1" if lane.kind == "bedrock" else "",
        stream_always=lane.stream_always,
    )
    provider.credential = lane.credential
    provider.save()
    running = Running(lane, upstream, provider)
    for model_name, deployments in ((lane.name, ("only",)), (running.relieved, ("first", "second"))):
        model = Model.objects.create(name=model_name, owned_by="us")
        for priority, name in enumerate(deployments):
            Deployment.objects.create(
                name=f"{lane.name}-{name}",
                model=model,
                provider=provider,
                upstream_model=lane.upstream_model,
                priority=priority,
            )
    return running


def said(lane: Lane, response: requests.Response) -> str:
    """The text of a right answer, or whatever else this is. Of embeddings, that there is one."""
    text = response.content.decode()
    try:
        if not lane.streamed:
            answer = json.loads(text)
            if lane.operation == "embedding":
                return lane.text if len(answer["data"]) == 1 else text
            return _words(answer["choices"], "message")
        *frames, done, rest = text.split("\n\n")
        if (done, rest) != ("data: [DONE]", ""):
            return text
        chunks: list[dict[str, Any]] = [json.loads(frame.removeprefix("data: ")) for frame in frames]
        return "".join(_words(chunk["choices"], "delta") for chunk in chunks)
    except (ValueError, KeyError):
        return text


def _words(choices: list[dict[str, Any]], where: str) -> str:
    return "".join((choice["text"] if "text" in choice else choice[where].get("content")) or "" for choice in choices)


def failure(response: requests.Response) -> tuple[int, str]:
    """The status and the code of the error, which is the last thing that is said."""
    text = response.content
    if response.headers["content-type"].startswith("text/event-stream"):
        assert b"[DONE]" not in text
        assert text.endswith(b"\n\n")
        text = text.split(b"\n\n")[-2].removeprefix(b"data: ")
    error = json.loads(text)["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    return response.status_code, error["code"]
