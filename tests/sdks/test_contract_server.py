"""The scripted server complains of what differs from a case, and of nothing else: asked by hand, over raw sockets."""

import json
import re
import socket
from contextlib import closing
from itertools import count
from urllib.parse import urlencode, urlsplit

import pytest

from tests.sdks.conftest import CONTRACT

KEY = "hflow_contract_key_that_opens_nothing"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(CONTRACT.glob("cases/*.json"))}
BODIES = {f"/v1/{path}" for path in ("chat/completions", "completions", "embeddings", "batches")}
BODY = CASES["chat"]["call"]["params"]
_numbers = count(1)


class Run:
    """One case, played by hand: requests with the headers that it wants, unless they are given."""

    def __init__(self, server, case):
        self.address = urlsplit(server)
        self.prefix = f"/by-hand-{next(_numbers)}/{case}"
        self.key = None

    def connect(self):
        return closing(socket.create_connection((self.address.hostname, self.address.port), timeout=10))

    def send(self, connection, path="/v1/chat/completions", body=BODY, *, method="POST", **headers):
        """``body`` as JSON, or as it is. A header that is None is left out."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "authorization": f"Bearer {KEY}",
            "user-agent": "helixflow-python/1.1.0",
            "content-type": "application/json",
            "content-length": str(len(data)),
        }
        if method == "POST" and (path in BODIES or path.endswith("/retry")):
            sent["idempotency-key"] = f"auto-00000000-0000-0000-0000-{next(_numbers):012}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.key = sent.get("idempotency-key")
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in sent.items() if value),
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def ask(self, *arguments, **named):
        """The answer, on a connection of its own."""
        with self.connect() as connection:
            self.send(connection, *arguments, **named)
            return received(connection)

    @property
    def complaints(self):
        return json.loads(self.ask("/verdict", b"", method="GET").partition(b"\r\n\r\n")[2])["complaints"]


def received(connection):
    """All bytes of an answer, or what came until it was cut."""
    got = b""
    try:
        while not whole(got) and (part := connection.recv(65536)):
            got += part
    except ConnectionResetError:
        pass
    return got


def whole(answer):
    head, blank, body = answer.partition(b"\r\n\r\n")
    if found := re.search(rb"content-length: (\d+)", head):
        return bool(blank) and len(body) == int(found[1])
    return body.endswith(b"0\r\n\r\n")


@pytest.fixture
def run(contract_server):
    return lambda case: Run(contract_server, case)


def test_what_a_case_wants_is_no_complaint(run):
    chat = run("chat")
    head, _, body = chat.ask().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"x-request-id: req_contract_1" in head
    assert json.loads(body) == CASES["chat"]["exchanges"][0]["answer"]["json"]
    assert chat.complaints == []


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ({"authorization": "Bearer another"}, "authorization is 'Bearer another'"),
        ({"authorization": None}, "authorization is None"),
        ({"user_agent": "curl/8"}, "user-agent is 'curl/8'"),
        ({"content_type": "text/plain"}, "content-type is 'text/plain'"),
        ({"idempotency_key": None}, "idempotency-key is None"),
        ({"idempotency_key": "17"}, "idempotency-key is '17'"),
        ({"method": "PUT"}, "it is PUT /v1/chat/completions, not POST"),
        ({"path": "/v1/chat"}, "it is POST /v1/chat, not POST /v1/chat/completions"),
        ({"path": "/v1/chat/completions?a=1"}, 'the query is {"a": "1"}, not {}'),
        ({"body": BODY | {"n": None}}, "body.n is not expected: null"),
        ({"body": BODY | {"model": "gpt-4"}}, 'body.model is "gpt-4", not "gpt-3.5-turbo"'),
        ({"body": {"model": BODY["model"]}}, "body.messages is missing"),
        ({"body": b"{"}, "the body is not JSON"),
    ],
)
def test_what_differs_is_named(run, named, complaint):
    chat = run("chat")
    chat.ask(**named)
    assert any(each.startswith(f"exchange 1: {complaint}") for each in chat.complaints)


def test_requests_are_counted(run):
    chat = run("chat")
    assert chat.complaints == ["there were 0 requests, not 1"]
    chat.ask()
    assert chat.ask().startswith(b"HTTP/1.1 400 ")
    assert chat.complaints == ["exchange 2: a request too many: POST /v1/chat/completions"]


def test_a_retry_has_the_key_of_the_first_try(run):
    retried, again, twice = run("retry-rate-limit"), run("retry-rate-limit"), run("two-calls")
    retried.ask()
    retried.ask(idempotency_key=retried.key)
    assert retried.complaints == []
    again.ask()
    again.ask()
    assert "as before" in again.complaints[0]
    twice.ask()
    twice.ask(idempotency_key=twice.key)
    assert twice.complaints == ["exchange 2: the idempotency-key was used for another call"]


def test_a_reader_that_stays_is_complained_of(run):
    stays, leaves = run("stream-left-early"), run("stream-left-early")
    body = CASES["stream-left-early"]["call"]["params"]
    for case in (stays, leaves):
        with case.connect() as connection:
            case.send(connection, body=body)
            assert connection.recv(100)
            if case is leaves:
                connection.close()
            assert case.complaints == (
                ["exchange 1: the connection is still open 2.0 s later"] if case is stays else []
            )


def test_a_key_taken_elsewhere_is_complained_of(run):
    case = run("redirect")
    [location] = re.findall(r"location: (\S+)", case.ask().decode())
    elsewhere = urlsplit(location)
    with closing(socket.create_connection((elsewhere.hostname, elsewhere.port), timeout=10)) as connection:
        connection.sendall(f"GET {elsewhere.path} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        received(connection)
    assert case.complaints == ["another origin was called with the key: GET /v1/chat/completions"]


def test_a_file_that_differs_is_complained_of(run):
    case = run("files-create")
    case.ask("/v1/files", form({"purpose": "fun", "file": {"filename": "prompts.jsonl", "text": "{}\n"}}), **FORM)
    assert [each.partition(" is ")[0] for each in case.complaints] == [
        "exchange 1: part purpose",
        "exchange 1: the file",
    ]


FORM = {"content_type": "multipart/form-data; boundary=limit"}


def form(parts):
    written = []
    for name, part in parts.items():
        if isinstance(part, str):
            file, text = "", part
        else:
            filename = "x.jsonl" if part["filename"].startswith("^") else part["filename"]
            file = f'; filename="{filename}"'
            text = part.get("text") or lines(**part["lines"])
        written.append(f'--limit\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{text}\r\n')
    return "".join([*written, "--limit--\r\n"]).encode()


def lines(each, **repeat):
    text = json.dumps(each)
    return "".join(text.replace("{n}", str(number)) + "\n" for number in range(1, repeat["$repeat"] + 1))


def test_every_case_can_be_played_as_it_is_written(run):
    """One that asks exactly what a case expects hears no complaint. It finds slips of the pen in cases."""
    for name, case in CASES.items():
        played = run(name)
        for exchange in case["exchanges"]:
            play(played, case["call"].get("params", {}), **exchange)
        assert (case["name"], played.complaints) == (name, [])


def play(played, params, expect, answer):
    path = expect["path"].replace("(\\.\\.|%2E%2E)", "..").replace("(=|%3D)", "=").strip("^$")
    method = expect.get("method", "POST" if path in BODIES else "GET")
    headers = {name.replace("-", "_"): text for name, text in expect.get("headers", {}).items()}
    if headers.get("idempotency_key") == "same":
        headers["idempotency_key"] = played.key
    body = expect.get("body", params if method == "POST" and path in BODIES else None)
    if "multipart" in expect:
        body = form(expect["multipart"])
        headers |= FORM
    query = f"?{urlencode(expect['query'])}" if "query" in expect else ""
    with played.connect() as connection:
        played.send(connection, path + query, b"" if body is None else body, method=method, **headers)
        if not answer.get("leaves"):
            received(connection)
        elif "status" in answer:
            assert connection.recv(100)
