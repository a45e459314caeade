"""Hostile HTTP against the whole application, as `manage.py web` serves it."""

import asyncio
import re

import pytest
from django.http import HttpResponse

from helixflow.asgi import application, lifespan
from helixflow.middleware import ClientAddressMiddleware
from helixflow.server import lifecycle
from tests.helixflow.serving import get, post


def error_of(answer):
    error = answer.json()["error"]
    assert answer.headers["x-request-id"] == error["request_id"]
    return error


def test_a_forged_host_is_refused_as_json_under_v1_and_as_a_page_elsewhere(site):
    forged = site.ask(b"GET /v1/nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (forged.status, error_of(forged)["code"]) == (400, "invalid_request")
    page = site.ask(b"GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert page.status == 400
    assert page.headers["content-type"].startswith("text/html")
    assert b"evil.example" not in page.body


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/nowhere", "/v1/chat", "/v1/%2e%2e/x", "/v1/%F0%9F%92%A9", "/v1/a%0d%0aX:b"]
)
def test_unknown_paths_under_v1_are_json(site, path):
    answer = site.ask(get(path).replace(b"Host: x", b"Host: localhost"))
    assert (answer.status, error_of(answer)["code"]) == (404, "invalid_request")
    assert "x" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_of_an_unknown_path_under_v1_is_a_404(site, method):
    request = get("/v1/nowhere", "Content-Length: 0", method=method).replace(b"Host: x", b"Host: localhost")
    answer = site.ask(request)
    assert (answer.status, error_of(answer)["code"]) == (404, "invalid_request")


def test_unknown_paths_elsewhere_are_pages(site):
    answer = site.ask(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nowhere", "/nowhere", "/v1/health", "/livez"])
def test_a_callers_request_id_is_never_echoed(site, path):
    answer = site.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: req_mine\r\n\r\n".encode())
    assert re.fullmatch(r"req_[0-9A-Za-z]{22}", answer.headers["x-request-id"])
    assert b"req_mine" not in answer.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/embeddings/"])
def test_inference_is_asked_by_post_and_with_a_key(site, path):
    refused = site.ask(get(path))
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert error_of(refused)["code"] == "invalid_request"
    assert error_of(site.ask(post(path, b"{}")))["code"] == "authentication_failed"


def test_two_authorization_headers_are_refused(site):
    headers = ("Authorization: Bearer a", "Authorization: Bearer b")
    assert site.ask(post("/v1/chat/completions", b"{}", *headers)).status == 401


def test_a_stranger_is_refused_before_the_body(site):
    with site.connect() as raw:
        raw.send(get("/v1/chat/completions", "Content-Length: 1000000", method="POST"))
        answer = raw.answer()
        assert answer.status == 401
        error_of(answer)


@pytest.mark.parametrize("path", ["/v1/auth/login", "/login"])
def test_a_body_of_more_than_a_megabyte_is_refused_before_django_reads_it(site, path):
    host = "Content-Type: application/json"
    assert error_of(site.ask(post(path, b" " * (1024 * 1024 + 1), host)))["code"] == "invalid_request"
    chunked = get(path, "Transfer-Encoding: chunked", method="POST") + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 17
    with site.connect() as raw:
        raw.push_aside(chunked)
        answer = raw.answer()
        assert answer.status == 413
        error_of(answer)


def test_a_query_that_is_no_text_is_refused(site):
    answer = site.ask(get("/v1/nowhere?\xff"))
    assert (answer.status, error_of(answer)["code"]) == (400, "invalid_request")


def test_static_files_are_compressed_and_kept_for_ever(site):
    page = site.ask(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").body.decode()
    path = re.search(r'"(/static/[^"]+\.css)"', page)
    assert path, "the page names no style sheet"
    answer = site.ask(get(path[1], "Accept-Encoding: gzip"))
    assert answer.status == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = site.ask(get(path[1], f"If-None-Match: {answer.headers['etag']}", "Connection: close"))
    assert (again.status, again.body) == (304, b"")
    part = site.ask(get(path[1], "Range: bytes=0-9"))
    assert (part.status, len(part.body)) == (206, 10)
    assert site.ask(get(path[1], method="POST")).status == 405


@pytest.mark.parametrize(
    "path", ["/static/../manage.py", "/static/%2e%2e/manage.py", "/static//etc/passwd", "/static/"]
)
def test_nothing_but_static_files_is_served(site, path):
    answer = site.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.status == 404
    assert b"execute_from_command_line" not in answer.body


class Transcript:
    """Plays a server to an ASGI application."""

    def __init__(self, *incoming):
        self.incoming = list(incoming)
        self.sent = []

    async def receive(self):
        return self.incoming.pop(0)

    async def send(self, message):
        self.sent.append(message)


@pytest.fixture
def gateway(monkeypatch):
    """Records what the lifespan asks of the gateway."""
    calls = []

    async def startup():
        calls.append(("startup", lifecycle.phase()))

    async def shutdown():
        calls.append(("shutdown", lifecycle.phase()))

    monkeypatch.setattr("inference.gateway.startup", startup)
    monkeypatch.setattr("inference.gateway.shutdown", shutdown)
    yield calls
    lifecycle.enter("ready")


async def play(transcript):
    await lifespan(transcript.receive, transcript.send)


def test_the_lifespan_reaches_the_gateway(gateway):
    transcript = Transcript({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    asyncio.run(play(transcript))
    assert gateway == [("startup", "starting"), ("shutdown", "draining")]
    assert [message["type"] for message in transcript.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_gateway_that_does_not_start_is_told(gateway, monkeypatch):
    async def startup():
        raise RuntimeError("no")

    monkeypatch.setattr("inference.gateway.startup", startup)
    transcript = Transcript({"type": "lifespan.startup"})
    asyncio.run(play(transcript))
    assert transcript.sent == [{"type": "lifespan.startup.failed"}]


def test_websockets_are_closed_politely():
    transcript = Transcript({"type": "websocket.connect"})
    asyncio.run(application({"type": "websocket", "path": "/", "headers": []}, transcript.receive, transcript.send))
    assert transcript.sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "believed"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        (2, "203.0.113.9", "127.0.0.1"),
    ],
)
def test_a_forwarded_address_counts_only_behind_a_trusted_proxy(rf, settings, proxies, forwarded, believed):
    settings.TRUSTED_PROXIES = proxies
    show = ClientAddressMiddleware(lambda request: HttpResponse())
    request = rf.get("/", headers={"X-Forwarded-For": forwarded})
    show(request)
    assert request.META["REMOTE_ADDR"] == believed
