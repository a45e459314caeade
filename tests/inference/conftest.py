"""A data plane in this process, on a real socket, in front of the fake upstream."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests
import uvicorn

from accounts import api_keys
from accounts.models import Organization, User
from billing import events
from billing.admission import snapshots
from helixflow.server.workers import bind
from inference import catalogue, playground
from inference.gateway import Gateway
from inference.models import Deployment
from tests.factories import MODEL, deploy
from tests.fakes.upstream import Upstream
from tests.inference import kept_answers
from tests.inference.settled import notes, usage_events, used
from tests.stack import wait_for


@pytest.fixture(autouse=True)
def _kept_now() -> None:
    kept_answers.this_moment.cache_clear()


@pytest.fixture
def deployment(transactional_db: None, upstream: Upstream) -> Deployment:
    return deploy(upstream)


@pytest.fixture
def token(transactional_db: None, organization: Organization, owner: User) -> str:
    return api_keys.create(organization=organization, user=owner, name="test")[1]


@dataclass
class DataPlane:
    """``url`` is the base URL, up to /v1."""

    url: str
    gateway: Gateway

    def chat(self, token: str | None, body: object = None, *, headers: dict[str, str] | None = None, **options: object):
        if body is None:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]} | options
        return self.ask("/chat/completions", token, body, headers=headers, stream=bool(options.get("stream")))

    def complete(self, token: str | None, *, headers: dict[str, str] | None = None, **options: object):
        body = {"model": MODEL, "prompt": "Hello"} | options
        return self.ask("/completions", token, body, headers=headers, stream=bool(options.get("stream")))

    def embed(self, token: str | None, *, headers: dict[str, str] | None = None, **options: object):
        return self.ask("/embeddings", token, {"model": MODEL, "input": "Hello"} | options, headers=headers)

    def ask(
        self,
        path: str,
        token: str | None,
        body: object,
        *,
        headers: dict[str, str] | None = None,
        stream: bool = False,
    ):
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(
            f"{self.url}{path}",
            **({"data": body} if isinstance(body, bytes) else {"json": body}),
            headers=sent | (headers or {}),
            stream=stream,
            timeout=20,
        )


@pytest.fixture
def plane(transactional_db: None) -> Iterator[DataPlane]:
    """Cold: it knows no key and no model yet."""
    snapshots.cache.clear()
    catalogue.keeper.forget()
    gateway = Gateway()

    operations = {
        "/v1/completions": gateway.completions,
        "/v1/embeddings": gateway.embeddings,
        "/dashboard/playground/completions": playground.completions,
    }

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await gateway.startup()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await gateway.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await operations.get(scope["path"], gateway.chat_completions)(scope, receive, send)

    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(application, loop="asyncio", http="httptools", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield DataPlane(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", gateway)
    server.should_exit = True
    thread.join(10)
    snapshots.cache.clear()


@pytest.fixture
def patient_with_redis(settings) -> None:
    """For what is kept only if Redis answers in time, which on a busy machine it may not."""
    settings.REDIS_BUDGET_S = 5.0


@pytest.fixture
def settled(organization) -> Callable[[], events.Usage]:
    """The one event there is, once nothing is under way."""

    def settled() -> events.Usage:
        wait_for(lambda: not notes(organization) and usage_events(organization), what="it was not settled")
        found = usage_events(organization)
        event: events.Usage = found[0]
        assert len(found) == 1
        assert used(organization) == event.units
        return event

    return settled
