"""Four web processes on one port, as in production: what one learns the others act on, at the next request."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from accounts import api_keys
from billing.models import Plan, Subscription
from tests.factories import MODEL, deploy
from tests.web import running_web

WORKERS = 4


@pytest.fixture
def token(transactional_db, organization, owner):
    return api_keys.create(organization=organization, user=owner, name="test")[1]


@pytest.fixture
def web(transactional_db, upstream):
    deploy(upstream)
    with running_web(workers=WORKERS) as running:
        yield running


def chat(web, token):
    """On a connection of its own, so that the kernel chooses the process anew."""
    return requests.post(
        f"{web.url}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
        headers={"Authorization": f"Bearer {token}", "Connection": "close"},
        timeout=20,
    )


def in_parallel(web, token, count):
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda _: chat(web, token), range(count)))


def test_a_revoked_key_is_refused_by_every_process_on_the_next_request(web, token, organization, owner):
    assert {response.status_code for response in in_parallel(web, token, 60)} == {200}
    api_keys.revoke(key=organization.api_keys.get(), user=owner)
    after = in_parallel(web, token, 60)
    assert {response.status_code for response in after} == {401}
    assert {response.json()["error"]["code"] for response in after} == {"invalid_api_key"}


def test_100_parallel_at_a_limit_of_10_pass_exactly_10(web, token, organization, upstream):
    plan = Plan.objects.create(slug="enterprise", name="Enterprise")
    Subscription.objects.create(organization=organization, plan=plan, requests_per_minute=10)
    responses = in_parallel(web, token, 100)
    codes = [response.status_code for response in responses]
    resets = {response.headers["x-ratelimit-reset"] for response in responses}
    assert codes.count(200) == 10 * len(resets)  # the minute may turn while they come in
    assert codes.count(200) + codes.count(429) == 100
    assert len(upstream.requests) == codes.count(200)
