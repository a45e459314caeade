"""Django in threads: a slow view holds up nobody, connections stay open, and a crowd is told to come back."""

import asyncio
import json

import pytest
from django.db import connections
from django.http import HttpRequest

from helixflow.server import threads
from helixflow.server.threads import ThreadedDjango
from tests.helixflow import thread_urls


@pytest.fixture(autouse=True)
def _urls(settings):
    settings.ROOT_URLCONF = "tests.helixflow.thread_urls"
    settings.MIDDLEWARE = []
    thread_urls.gate.clear()
    yield
    thread_urls.gate.set()


async def ask(app, path, query=b""):
    """Status, headers, and the parts of the body."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), [message["body"] for message in sent[1:] if message.get("body")]


def test_a_slow_view_holds_up_nobody():
    async def scenario():
        app = ThreadedDjango(threads=2)
        slow = asyncio.create_task(ask(app, "/wait"))
        await asyncio.sleep(0.05)
        quick = await asyncio.wait_for(ask(app, "/quick"), 2)
        assert not slow.done()
        thread_urls.gate.set()
        return quick, await slow

    (status, headers, _), slow = asyncio.run(scenario())
    assert status == 200
    assert headers[b"Set-Cookie"].startswith(b"crumb=1")
    assert slow[2] == [b"waited"]


def test_with_all_threads_taken_it_answers_503(monkeypatch):
    monkeypatch.setattr(threads, "WAIT_S", 0.1)

    async def scenario():
        app = ThreadedDjango(threads=1)
        slow = asyncio.create_task(ask(app, "/wait"))
        await asyncio.sleep(0.05)
        refused = [await ask(app, path) for path in ("/quick", "/v1/quick")]
        thread_urls.gate.set()
        await slow
        return refused, await ask(app, "/quick")

    (page, api), after = asyncio.run(scenario())
    assert page[0] == api[0] == 503
    assert page[1][b"retry-after"] == b"5"
    assert page[1][b"content-type"].startswith(b"text/html")
    error = json.loads(api[2][0])["error"]
    assert error["code"] == "service_unavailable"
    assert api[1][b"x-request-id"].decode() == error["request_id"]
    assert after[0] == 200


def test_a_view_that_does_not_end_is_answered_503_and_keeps_its_thread(monkeypatch):
    monkeypatch.setattr(threads, "ANSWER_S", 0.1)
    monkeypatch.setattr(threads, "WAIT_S", 0.1)

    async def scenario():
        app = ThreadedDjango(threads=1)
        statuses = [(await ask(app, path))[0] for path in ("/wait", "/quick")]
        thread_urls.gate.set()
        await asyncio.sleep(0.05)
        return [*statuses, (await ask(app, "/quick"))[0]]

    assert asyncio.run(scenario()) == [503, 503, 200]


@pytest.mark.django_db(transaction=True)
def test_connections_stay_open_from_request_to_request():
    async def scenario():
        app = ThreadedDjango(threads=1)
        backends = {(await ask(app, "/backend"))[2][0] for _ in range(3)}
        app.pool.submit(connections.close_all).result()
        return backends

    assert len(asyncio.run(scenario())) == 1


def test_streams_go_part_by_part():
    assert asyncio.run(ask(ThreadedDjango(), "/parts"))[2] == [b"0", b"1", b"2"]


def test_a_stream_may_take_longer_than_a_view(monkeypatch):
    monkeypatch.setattr(threads, "ANSWER_S", 0.2)

    async def scenario():
        slow = asyncio.create_task(ask(ThreadedDjango(), "/slow-parts"))
        await asyncio.sleep(0.4)
        thread_urls.gate.set()
        return await slow

    assert asyncio.run(scenario())[2] == [b"first", b"last"]


def test_streams_to_slow_readers_take_no_thread_from_pages(monkeypatch):
    monkeypatch.setattr(threads, "WAIT_S", 0.1)
    monkeypatch.setattr(threads, "STREAMS", 2)

    async def scenario():
        app = ThreadedDjango(threads=1)
        slow = [asyncio.create_task(ask(app, "/slow-parts")) for _ in range(2)]
        await asyncio.sleep(0.05)
        statuses = [(await ask(app, path))[0] for path in ("/quick", "/parts", "/quick")]
        thread_urls.gate.set()
        await asyncio.gather(*slow)
        return [*statuses, (await ask(app, "/parts"))[0]]

    assert asyncio.run(scenario()) == [200, 503, 200, 200]


def test_one_organization_has_not_all_streams():
    async def scenario():
        app = ThreadedDjango()
        slow = [asyncio.create_task(ask(app, "/someones-parts", b"of=a")) for _ in range(threads.STREAMS_OF_ONE)]
        await asyncio.sleep(0.05)
        refused = (await ask(app, "/someones-parts", b"of=a"))[0]
        others = asyncio.create_task(ask(app, "/someones-parts", b"of=b"))
        thread_urls.gate.set()
        await asyncio.gather(*slow)
        return refused, (await others)[0], (await ask(app, "/someones-parts", b"of=a"))[0]

    assert asyncio.run(scenario()) == (503, 200, 200)


def test_a_stream_that_takes_too_long_is_cut(monkeypatch):
    monkeypatch.setattr(threads, "STREAM_S", -1)
    sent = []

    async def send(message):
        sent.append(message)

    async def scenario():
        app = ThreadedDjango()
        await app.send_parts(thread_urls.parts(HttpRequest()), {"path": "/parts"}, send)

    asyncio.run(scenario())
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_a_query_that_is_no_text_is_a_bad_request():
    assert asyncio.run(ask(ThreadedDjango(), "/quick", query=b"\xff"))[0] == 400
