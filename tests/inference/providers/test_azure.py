"""Azure OpenAI, through the gateway in front of a fake that checks the wire."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from inference.providers import adapter_for
from inference.providers.adapter import Account, Blame
from inference.text_schemas import EmbeddingRequest
from inference.upstream import Deadlines, UpstreamClient
from tests.factories import deploy, reread_catalogue
from tests.fakes import answers, azure
from tests.fakes.azure import KEY, Azure
from tests.inference.chat_bodies import parse
from tests.inference.errors_told import error

VERSION = "2024-10-21"


@pytest.fixture(params=[None, VERSION], ids=["v1", "classic"])
def resource(request) -> Iterator[Azure]:
    with Azure(api_version=request.param) as server:
        yield server


def connect(resource: Azure, *, upstream_model: str = "our-gpt", key: str = KEY, **options) -> None:
    made = deploy(resource.endpoint, kind="azure", api_version=resource.api_version or "", **options)
    made.provider.credential = key
    made.provider.save()
    made.upstream_model = upstream_model
    made.save()
    reread_catalogue()


def account(**changes) -> Account:
    return Account(**{"kind": "azure", "base_url": "https://ours.openai.azure.com", "credential": KEY} | changes)


def test_an_answer_comes_through_without_what_the_filters_said(plane, token, resource):
    connect(resource)
    response = plane.chat(token, max_tokens=7)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == answers.TEXT
    assert "filter" not in response.text
    sent = resource.last.json
    assert (sent["model"], sent["max_completion_tokens"]) == ("our-gpt", 7)
    assert "max_tokens" not in sent


def test_a_stream_comes_through_without_what_the_filters_said(plane, token, resource):
    connect(resource)
    response = plane.chat(token, stream=True)
    frames = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]]
    text = "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"])
    assert text == answers.TEXT
    assert response.text.endswith("data: [DONE]\n\n")
    assert "filter" not in response.text


def test_a_filtered_prompt_is_the_caller_s_and_not_tried_elsewhere(plane, token, resource, upstream):
    connect(resource)
    deploy(upstream, name="second", priority=1)
    resource.script(azure.content_filter)
    told = error(plane.chat(token), 400, "invalid_request")
    assert told["message"] == azure.FILTERED
    assert not upstream.requests


@pytest.mark.parametrize(
    "wrong", [{"upstream_model": "not-deployed"}, {"key": "another-key-0123456789"}], ids=["deployment", "key"]
)
def test_wrong_settings_are_passed_over(plane, token, resource, upstream, wrong):
    connect(resource, **wrong)
    deploy(upstream, name="second", priority=1)
    assert plane.chat(token).headers["x-helixflow-upstream"] == "second"
    assert len(resource.requests) == 1


def test_a_limit_is_passed_over(plane, token, resource, upstream):
    connect(resource)
    deploy(upstream, name="second", priority=1)
    resource.script("status-429")
    assert plane.chat(token).headers["x-helixflow-upstream"] == "second"


def test_the_name_of_a_deployment_can_t_leave_its_place_in_the_path():
    wire = asyncio.run(
        adapter_for(account(api_version=VERSION)).wire(parse(), upstream_model="../a b?c#d", stream=False)
    )
    assert wire.path == f"/openai/deployments/..%2Fa%20b%3Fc%23d/chat/completions?api-version={VERSION}"


@pytest.mark.parametrize(
    ("version", "path"),
    [("", "/openai/v1/embeddings"), (VERSION, f"/openai/deployments/ours/embeddings?api-version={VERSION}")],
)
def test_embeddings_have_their_place_beside_chat(version, path):
    request = EmbeddingRequest(model="m", input="Once")
    wire = asyncio.run(adapter_for(account(api_version=version)).embedding_wire(request, upstream_model="ours"))
    assert (wire.path, wire.headers) == (path, f"api-key: {KEY}\r\n".encode())
    assert json.loads(wire.body) == {"model": "ours", "input": "Once"}


@pytest.mark.parametrize("suffix", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_the_endpoint_may_be_copied_with_its_path(suffix):
    adapter = adapter_for(account(base_url=f"https://ours.openai.azure.com{suffix}"))
    assert (adapter.origin.host, adapter.origin.prefix) == ("ours.openai.azure.com", "")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"base_url": ""}, "needs its endpoint"),
        ({"credential": ""}, "needs an API key"),
        ({"api_version": "2024-10-21&x=y"}, "API version"),
        ({"credential": "line\nbreak"}, "'api-key' holds characters"),
    ],
)
def test_settings_that_can_t_work_are_refused_without_the_key(changes, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        adapter_for(account(**changes))
    assert KEY not in str(refused.value)
    assert "line" not in str(refused.value)


@pytest.mark.parametrize(
    ("version", "path"), [("", "/openai/v1/models"), (VERSION, f"/openai/models?api-version={VERSION}")]
)
def test_models_that_answer_requests_are_listed(version, path):
    adapter = adapter_for(account(api_version=version))
    listing = asyncio.run(adapter.listing())
    assert listing is not None
    assert (listing.path, listing.headers) == (path, f"api-key: {KEY}\r\n".encode())
    body = {
        "data": [{"id": "gpt-4o", "capabilities": {"chat_completion": True}}, {"id": "tts", "capabilities": {"x": 1}}]
    }
    assert adapter.read_listing(json.dumps(body).encode()) == ["gpt-4o"]


def test_the_list_can_be_asked_for(resource):
    adapter = adapter_for(account(base_url=resource.endpoint, api_version=resource.api_version or ""))
    listing = asyncio.run(adapter.listing())
    body = asyncio.run(_get(listing))
    assert adapter.read_listing(body) == ["gpt-4o", "text-embedding-3-small"]


def test_whose_fault_a_refusal_is():
    adapter = adapter_for(account())
    assert adapter.refusal(404, None, b'{"error": {"code": "DeploymentNotFound"}}').blame is Blame.PROVIDER
    assert adapter.refusal(401, None, b"").blame is Blame.PROVIDER
    limited = adapter.refusal(429, b"17", b'{"error": {"code": "429", "message": "Requests exceeded"}}')
    assert (limited.blame, limited.retry_after_s) == (Blame.LIMIT, 17.0)


async def _get(listing) -> bytes:
    client = UpstreamClient()
    try:
        response = await client.get(listing.origin, listing.path, listing.headers, Deadlines())
        return await response.read(65536)
    finally:
        await client.close()
