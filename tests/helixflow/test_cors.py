"""Browsers of other origins: only those named, only under /v1, and nothing at all by default."""

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from helixflow.server import cors
from tests.helixflow.serving import get, post, started

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def open_site(start_web):
    return start_web(HELIXFLOW_CORS_ORIGINS=f"{ORIGIN}, http://localhost:3000")


def preflight(path, origin=ORIGIN, method="POST", headers="authorization, content-type, x-stainless-os"):
    asks = (f"Access-Control-Request-Method: {method}", f"Access-Control-Request-Headers: {headers}")
    return get(path, f"Origin: {origin}", *asks, method="OPTIONS")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/health"])
@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
def test_preflights_of_named_origins_need_no_credentials(open_site, path, origin):
    answer = open_site.ask(preflight(path, origin))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-stainless-os" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-request-id"].startswith("req_")


def test_preflights_of_others_are_refused_in_our_shape(open_site):
    answer = open_site.ask(preflight("/v1/models", "https://evil.example"))
    assert answer.status == 400
    assert "access-control-allow-origin" not in answer.headers
    assert answer.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "request_bytes", [post("/v1/chat/completions", b"{}", f"Origin: {ORIGIN}"), get("/v1/health", f"Origin: {ORIGIN}")]
)
def test_answers_can_be_read_with_our_headers(open_site, request_bytes):
    answer = open_site.ask(request_bytes)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = answer.headers["access-control-expose-headers"].lower()
    for name in (
        "x-request-id",
        "x-ratelimit-remaining",
        "x-ratelimit-reset-month",
        "retry-after",
        "x-helixflow-upstream",
    ):
        assert name in exposed
    assert "Origin" in answer.headers["vary"]


def test_answers_to_others_cannot_be_read(open_site):
    answer = open_site.ask(get("/v1/health", "Origin: https://evil.example"))
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/login", "/livez", "/v1x"])
def test_nothing_outside_v1_is_opened(open_site, path):
    for request in (get(path, f"Origin: {ORIGIN}"), preflight(path)):
        assert "access-control-allow-origin" not in open_site.ask(request).headers


def test_nothing_is_opened_by_default(site):
    for request in (get("/v1/health", f"Origin: {ORIGIN}"), preflight("/v1/health")):
        assert "access-control-allow-origin" not in site.ask(request).headers


def test_without_origins_the_application_is_not_wrapped():
    assert cors.allow_origins(cors, []) is cors


@pytest.mark.parametrize(
    "good", ["https://example.com", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "*"]
)
def test_origins_are_accepted(good):
    cors.check([good])


@pytest.mark.parametrize(
    "bad",
    [
        "example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://Example.com",
        "https://*.example.com",
        "ftp://example.com",
        "https://user@example.com",
        "https://example.com:port",
        "null",
        "https://",
    ],
)
def test_what_is_no_origin_is_refused_by_the_variables_name(bad):
    with pytest.raises(ImproperlyConfigured, match="HELIXFLOW_CORS_ORIGINS"):
        cors.check([bad])


def test_the_star_stands_alone():
    with pytest.raises(ImproperlyConfigured, match="HELIXFLOW_CORS_ORIGINS"):
        cors.check(["*", ORIGIN])


def test_the_server_refuses_nonsense_in_one_line(stores):
    command = [sys.executable, "manage.py", "web", "--workers", "1", "--port", "0"]
    with pytest.raises(AssertionError) as told, started(command, stores | {"HELIXFLOW_CORS_ORIGINS": "example.com"}):
        pass
    assert str(told.value).startswith("CommandError: HELIXFLOW_CORS_ORIGINS")
    assert "Traceback" not in str(told.value)
