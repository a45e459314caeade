"""Who may read the metrics: whoever has the token, or this machine and no proxy on it."""

import asyncio
import json
from typing import Any

import pytest

from helixflow.server import metrics

LOCAL = [(b"host", b"127.0.0.1:8000")]
TOKEN = "metrics-token-of-this-test"


@pytest.fixture(autouse=True)
def _alone(settings):
    """No token, no proxies, and no address but this machine's."""
    settings.METRICS_TOKEN = ""
    settings.TRUSTED_PROXIES = 0
    settings.PUBLIC_URL = "http://127.0.0.1:8000"


def ask(*headers: tuple[bytes, bytes], peer: Any = ("127.0.0.1", 5), method: str = "GET", version: str = "1.1"):
    """Status, headers and body of one scrape."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "headers": list(headers), "client": peer, "http_version": version}
    asyncio.run(metrics.answer(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_this_machine_may_read_without_a_token():
    status, headers, body = ask(*LOCAL)
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-request-id"].startswith(b"req_")
    assert b"helixflow_build_info{" in body


@pytest.mark.parametrize("host", [b"localhost", b"[::1]:8000", b"127.1.2.3"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"])
def test_this_machine_has_several_addresses(host, peer):
    assert ask((b"host", host), peer=(peer, 5))[0] == 200


@pytest.mark.parametrize("peer", [("10.0.0.1", 5), ("2001:db8::1", 5), ("::ffff:10.0.0.1", 5), ("", 5), None])
def test_other_machines_find_nothing(peer):
    status, headers, body = ask(*LOCAL, peer=peer)
    assert status == 404
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"].encode()) == ("invalid_request", headers[b"x-request-id"])


@pytest.mark.parametrize(
    "header",
    [
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-real-ip", b"127.0.0.1"),
        (b"forwarded", b"for=127.0.0.1"),
        (b"via", b"1.1 proxy"),
        (b"cf-connecting-ip", b"127.0.0.1"),
    ],
)
@pytest.mark.parametrize("proxies", [0, 1])
def test_a_proxy_on_this_machine_opens_nothing(settings, header, proxies):
    settings.TRUSTED_PROXIES = proxies
    assert ask(*LOCAL, header)[0] == 404


def test_a_proxy_that_adds_no_header_opens_nothing(settings):
    assert ask((b"host", b"api.example.com"))[0] == 404
    assert ask((b"host", b"[::1"))[0] == 404
    assert ask(*LOCAL, version="1.0")[0] == 404
    settings.PUBLIC_URL = "https://api.example.com"
    assert ask(*LOCAL)[0] == 404
    settings.TRUSTED_PROXIES = 1  # which adds the header, or it would not be trusted
    assert ask(*LOCAL)[0] == 200


@pytest.mark.parametrize("peer", [("10.0.0.1", 5), ("127.0.0.1", 5)])
def test_a_token_opens_them_to_everybody_who_has_it_and_to_nobody_else(settings, peer):
    settings.METRICS_TOKEN = TOKEN
    proxied = [(b"host", b"api.example.com"), (b"x-forwarded-for", b"10.1.1.1")]

    def status(*values: bytes):
        return ask(*proxied, *((b"authorization", value) for value in values), peer=peer)[0]

    assert status(f"Bearer {TOKEN}".encode()) == 200
    assert status(f"bearer {TOKEN}".encode()) == 200
    for refused in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "", TOKEN, f"Basic {TOKEN}", "Bearer é"):
        assert status(refused.encode("latin-1")) == 401, refused
    assert status() == 401
    assert status(f"Bearer {TOKEN}".encode(), b"Bearer other") == 401
    _, headers, body = ask(*proxied, peer=peer)
    assert headers[b"www-authenticate"] == b"Bearer"
    assert json.loads(body)["error"]["code"] == "authentication_failed"
    assert TOKEN.encode() not in body
    assert TOKEN.encode() not in ask((b"authorization", f"Bearer {TOKEN}".encode()))[2]


def test_head_has_no_body_and_other_methods_are_refused():
    status, headers, body = ask(*LOCAL, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers[b"content-length"]) > 0
    status, headers, body = ask(*LOCAL, method="POST")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert json.loads(body)["error"]["code"] == "invalid_request"
