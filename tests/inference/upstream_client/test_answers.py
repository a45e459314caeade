"""What is asked, and how the answer comes."""

import asyncio
import hashlib
import json

import pytest

from inference.upstream import (
    Deadlines,
    Origin,
    UpstreamClient,
    UpstreamTooLarge,
    header_lines,
)
from tests.fakes import answers
from tests.fakes.behaviours import endless
from tests.fakes.upstream import Upstream
from tests.inference.upstream_client.calls import LIMIT, PATH, eventually, post, read

pytestmark = pytest.mark.anyio


async def test_the_request_is_as_openai_wants_it(client: UpstreamClient, upstream: Upstream) -> None:
    headers = header_lines({"Authorization": "Bearer sk-1", "OpenAI-Organization": "org-1"})
    response = await client.post(Origin.parse(upstream.url + "/"), PATH, headers, b'{"model":"normal"}', Deadlines())
    assert response.status == 200
    assert json.loads(await response.read(LIMIT))["usage"] == answers.USAGE
    assert upstream.last.path == "/v1/chat/completions"
    assert upstream.last.body == b'{"model":"normal"}'
    assert upstream.last.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "HelixFlow",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": "Bearer sk-1",
        "openai-organization": "org-1",
        "content-length": "18",
    }


async def test_what_is_only_asked_for_has_no_body(client: UpstreamClient, upstream: Upstream) -> None:
    headers = header_lines({"Authorization": "Bearer sk-1"})
    response = await client.get(Origin.parse(upstream.url), "/models", headers, Deadlines())
    assert response.status == 200
    assert [model["id"] for model in json.loads(await response.read(LIMIT))["data"]] == upstream.models
    assert (upstream.last.method, upstream.last.path, upstream.last.body) == ("GET", "/v1/models", b"")
    assert upstream.last.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "HelixFlow",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-1",
    }


@pytest.mark.parametrize("model", ["normal", "one-read", "bytewise", "drip"])
async def test_a_stream_is_the_same_however_it_comes(client: UpstreamClient, upstream: Upstream, model: str) -> None:
    stream = await read(client, upstream, model, stream=True)
    assert stream == b"".join(answers.frames({}))


async def test_chunks_come_as_the_upstream_sends_them(client: UpstreamClient, upstream: Upstream) -> None:
    response = await post(client, upstream, "stall-in-the-middle", stream=True)
    received = b""
    while received.count(b"\n\n") < 2:
        received += await asyncio.wait_for(response.chunks(), 2)
    response.close()
    assert received == b"".join(answers.frames({})[:2])


@pytest.mark.parametrize("code", [400, 401, 429, 500, 503])
async def test_an_error_is_an_answer(client: UpstreamClient, upstream: Upstream, code: int) -> None:
    response = await post(client, upstream, f"status-{code}")
    assert response.status == code
    assert response.header(b"retry-after") == {429: b"7", 503: b"3"}.get(code)
    assert "message" in json.loads(await response.read(LIMIT))["error"]


async def test_a_redirect_is_not_followed(client: UpstreamClient, upstream: Upstream) -> None:
    assert (await post(client, upstream, "redirect")).status == 302
    assert len(upstream.requests) == 1


async def test_a_large_request_arrives_whole(client: UpstreamClient, upstream: Upstream) -> None:
    await read(client, upstream, filler="x" * 10_000_000)
    assert upstream.last.json["filler"] == "x" * 10_000_000


async def test_a_slow_reader_gets_every_byte(client: UpstreamClient, upstream: Upstream) -> None:
    part = bytes(range(256)) * 64
    upstream.script(endless(part, total_bytes=20_000_000))
    response = await post(client, upstream)
    received = hashlib.sha256()
    size = 0
    while data := await response.chunks():
        received.update(data)
        size += len(data)
        await asyncio.sleep(0.0005)
    assert size == 20_000_000 // len(part) * len(part)
    assert received.digest() == hashlib.sha256(part * (size // len(part))).digest()


async def test_an_answer_without_end_stays_out_of_memory_while_unread(
    client: UpstreamClient, upstream: Upstream
) -> None:
    response = await post(client, upstream, "endless-answer")
    await asyncio.sleep(0.3)
    assert response._buffered < 192 * 1024
    with pytest.raises(UpstreamTooLarge):
        await response.read(LIMIT)
    await eventually(upstream.disconnected.is_set)
