"""One call to a receiver on loopback: what is sent, what comes back, and what a receiver may do to it."""

import contextlib
import gzip
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from helixflow.lib import http
from tests.fakes.receiver import (
    Behaviour,
    Receiver,
    at_random,
    close,
    drip_body,
    drip_head,
    flood,
    hang,
    head,
    raw,
    redirect,
    repeat,
    reset,
    status,
)

READ_BYTES = 64 * 1024
CHUNKED = head(200, {"Transfer-Encoding": "chunked"}) + b"\r\n"


@pytest.fixture(autouse=True)
def _loopback(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def post(
    url: str, body: bytes = b'{"event":"x"}', *, timeout_s: float = 20.0, read_bytes: int = READ_BYTES
) -> http.Answer:
    headers = {"Content-Type": "application/json", "User-Agent": "Tests/1", "webhook-id": "evt_1"}
    return http.post(url, body=body, headers=headers, timeout_s=timeout_s, read_bytes=read_bytes)


def failure(url: str, **options: Any) -> http.CallFailed:
    with pytest.raises(http.CallFailed) as caught:
        post(url, **options)
    return caught.value


def test_the_body_and_headers_arrive_as_given(receiver: Receiver) -> None:
    body = b'{"event": "x", "note": "\xc3\xa9"}\n'
    answer = post(receiver.url + "/a%20b?c=d&e", body)
    assert (answer.status, answer.body, answer.truncated, answer.address) == (200, b"ok", False, "127.0.0.1")
    [call] = receiver.calls
    assert (call.method, call.path, call.body) == ("POST", "/hook/a%20b?c=d&e", body)
    assert call.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-type": "application/json",
        "user-agent": "Tests/1",
        "webhook-id": "evt_1",
        "content-length": str(len(body)),
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_a_name_is_looked_up_and_stays_in_the_host_header(receiver: Receiver) -> None:
    answer = post(f"http://localhost:{receiver.port}/")
    assert answer.status == 200
    assert answer.address in {"127.0.0.1", "::1"}
    assert receiver.calls[0].headers["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize("code", [200, 204, 302, 307, 400, 404, 410, 429, 500, 503])
def test_any_status_is_an_answer(receiver: Receiver, code: int) -> None:
    receiver.script(status(code, b"why", {"Retry-After": "7"}))
    answer = post(receiver.url)
    assert (answer.status, answer.headers["Retry-After"]) == (code, "7")


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.script(redirect(receiver.url + "/elsewhere", 307))
    answer = post(receiver.url)
    assert (answer.status, answer.headers["Location"]) == (307, receiver.url + "/elsewhere")
    assert len(receiver.calls) == 1


def test_a_header_that_comes_twice_is_joined(receiver: Receiver) -> None:
    receiver.script(raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n"))
    assert post(receiver.url).headers["X-A"] == "1, 2"


@pytest.mark.parametrize(
    "data",
    [
        head(200, {"Content-Length": "5"}) + b"\r\nhello and more than announced",
        head() + b"\r\nhello",
        CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + head(200, {"Content-Length": "5"}) + b"\r\nhello",
    ],
    ids=["length", "until-closed", "chunked", "http-1.0", "continue"],
)
def test_a_body_may_end_in_each_way_that_http_knows(receiver: Receiver, data: bytes) -> None:
    if b"announced" in data:
        receiver.script(raw(data))
        assert post(receiver.url).body == b"hello"
    receiver.script(raw(data), raw(*(bytes([byte]) for byte in data)))
    assert [post(receiver.url).body for _ in range(2)] == [b"hello", b"hello"]


def test_a_long_answer_is_cut(receiver: Receiver) -> None:
    receiver.script(status(200, b"x" * 1000), status(200, b"x" * 1001), flood(500))
    answers = [post(receiver.url, read_bytes=1000) for _ in range(3)]
    assert [(answer.status, len(answer.body), answer.truncated) for answer in answers] == [
        (200, 1000, False),
        (200, 1000, True),
        (500, 1000, True),
    ]


def test_a_flooding_receiver_is_left_at_once(receiver: Receiver) -> None:
    receiver.script(flood())
    post(receiver.url)
    wait_until(lambda: receiver.open == 0)


def test_nothing_is_decompressed(receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    receiver.script(status(200, bomb, {"Content-Encoding": "gzip"}))
    assert post(receiver.url).body == bomb


def test_environment_and_home_directory_play_no_part(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(receiver.url).status == 200
    assert "authorization" not in receiver.calls[0].headers


def test_cookies_of_one_receiver_reach_no_other(receiver: Receiver) -> None:
    receiver.script(status(200, b"", {"Set-Cookie": "session=1; Path=/"}))
    post(receiver.url)
    post(receiver.url)
    assert "cookie" not in receiver.calls[1].headers


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (close(), "closed the connection without an answer"),
        (reset(), "closed the connection without an answer"),
        (raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "not valid HTTP"),
        (raw(b"HTTP/1.1 abc\r\n\r\n"), "not valid HTTP"),
        (raw(head() + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n"), "not valid HTTP"),
        (raw(head() + b"X-Many: 1\r\n" * 101 + b"\r\n"), "not valid HTTP"),
        (raw(head(200, {"Content-Length": "5"}) + b"Content-Length: 6\r\n\r\nhello"), "not valid HTTP"),
        (raw(head(200, {"Content-Length": "50"}) + b"\r\nhello"), "in the middle of the answer"),
        (raw(CHUNKED + b"nonsense\r\n"), "in the middle of the answer"),
        (raw(CHUNKED + b"5\r\nhel"), "in the middle of the answer"),
        (raw(CHUNKED + b"-5\r\nhello\r\n"), "in the middle of the answer"),
        (repeat(CHUNKED + b"-1\r\n", b"x" * 10_000), "far too long"),
        (repeat(CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"), "far too long"),
        (repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "far too long"),
        (repeat(head(), b"X-Endless: 1\r\n" * 100), "not valid HTTP"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_failure_and_says_so(
    receiver: Receiver, behaviour: Behaviour, says: str
) -> None:
    receiver.script(behaviour)
    failed = failure(receiver.url)
    assert (failed.code, failed.address) == ("broken_answer", "127.0.0.1")
    assert says in failed.message


@pytest.mark.parametrize("seed", range(5))
def test_random_damage_to_an_answer_never_surprises(receiver: Receiver, seed: int) -> None:
    dice = random.Random(seed)
    whole = head(200, {"Transfer-Encoding": "chunked", "Content-Type": "text/plain"}) + b"\r\n3\r\nabc\r\n0\r\n\r\n"
    codes = set()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.choice(b"\r\n :-\0\xff0a" + bytes([dice.randrange(256)]))
        receiver.script(raw(bytes(data)))
        try:
            post(receiver.url)
        except http.CallFailed as failed:
            codes.add(failed.code)
    assert codes == {"broken_answer"}


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (hang(), "did not answer within 0.5 s"),
        (drip_head(0.05), "did not answer within 0.5 s"),
        (repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), "did not answer within 0.5 s"),
        (drip_body(200, 0.05), "began, but did not end within 0.5 s"),
        (repeat(CHUNKED, b"1\r\nx\r\n", 0.05), "began, but did not end within 0.5 s"),
        (raw(head(200, {"Content-Length": "5"}) + b"\r\nhel", finish=False), "began, but did not end within 0.5 s"),
    ],
)
def test_a_slow_receiver_is_cut_off_by_the_clock(receiver: Receiver, behaviour: Behaviour, says: str) -> None:
    receiver.script(behaviour)
    started = time.monotonic()
    failed = failure(receiver.url, timeout_s=0.5)
    assert failed.code == "timeout"
    assert says in failed.message
    assert 0.5 <= time.monotonic() - started < 15  # a dripping one would go on for ever
    wait_until(lambda: receiver.open == 0)


def test_a_receiver_that_reads_nothing_is_cut_off_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert failure(url, body=b"x" * 20_000_000, timeout_s=0.5).code == "timeout"


def test_a_port_that_nobody_answers_is_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # fill the queue: further connections get no answer
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        failed = failure(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout_s=0.5)
        for each in waiting:
            each.close()
    assert failed.code == "timeout"
    assert failed.message.startswith("No connection to 127.0.0.1")


def test_a_refused_connection_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failed = failure(f"http://127.0.0.1:{port}/")
    assert (failed.code, failed.address) == ("connect", "127.0.0.1")
    assert f"refused the connection to port {port}" in failed.message


def test_a_name_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failed = failure("http://hooks.example.com/")
    assert (failed.code, failed.address) == ("dns", None)
    assert "hooks.example.com could not be resolved" in failed.message


def test_a_name_server_that_says_nothing_costs_no_more_than_the_time_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answered.wait(60))
    try:
        failed = failure("http://hooks.example.com/", timeout_s=0.3)
    finally:
        answered.set()
    assert failed.code == "timeout"
    assert "hooks.example.com could not be resolved within 0.3 s" in failed.message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://10.0.0.1/", "public address"),
        ("http://169.254.169.254/latest/meta-data", "public address"),
        ("http://user:pass@127.0.0.1/", "user name"),
        ("http://127.1/", "four decimal numbers"),
        ("http://93.184.216.34:22/", "ports"),
        ("gopher://127.0.0.1/", "https://"),
    ],
)
def test_a_url_that_could_not_be_saved_is_not_called_either(url: str, says: str) -> None:
    failed = failure(url)
    assert (failed.code, failed.address) == ("refused_address", None)
    assert says in failed.message


def test_loopback_is_refused_where_no_setting_opens_it(receiver: Receiver, settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = False
    for host in ("127.0.0.1", "localhost"):
        failed = failure(f"http://{host}:8080/")
        assert failed.code == "refused_address"
        assert "HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK=true" in failed.message
    assert receiver.accepted == 0


def test_many_at_once_don_t_disturb_each_other(receiver: Receiver) -> None:
    receiver.answer = lambda call: hang() if call.path.endswith("/hang") else status(200, call.body)

    def one(number: int) -> bool:
        if number % 4 == 0:
            return bool(failure(receiver.url + "/hang", timeout_s=1.0).code == "timeout")
        return post(receiver.url, str(number).encode()).body == str(number).encode()

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(one, range(256)))


def test_no_descriptor_stays_open_whatever_happens(receiver: Receiver) -> None:
    post(receiver.url)
    wait_until(lambda: receiver.open == 0)
    before = descriptors()
    failures = (status(500), close(), reset(), hang(), drip_body(), drip_head(), flood(), raw(b"?\r\n"), redirect("/"))
    receiver.answer = at_random(1, failing=0.9, failures=failures)
    for url in [receiver.url] * 30 + ["http://127.0.0.1:1/", "http://10.0.0.1/", f"http://localhost:{receiver.port}/"]:
        with contextlib.suppress(http.CallFailed):
            post(url, timeout_s=0.2)
    wait_until(lambda: receiver.open == 0 and descriptors() <= before)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(happens: Any, seconds: float = 20.0) -> None:
    ends_at = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.01)
