"""What the server does with peers who are slow, greedy or wrong. One process with deadlines of a second."""

import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helixflow.serving import Answer, Served, get, post, server, wait_for

BODY_LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def web() -> Iterator[Served]:
    with server(
        header_s=1, body_s=1, idle_s=1, write_s=1, linger_s=0.5, body_bytes=BODY_LIMIT, body_least=100
    ) as served:
        yield served


@pytest.fixture(scope="module")
def patient() -> Iterator[Served]:
    """With the deadlines of production."""
    with server() as served:
        yield served


def assert_error(answer: Answer, status: int, code: str = "invalid_request") -> None:
    assert answer.status == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"].startswith("req_")
    assert answer.headers["x-request-id"] == error["request_id"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"


def test_it_answers_and_keeps_the_connection(patient):
    with patient.connect() as raw:
        for path in ("/one", "/two%20"):
            raw.send(get(path))
            answer = raw.answer()
            assert answer.status == 200
            assert answer.json()["path"] == path.replace("%20", " ")
            assert "server" not in answer.headers
            assert "date" in answer.headers


def test_forwarded_headers_change_nothing_by_themselves(patient):
    headers = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "Forwarded: for=203.0.113.9")
    assert patient.ask(get("/", *headers)).json()["client"] == "127.0.0.1"


# Too slow


def test_slow_headers_are_answered_408(web):
    with web.connect() as raw:
        start = time.monotonic()
        raw.send(b"GET / HTTP/1.1\r\n")
        raw.push_aside(*[b"x"] * 20, every_s=0.2)
        assert_error(raw.answer(), 408)
        assert 0.9 < time.monotonic() - start < 2


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_silent_socket_is_closed(web, sent):
    with web.connect() as raw:
        start = time.monotonic()
        raw.send(sent)
        assert raw.until_closed() == b""
        assert 0.9 < time.monotonic() - start < 2


def test_an_idle_connection_is_closed_without_a_word(web):
    with web.connect() as raw:
        raw.send(get("/"))
        raw.answer()
        start = time.monotonic()
        assert raw.until_closed() == b""
        assert 0.9 < time.monotonic() - start < 2


def test_an_answer_may_take_longer_than_any_deadline_of_its_request(web):
    with web.connect() as raw:
        raw.send(get("/ticks"))
        start = time.monotonic()
        while time.monotonic() - start < 2.5:
            assert raw.more()


@pytest.mark.parametrize("begun", [b"", b"1\r\nx\r\n"])
def test_a_body_that_stops_is_answered_408(web, begun):
    with web.connect() as raw:
        raw.send(get("/", "Transfer-Encoding: chunked", method="POST") + begun)
        assert_error(raw.answer(), 408)


def test_a_dripped_body_is_answered_408(web):
    with web.connect() as raw:
        raw.send(get("/", "Content-Length: 1000", method="POST"))
        raw.push_aside(*[b"x"] * 30, every_s=0.1)
        assert_error(raw.answer(), 408)


def test_a_body_that_keeps_coming_may_take_its_time(web):
    with web.connect() as raw:
        raw.send(get("/", "Content-Length: 600", method="POST"))
        for _ in range(20):
            time.sleep(0.1)
            raw.send(b"x" * 30)
        assert raw.answer().json()["length"] == 600


def test_a_slow_reader_is_cut_and_holds_little(web):
    with web.connect(receive_buffer=4096) as raw:
        gone = web.get("/stats").json()["gone"]
        raw.send(get("/stream"))
        took = wait_for(lambda: web.get("/stats").json()["gone"] > gone)
        assert 0.9 < took < 3
        held = web.get("/stats").json()["streamed"]
        assert 0 < held < 256 * 1024


def test_a_slow_reader_of_a_finished_answer_is_cut_too(web):
    """The application is done, what it said is still in the buffers, and the peer reads nothing."""
    before = web.get("/stats").json()
    with web.connect(receive_buffer=4096) as raw:
        raw.send(get("/large", "Connection: close"))
        start = time.monotonic()
        wait_for(lambda: web.get("/stats").json()["gone"] > before["gone"])
        reset = select.poll()
        reset.register(raw.socket, 0)
        assert reset.poll(5000), "still open"
        assert 0.9 < time.monotonic() - start < 3


def descriptors(web: Served) -> int:
    """What the server holds open, seen from outside: its connections and a dozen more."""
    return len(os.listdir(f"/proc/{web.process.pid}/fd"))  # noqa: PTH208  # names are enough


def test_two_thousand_slow_sockets_neither_stay_nor_disturb(web):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard > 0 else 8192, hard))
    slow = []
    try:
        start = time.monotonic()
        for _ in range(2000):
            peer = socket.create_connection(("127.0.0.1", web.port), timeout=5)
            peer.send(b"GET / HTTP/1.1\r\nX-Slow: ")
            slow.append(peer)
        opened = time.monotonic() - start
        times = []
        while time.monotonic() - start < opened + 1.8:
            asked = time.monotonic()
            assert web.get("/").status == 200
            times.append(time.monotonic() - asked)
        times.sort()
        assert times[int(len(times) * 0.99) - 1] < 0.25, "other requests waited"
        wait_for(lambda: descriptors(web) < 50, seconds=5)
    finally:
        for peer in slow:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Too much


def test_a_megabyte_of_one_header_is_answered_431_and_readable(web):
    with web.connect() as raw:
        raw.push_aside(get("/", "X-Request-ID: " + "a" * 2**20))
        assert_error(raw.answer(), 431)


def test_a_header_without_end_is_answered_431(web):
    with web.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        raw.push_aside(*[b"a" * 1000] * 20, every_s=0.005)
        assert_error(raw.answer(), 431)


def test_a_long_address_is_answered_431(web):
    assert_error(web.get("/" + "a" * 20_000), 431)


def test_header_count_is_limited(web):
    assert web.ask(get("/", *(f"X-{number}: 1" for number in range(99)))).status == 200
    assert_error(web.ask(get("/", *(f"X-{number}: 1" for number in range(100)))), 431)


def test_headers_up_to_the_limit_pass_together_with_a_large_body(web):
    request = post("/", b"x" * 100_000, "X-Large: " + "a" * 15_000)
    assert web.ask(request).json()["length"] == 100_000


def test_a_declared_body_over_the_limit_is_answered_413(web):
    with web.connect() as raw:
        raw.push_aside(post("/", b"x" * 2 * BODY_LIMIT))
        assert_error(raw.answer(), 413)


def test_a_chunked_body_without_end_is_answered_413(web):
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with web.connect() as raw:
        raw.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        raw.push_aside(*[chunk] * 100)
        assert_error(raw.answer(), 413)


def test_an_application_may_allow_a_larger_body(web):
    assert web.ask(post("/allow", b"x" * 3 * BODY_LIMIT)).json()["length"] == 3 * BODY_LIMIT
    with web.connect() as raw:
        raw.push_aside(post("/allow", b"x" * 5 * BODY_LIMIT))
        assert_error(raw.answer(), 413)


@pytest.mark.parametrize(("piece", "pieces"), [(1_000, 30), (100_000, 39)], ids=["too slow", "too long in all"])
def test_a_larger_body_has_deadlines_of_its_own(web, piece, pieces):
    with web.connect() as raw:
        raw.send(get("/allow", f"Content-Length: {4 * BODY_LIMIT}", method="POST"))
        raw.push_aside(*[b"x" * piece] * pieces, every_s=0.1)
        assert_error(raw.answer(), 408)


@pytest.mark.parametrize("flood", [b"1;" + b"e" * 2**20, b"0\r\nX-Trailer: " + b"t" * 2**20])
def test_chunk_extensions_and_trailers_without_end_are_refused(web, flood):
    with web.connect() as raw:
        request = get("/", "Transfer-Encoding: chunked", method="POST") + flood
        raw.push_aside(request)
        assert_error(raw.answer(), 400)


def test_trailers_are_dropped(web):
    request = get("/", "Transfer-Encoding: chunked", method="POST") + b"2\r\nhi\r\n0\r\nX-Admin: yes\r\n\r\n"
    seen = web.ask(request).json()
    assert seen["length"] == 2
    assert "x-admin" not in dict(seen["headers"])


def test_refusals_leave_memory_flat(web):
    before = web.get("/stats").json()["resident"]
    request = get("/", "X-Request-ID: " + "a" * 2**20)

    def refused():
        with web.connect() as raw:
            raw.push_aside(request)
            return raw.answer().status

    with ThreadPoolExecutor(20) as crowd:
        assert {future.result() for future in [crowd.submit(refused) for _ in range(200)]} == {431}
    assert web.get("/stats").json()["resident"] - before < 32 * 2**20


# Wrong


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(post("/", b"0\r\n\r\n", "Transfer-Encoding: chunked"), id="content-length and transfer-encoding"),
        pytest.param(get("/", "Transfer-Encoding: chunked", "Content-Length: 5", method="POST"), id="the reverse"),
        pytest.param(post("/", b"x", "Content-Length: 1"), id="content-length twice"),
        pytest.param(post("/", b"x", "Content-Length: 2"), id="two content-lengths"),
        pytest.param(get("/", "Content-Length: -1", method="POST"), id="negative content-length"),
        pytest.param(get("/", "Content-Length: 1e3", method="POST"), id="content-length is no number"),
        pytest.param(get("/", "Content-Length: " + "9" * 30, method="POST"), id="huge content-length"),
        pytest.param(get("/", "Transfer-Encoding: chunked, identity", method="POST"), id="chunked is not last"),
        pytest.param(get("/", "Transfer-Encoding: gzip, chunked", method="POST") + b"0\r\n\r\n", id="another coding"),
        pytest.param(
            get("/", "Transfer-Encoding: identity", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
            id="two codings",
        ),
        pytest.param(get("/", "Content-Length: " + "0" * 5000, method="POST"), id="content-length of 5,000 digits"),
        pytest.param(get("/", "Host: y"), id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunks in HTTP/1.0"),
        pytest.param(get("/", "X-Bad: a\0b"), id="NUL in a header"),
        pytest.param(get("/", "X-Bad: a\rb"), id="bare CR in a header"),
        pytest.param(get("/", "X-Bad : a"), id="space before the colon"),
        pytest.param(get("/", "X-B@d(: a"), id="header name of other characters"),
        pytest.param(get("/", "X-Folded: a", " b"), id="folded header"),
        pytest.param(get("/\xff"), id="raw byte in the path"),
        pytest.param(get("/?q=\xff"), id="raw byte in the query"),
        pytest.param(get("/a%00b"), id="NUL in the path"),
        pytest.param(get("/?q=%00"), id="NUL in the query"),
        pytest.param(get("/a b"), id="space in the path"),
        pytest.param(get("no-slash"), id="path without a slash"),
        pytest.param(get("http://"), id="address without a host"),
        pytest.param(get("x:1", method="CONNECT"), id="CONNECT"),
        pytest.param(get("/", method="CONNECT"), id="CONNECT to a path"),
        pytest.param(get("http://x/", method="CONNECT"), id="CONNECT to an address"),
        pytest.param(b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", id="unknown method"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", id="another version"),
        pytest.param(b"GET / HTTP/0.9\r\n\r\n", id="an old version"),
        pytest.param(b"GET /\r\n\r\n", id="no version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 with prior knowledge"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(get("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", id="chunk size is no number"),
        pytest.param(get("/", "Transfer-Encoding: chunked", method="POST") + b"f" * 17, id="huge chunk size"),
        pytest.param(get("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nxx\r\n", id="chunk too long"),
    ],
)
def test_malformed_requests_are_answered_400(web, request_bytes):
    assert_error(web.ask(request_bytes), 400)


def test_the_log_of_bad_requests_holds_no_traceback(web):
    web.ask(get("/\xff"))
    web.ask(get("x:1", method="CONNECT"))
    web.ask(get("/", method="CONNECT"))
    assert not [line for line in web.log if "httptools" in line or "UnicodeDecodeError" in line]


def test_a_bad_request_does_not_spoil_the_answer_before_it(patient):
    with patient.connect() as raw:
        raw.send(get("/slow") + b"nonsense\r\n\r\n")
        answer = raw.answer()
        assert answer.json() == {"slow": True}
        assert raw.until_closed() == b""


# The odd corners of HTTP/1.1


def test_pipelined_requests_are_answered_in_order(patient):
    with patient.connect() as raw:
        raw.send(get("/slow") + b"".join(get(f"/{number}") for number in range(20)))
        assert raw.answer().json() == {"slow": True}
        assert [raw.answer().json()["path"] for _ in range(20)] == [f"/{number}" for number in range(20)]


def test_a_pipeline_without_end_is_cut_after_the_requests_that_fit(patient):
    with patient.connect() as raw:
        raw.send(get("/slow") + b"".join(get(f"/{number}") for number in range(200)))
        assert raw.until_closed().count(b"HTTP/1.1 200 OK") == 33


def test_a_client_that_leaves_is_noticed_though_it_has_pipelined(patient):
    gone = patient.get("/stats").json()["gone"]
    with patient.connect() as raw:
        raw.send(get("/wait") + get("/"))
        time.sleep(0.1)
    assert wait_for(lambda: patient.get("/stats").json()["gone"] > gone) < 1


@pytest.mark.parametrize("path", ["/departure", "/departure?late"])
@pytest.mark.parametrize("size", [2, 1_000_000])
def test_an_application_is_told_that_its_client_left(patient, path, size):
    """Also if it was told to watch only after that, and after a body so large that reading was paused."""
    gone = patient.get("/stats").json()["gone"]
    with patient.connect() as raw:
        raw.send(post(path, b"x" * size))
        time.sleep(0.1)
    assert wait_for(lambda: patient.get("/stats").json()["gone"] > gone) < 2


def test_head_has_no_body(patient):
    with patient.connect() as raw:
        raw.send(get("/unsized", method="HEAD") + get("/after"))
        assert raw.answer(head_only=True).status == 200
        assert raw.answer().json()["path"] == "/after"


def test_options_reach_the_application(patient):
    assert patient.ask(get("/", method="OPTIONS")).json()["method"] == "OPTIONS"


def test_http_1_0_gets_no_chunks(patient):
    answer = patient.ask(b"GET /unsized HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body == b"one two"
    assert patient.ask(b"GET / HTTP/1.0\r\n\r\n").json()["path"] == "/"


def test_http_1_1_gets_chunks(patient):
    with patient.connect() as raw:
        raw.send(get("/unsized", "Connection: close"))
        assert raw.until_closed().endswith(b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")


def test_a_body_is_asked_for_if_the_client_waits_to_be_asked(patient):
    with patient.connect() as raw:
        raw.send(get("/", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert raw.answer(head_only=True).status == 100
        raw.send(b"hi")
        assert raw.answer().json()["length"] == 2


def test_a_client_that_waited_in_vain_is_hung_up_on(patient):
    """It may send its body or not: the next bytes could be taken for either."""
    with patient.connect() as raw:
        raw.send(get("/early", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert raw.until_closed() == b""


def test_an_early_answer_leaves_the_connection_usable(patient):
    with patient.connect() as raw:
        raw.send(get("/early", "Content-Length: 200000", method="POST"))
        assert raw.answer().status == 401
        raw.send(b"x" * 200_000 + get("/next"))
        assert raw.answer().json()["path"] == "/next"


def test_options_of_everything_is_no_address(patient):
    assert_error(patient.ask(get("*", method="OPTIONS")), 400)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "nonsense"])
def test_upgrades_are_ignored(patient, upgrade):
    with patient.connect() as raw:
        headers = ("Connection: Upgrade", f"Upgrade: {upgrade}")
        raw.send(get("/one", *headers) + get("/two") + post("/three", b"hi", *headers) + get("/four"))
        seen = [raw.answer().json() for _ in range(4)]
        assert [request["path"] for request in seen] == ["/one", "/two", "/three", "/four"]
        assert [request["length"] for request in seen] == [0, 0, 2, 0]


def test_a_crash_is_answered_500_in_our_shape(patient):
    assert_error(patient.get("/crash"), 500, "server_error")


@pytest.mark.parametrize("what", ["name", "value", "nul"])
def test_a_head_that_is_none_is_a_crash(patient, what):
    answer = patient.get(f"/bad-header?{what}")
    assert_error(answer, 500, "server_error")
    assert "set-cookie" not in answer.headers


def test_a_crash_amid_an_answer_cuts_it(patient):
    with patient.connect() as raw:
        raw.send(get("/crash-late"))
        assert raw.until_closed().endswith(b"half\r\n")
