"""Base URLs and headers: taken apart once, refused when they could split a request."""

import pytest

from inference.upstream import (
    Origin,
    header_lines,
)


@pytest.mark.parametrize(
    ("base_url", "host_header", "head"),
    [
        ("http://127.0.0.1:8080/v1", b"127.0.0.1:8080", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://api.openai.com/v1/", b"api.openai.com", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://API.example.com:443", b"api.example.com", b"POST /x HTTP/1.1\r\n"),
        ("http://example.com:443/a/b", b"example.com:443", b"POST /a/b/x HTTP/1.1\r\n"),
        ("http://[::1]:9/v1", b"[::1]:9", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://bücher.example/v1", b"xn--bcher-kva.example", b"POST /v1/x HTTP/1.1\r\n"),
    ],
)
def test_a_base_url_is_taken_apart(base_url: str, host_header: bytes, head: bytes) -> None:
    origin = Origin.parse(base_url)
    assert origin.host_header == host_header
    assert origin.head("/x").startswith(head + b"Host: " + host_header + b"\r\n")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://secret.example/v1",
        "//secret.example/v1",
        "https:///secret",
        "https://user:secret@example.com/v1",
        "https://secret@example.com/v1",
        "https://example.com/v1?key=secret",
        "https://example.com/v1#secret",
        "https://example.com:secret/v1",
        "https://example.com:99999/secret",
        "https://exa mple.com/secret",
        "https://example.com/v1 secret",
        "https://example.com/sécret",
        "https://" + "secret" * 20 + ".example/v1",
    ],
)
def test_a_bad_base_url_is_refused_without_repeating_it(base_url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as caught:
        Origin.parse(base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/x y", "/x\r\nHost: evil", "/ü"])
def test_a_path_that_would_split_the_request_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Origin.parse("http://example.com").head(path)


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer secret\r\nX: y"}, {"A": "secret\n"}, {"A": "sécret"}, {"A:": "secret"}, {"": "secret"}],
)
def test_a_header_that_would_split_the_request_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        header_lines(headers)
    assert "secret" not in str(caught.value)
