"""Which URLs webhooks may be sent to, as the form says it."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from helixflow.lib import addresses, http
from helixflow.lib.errors import InvalidRequest, ServiceUnavailable

PUBLIC = "93.184.216.34"
NOT_PUBLIC_IPV4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32"),
]
NOT_PUBLIC_IPV6 = [
    *("::/96", "::1/128", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:20::/28"),
    *("2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]


def refusal(url: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        http.check_url(url)
    assert caught.value.param == "url"
    assert caught.value.details == {"url": caught.value.message}
    return caught.value.message


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the resolver says of each name; of others it knows nothing. An address is itself."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int | None, *args: Any, **kwargs: Any) -> list[Any]:
        found = known.get(host, [host] if host[-1].isdigit() or ":" in host else [])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port or 0))
            for each in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com./a%20path?with=a&query",
        "HTTPS://HOOKS.EXAMPLE.COM:8443/",
        "http://hooks.example.com:8080/",
        f"https://{PUBLIC}/hook",
        "https://[2606:2800:220:1::1]/hook",
        "https://bücher.example/büch",
    ],
)
def test_a_public_https_address_is_fine(url: str, names: dict[str, list[str]]) -> None:
    names.update({"hooks.example.com": [PUBLIC], "hooks.example.com.": [PUBLIC], "xn--bcher-kva.example": [PUBLIC]})
    http.check_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://hooks.example.com/", "starts with https://"),
        ("file:///etc/passwd", "starts with https://"),
        ("//hooks.example.com/", "starts with https://"),
        ("hooks.example.com", "starts with https://"),
        ("https:hooks.example.com", "starts with https://"),
        ("", "starts with https://"),
        ("https://user:pass@hooks.example.com/", "user name and password"),
        ("https://@hooks.example.com/", "user name and password"),
        ("https://hooks.example.com@10.0.0.1/", "user name and password"),
        ("https://hooks.example.com/#here", "part after #"),
        ("https://hooks.example.com/a b", "Percent-encode"),
        ("https://hooks.example.com/\r\nX-Evil: 1", "Percent-encode"),
        ("https://hooks.example.com/\x00", "Percent-encode"),
        ("https://hooks.example.com/\u202e", "Percent-encode"),
        ("https://hooks.example.com\\@10.0.0.1/", "Percent-encode"),
        ("https://hooks.example.com/\ud800", "Percent-encode"),
        ("https://hooks.example.com/" + "a" * 2000, "at most 2000"),
        ("https:///hook", "not a valid URL"),
        ("https://:443/hook", "not a valid URL"),
        ("https://hooks.example.com:99999/", "not a valid URL"),
        ("https://hooks.example.com:x/", "not a valid URL"),
        ("https://[fe80::1/", "not a valid URL"),
        ("https://hooks.example.com:22/", "ports 80, 443, 8080, 8443"),
        ("https://hooks.example.com:0/", "ports 80, 443, 8080, 8443"),
        ("https://hooks..example.com/", "not valid"),
        ("https://hooks.example.com../", "not valid"),
        ("https://-/", "not valid"),
        ("https://" + "a" * 64 + ".example.com/", "not valid"),
        ("https://" + "a." * 130 + "com/", "not valid"),
        ("https://nowhere.example.com/", "could not be resolved"),
        ("https://127.1/", "four decimal numbers"),
        ("https://0x7f000001/", "four decimal numbers"),
        ("https://0x7f.0.0.0x1/", "four decimal numbers"),
        ("https://017700000001/", "four decimal numbers"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://0/", "four decimal numbers"),
        ("https://127.0.0.1./", "four decimal numbers"),
        ("https://0177.0.0.01/", "four decimal numbers"),
        ("https://\uff11\uff12\uff17.1/", "not a valid URL"),
        ("https://169.254.169.254/latest/meta-data", "public address"),
        ("https://[fe80::1%25eth0]/", "without %"),
        ("https://%31%32%37.0.0.1/", "without %"),
        ("https://[::1]/", "ALLOW_LOOPBACK=true"),
        ("https://[::ffff:127.0.0.1]/", "ALLOW_LOOPBACK=true"),
        ("https://127.0.0.1/", "ALLOW_LOOPBACK=true"),
        ("https://[::ffff:169.254.169.254]/", "public address"),
        ("https://[::169.254.169.254]/", "public address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "public address"),
        ("https://[2002:a9fe:a9fe::]/", "public address"),
        ("https://[::]/", "public address"),
    ],
)
def test_other_urls_are_refused_and_it_says_why(url: str, says: str, names: dict[str, list[str]]) -> None:
    names["hooks.example.com"] = [PUBLIC]
    assert says in refusal(url)


@pytest.mark.parametrize("inward", [["10.1.2.3"], ["fd00::1"], [PUBLIC, "10.1.2.3"], ["::ffff:10.1.2.3"]])
def test_a_name_that_leads_inwards_is_refused_without_telling_where(
    inward: list[str], names: dict[str, list[str]]
) -> None:
    names["hooks.example.com"] = inward
    message = refusal("https://hooks.example.com/")
    assert "public address" in message
    assert "10.1" not in message
    assert "fd00" not in message


def test_localhost_with_a_dot_is_this_machine(names: dict[str, list[str]]) -> None:
    names["localhost."] = ["127.0.0.1"]
    assert "HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK=true" in refusal("https://localhost./")


def test_a_setting_opens_loopback_on_any_port_and_nothing_else(settings: Settings, names: dict[str, list[str]]) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    names.update({"localhost": ["::1", "127.0.0.1"], "hooks.example.com": [PUBLIC]})
    for url in ("http://127.0.0.1:9999/", "http://localhost:1234/", "https://[::1]:5000/", "http://127.8.9.10/"):
        http.check_url(url)
    assert "ports" in refusal("https://hooks.example.com:9999/")
    assert "public address" in refusal("http://10.0.0.1/")
    assert "public address" in refusal("http://169.254.169.254/")
    assert "four decimal numbers" in refusal("http://127.1/")


def test_in_production_only_https_will_do_and_no_setting_is_mentioned(
    settings: Settings, names: dict[str, list[str]]
) -> None:
    settings.PRODUCTION = True
    names["hooks.example.com"] = [PUBLIC]
    http.check_url("https://hooks.example.com/")
    assert "https://" in refusal("http://hooks.example.com/")
    assert "HELIXFLOW" not in refusal("https://127.0.0.1/")


def test_names_that_hang_hold_few_of_the_threads_that_serve_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Semaphore(0), threading.Event()

    def getaddrinfo(*args: Any, **kwargs: Any) -> list[Any]:
        asked.release()
        answer.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses, "RESOLVE_S", 60)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = "https://hangs.example.com/"
    with ThreadPoolExecutor(http.CHECKS_AT_ONCE) as pool:
        waiting = [pool.submit(refusal, url) for _ in range(http.CHECKS_AT_ONCE)]
        try:
            assert all(asked.acquire(timeout=30) for _ in waiting)
            with pytest.raises(ServiceUnavailable):
                http.check_url(url)
        finally:
            answer.set()
        assert all("could not be resolved" in each.result() for each in waiting)
    assert "could not be resolved" in refusal(url)


def test_a_name_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(addresses, "RESOLVE_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answered.wait(60))
    started = time.monotonic()
    try:
        assert "could not be resolved" in refusal("https://hooks.example.com/")
        assert time.monotonic() - started < 30
    finally:
        answered.set()


def is_refused(address: str) -> bool:
    try:
        addresses.judge(address, port=443, host=address)
    except addresses.Refused:
        return True
    return False


@given(st.sampled_from(NOT_PUBLIC_IPV4 + NOT_PUBLIC_IPV6).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_address_of_a_network_that_is_not_public_is_dialled(address: Any) -> None:
    assert is_refused(str(address))


@given(st.sampled_from(NOT_PUBLIC_IPV4).flatmap(lambda network: st.ip_addresses(network=network)))
def test_nor_one_wrapped_in_ipv6(address: Any) -> None:
    high, low = divmod(int(address), 65536)
    inverted_high, inverted_low = 65535 - high, 65535 - low
    for wrapped in (
        f"::ffff:{address}",
        f"::{high:x}:{low:x}",
        f"::ffff:0:{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"64:ff9b:1::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:4136:e378:8000:63bf:{inverted_high:x}:{inverted_low:x}",
    ):
        assert is_refused(wrapped), wrapped


@pytest.mark.parametrize("address", ["1.1.1.1", PUBLIC, "2606:2800:220:1::1", "2a00:1450::1", "100.63.255.255"])
def test_public_addresses_are_dialled_as_they_are(address: str) -> None:
    assert addresses.judge(address, port=443, host=address) == address


def test_a_mapped_public_address_is_dialled_as_ipv4() -> None:
    assert addresses.judge(f"::ffff:{PUBLIC}", port=443, host="hooks.example.com") == PUBLIC
