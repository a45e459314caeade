"""One model on three deployments that take turns in being down, slow and at their limit, under load."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from billing.models import Plan, Subscription
from inference.models import Deployment, Model, Provider
from tests.factories import MODEL, reread_catalogue
from tests.fakes import gemini
from tests.fakes.anthropic import AnthropicUpstream
from tests.fakes.behaviours import Call, status
from tests.fakes.upstream import Upstream

KINDS = ("compatible", "anthropic", "gemini")
CALLERS = 12
REQUESTS = 90  # of each turn
SLOW_S = 0.2
AT_ONCE = 3  # as many as the limited one takes

Trouble = Callable[[Call], Awaitable[bool]]


async def down(call: Call) -> bool:
    await status(503)(call)
    return True


async def slow(call: Call) -> bool:
    await asyncio.sleep(SLOW_S)
    return False


def limited() -> Trouble:
    under_way = 0

    async def trouble(call: Call) -> bool:
        nonlocal under_way
        if under_way >= AT_ONCE:
            await status(429, "Slow down.", "Retry-After: 1")(call)
            return True
        under_way += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            under_way -= 1
        return False

    return trouble


@pytest.fixture
def clouds(transactional_db, organization) -> Iterator[list[Upstream]]:
    """An OpenAI-compatible server, Anthropic and Gemini, as deployments of one model, for a caller without limits."""
    plan = Plan.objects.create(slug="plenty", name="Plenty", requests_per_minute=100_000, requests_per_month=100_000)
    Subscription.objects.create(organization=organization, plan=plan)
    model = Model.objects.create(name=MODEL, owned_by="openai")
    with ExitStack() as stack:
        upstreams = [stack.enter_context(upstream) for upstream in (Upstream(), AnthropicUpstream(), gemini.Gemini())]
        for kind, upstream in zip(KINDS, upstreams, strict=True):
            provider = Provider(name=kind, kind=kind, base_url=upstream.url)
            provider.credential = gemini.KEY
            provider.save()
            Deployment.objects.create(name=kind, model=model, provider=provider, upstream_model="a-model")
        reread_catalogue()
        yield upstreams


async def load(url: str, token: str) -> Counter[str]:
    """How the requests of many callers ended, by the deployment that answered."""
    ended: Counter[str] = Counter()
    left = iter(range(REQUESTS))

    async with openai.AsyncOpenAI(base_url=url, api_key=token, max_retries=0, timeout=30) as client:

        async def caller() -> None:
            for number in left:
                ended[await ask(client, stream=number % 2 == 0)] += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return ended


async def ask(client: openai.AsyncOpenAI, *, stream: bool) -> str:
    """Who answered. Raises openai.OpenAIError."""
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    if not stream:
        answer = await client.chat.completions.with_raw_response.create(model=MODEL, messages=messages)
        assert answer.parse().choices[0].message.content
        return answer.headers["x-helixflow-upstream"]
    streamed = await client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, stream=True)
    reasons = [choice.finish_reason async for chunk in streamed.parse() for choice in chunk.choices]
    assert reasons[-1] == "stop"
    return streamed.headers["x-helixflow-upstream"]


def test_callers_see_nothing_of_it(plane, clouds, token):
    for turn in range(3):
        for number, trouble in enumerate((down, slow, limited())):
            clouds[(number + turn) % 3].trouble = trouble
        answered = asyncio.run(load(plane.url, token))
        assert answered.total() == REQUESTS
        assert KINDS[turn] not in answered
