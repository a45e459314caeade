"""Plays the server's part of the contract's cases (README.md beside this) and complains of what it was not to be asked.

    python sdks/contract/server.py [--cases FOLDER]

prints ``{"port": n}`` and serves on loopback until its standard input is closed. Standard library only.
"""

import argparse
import asyncio
import base64
import contextlib
import email
import email.policy
import email.utils
import json
import re
import socket
import struct
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

KEY = "hflow_contract_key_that_opens_nothing"
BODIES = {f"/v1/{path}" for path in ("chat/completions", "completions", "embeddings", "batches")}
IDEMPOTENT = re.compile(rf"({'|'.join(BODIES)}|/v1/batches/[^/]+/retry)$")
AUTO_KEY = r"^auto-[0-9a-f]{8}-[0-9a-f-]{27}$"
USER_AGENT = r"^helixflow-(python|javascript|go)/[0-9]"
LEAVES_WITHIN_S = 2.0
VERDICT_WITHIN_S = 3.0
MAX_HEAD = 64 * 1024


def expand(value):
    """``value`` with every ``{"$repeat": count, "each": …}`` in it as the list it stands for."""
    if isinstance(value, dict):
        if "$repeat" in value:
            first = value.get("from", 1)
            return [_numbered(value["each"], number) for number in range(first, first + value["$repeat"])]
        return {name: expand(inner) for name, inner in value.items()}
    return [expand(inner) for inner in value] if isinstance(value, list) else value


def _numbered(value, number):
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, dict):
        return {name: _numbered(inner, number) for name, inner in value.items()}
    return [_numbered(inner, number) for inner in value] if isinstance(value, list) else value


def differences(expected, got, where):
    """Texts on what differs. Numbers are compared as JSON's, so 1 and 1.0 are one, and true is none."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in expected.keys() | got.keys():
            if name not in got:
                yield f"{where}.{name} is missing"
            elif name not in expected:
                yield f"{where}.{name} is not expected: {_short(got[name])}"
            else:
                yield from differences(expected[name], got[name], f"{where}.{name}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, pair in enumerate(zip(expected, got)):
            yield from differences(*pair, f"{where}.{index}")
    elif expected != got or isinstance(expected, bool) != isinstance(got, bool):
        yield f"{where} is {_short(got)}, not {_short(expected)}"


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else f"{text[:300]}…"


def matches(pattern, value):
    return bool(re.search(pattern, value)) if pattern.startswith("^") else pattern == value


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        parts = urlsplit(target)
        _, self.run, self.case, *rest = [*parts.path.split("/"), "", ""]
        self.path = "/" + "/".join(rest).rstrip("/")
        self.query = parse_qsl(parts.query, keep_blank_values=True)
        self.headers = headers
        self.body = body


class Play:
    """One case in one run: what was asked so far, and what is wrong with it."""

    def __init__(self, case):
        self.case = case
        self.params = expand(case["call"].get("params", {}))
        self.asked = 0
        self.complaints = []
        self.under_way = set()
        self._keys = {}  # idempotency keys so far, with the body each came with
        self._before = {}  # the headers of the exchange before

    def next(self, request):
        """The number of this exchange, from 1, and its answer; None if there is none left."""
        self.asked += 1
        if self.asked > len(self.case["exchanges"]):
            self.complain(f"a request too many: {request.method} {request.path}")
            return self.asked, None
        exchange = self.case["exchanges"][self.asked - 1]
        for complaint in self._check(exchange["expect"], request):
            self.complain(complaint)
        self._before = request.headers
        return self.asked, expand(exchange["answer"])

    def complain(self, what):
        self.complaints.append(f"exchange {self.asked}: {what}")

    def _check(self, expect, request):
        method = expect.get("method", "POST" if expect["path"] in BODIES else "GET")
        if request.method != method or not matches(expect["path"], request.path):
            yield f"it is {request.method} {request.path}, not {method} {expect['path']}"
        query = expect.get("query", {})
        if sorted(request.query) != sorted(query.items()):
            yield f"the query is {_short(dict(request.query))}, not {_short(query)}"
        yield from self._check_headers(expect, request)
        yield from self._check_body(expect, request)

    def _check_headers(self, expect, request):
        key = self.case.get("client", {}).get("api_key", KEY)
        wanted = {"authorization": f"Bearer {key}", "user-agent": USER_AGENT}
        idempotent = request.method == "POST" and IDEMPOTENT.match(request.path)
        if idempotent:
            wanted["idempotency-key"] = AUTO_KEY
        wanted |= expect.get("headers", {})
        for name, pattern in wanted.items():
            got = request.headers.get(name)
            if pattern == "same":
                pattern = self._before.get(name)
                if pattern is not None and got != pattern:
                    yield f"{name} is {got!r}, not {pattern!r} as before"
            elif (pattern is None) != (got is None) or (got is not None and not matches(pattern, got)):
                yield f"{name} is {got!r}, not {pattern!r}"
        key = request.headers.get("idempotency-key")
        if idempotent and key is not None:
            if wanted["idempotency-key"] == AUTO_KEY and key in self._keys:
                yield "the idempotency-key was used for another call"
            if self._keys.setdefault(key, request.body) != request.body:
                yield "the body differs from that sent under the same idempotency-key"

    def _check_body(self, expect, request):
        if "multipart" in expect:
            yield from _check_multipart(expand(expect["multipart"]), request)
            return
        wanted = expect.get("body", self.params if request.method == "POST" and request.path in BODIES else None)
        if wanted is None:
            if request.body not in (b"", b"{}"):
                yield f"a body is not expected: {request.body[:300]!r}"
            return
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            yield f"content-type is {request.headers.get('content-type')!r}, not 'application/json'"
        try:
            got = json.loads(request.body)
        except ValueError:
            yield f"the body is not JSON: {request.body[:300]!r}"
        else:
            yield from differences(expand(wanted), got, "body")


def _check_multipart(expected, request):
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    if message.get_content_type() != "multipart/form-data":
        yield f"the body is {message.get_content_type()}, not multipart/form-data"
        return
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    if parts.keys() != expected.keys():
        yield f"the parts are {sorted(map(str, parts))}, not {sorted(expected)}"
        return
    for name, wanted in expected.items():
        content = parts[name].get_payload(decode=True).decode()
        if isinstance(wanted, str):
            if content != wanted:
                yield f"part {name} is {_short(content)}, not {_short(wanted)}"
            continue
        if not matches(wanted["filename"], parts[name].get_filename() or ""):
            yield f"the file's name is {parts[name].get_filename()!r}, not {wanted['filename']!r}"
        if "text" in wanted and content.replace("\r\n", "\n") != wanted["text"]:
            yield f"the file is {_short(content)}, not {_short(wanted['text'])}"
        if "lines" in wanted:
            lines = [json.loads(line) for line in content.split("\n") if line]
            if len(lines) != len(wanted["lines"]):
                yield f"the file has {len(lines)} lines, not {len(wanted['lines'])}"
            yield from [*differences(wanted["lines"], lines, "line")][:5]


def body_of(answer):
    """The writes that make an answer's body, and its content type."""
    if "json" in answer:
        writes, kind = [json.dumps(answer["json"], ensure_ascii=False).encode()], "application/json"
    elif "events" in answer:
        texts = (each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in answer["events"])
        writes, kind = [f"data: {text}\n\n".encode() for text in texts], "text/event-stream"
    elif "pieces" in answer:
        writes, kind = [piece.encode() for piece in answer["pieces"]], "text/event-stream"
    elif "pieces_base64" in answer:
        writes, kind = [base64.b64decode(piece) for piece in answer["pieces_base64"]], "text/event-stream"
    else:
        writes, kind = [answer.get("text", "").encode()], "text/plain; charset=utf-8"
    if size := answer.get("bytes_at_a_time"):
        whole = b"".join(writes)
        writes = [whole[at : at + size] for at in range(0, len(whole), size)]
    return writes, kind


class Server:
    def __init__(self, cases):
        self.cases = {path.stem: path for path in Path(cases).glob("*.json")}
        self.plays = {}
        self.port = self.other_port = 0

    async def start(self):
        main = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=MAX_HEAD)
        other = await asyncio.start_server(self.serve_other, "127.0.0.1", 0, limit=MAX_HEAD)
        self.port, self.other_port = (server.sockets[0].getsockname()[1] for server in (main, other))
        return main, other

    def play(self, request):
        """The play that a request belongs to; None if there is no such case."""
        if request.case not in self.cases:
            return None
        name = (request.run, request.case)
        if name not in self.plays:
            self.plays[name] = Play(json.loads(self.cases[request.case].read_text("utf-8")))
        return self.plays[name]

    async def serve(self, reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await read_request(reader)) is not None:
                if not await self.respond(request, reader, writer):
                    break
        writer.close()

    async def serve_other(self, reader, writer):
        """Another origin: nobody has reason to call it, least of all with a key."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if (request := await read_request(reader)) is not None and (play := self.play(request)) is not None:
                key = " with the key" if "authorization" in request.headers else ""
                play.complaints.append(f"another origin was called{key}: {request.method} {request.path}")
                await write(writer, 200, {"content-type": "application/json"}, [b"{}"])
        writer.close()

    async def respond(self, request, reader, writer):
        """Whether the connection can be used again."""
        play = self.play(request)
        if play is None:
            await write_json(writer, 404, {"error": {"code": "no_such_case", "message": f"No case {request.case!r}."}})
            return True
        if request.path == "/verdict":
            await write_json(writer, 200, await self.verdict(play))
            return True
        number, answer = play.next(request)
        if answer is None:
            await write_json(writer, 400, {"error": {"code": "too_many", "message": "A request too many."}})
            return True
        token = object()
        play.under_way.add(token)
        try:
            return await self.answer(play, number, answer, reader, writer)
        finally:
            play.under_way.discard(token)

    async def answer(self, play, number, answer, reader, writer):
        await asyncio.sleep(answer.get("delay_ms", 0) / 1000)
        if "status" in answer:
            writes, kind = body_of(answer)
            headers = {"content-type": kind, "x-request-id": f"req_contract_{number}"}
            headers |= {name.lower(): value for name, value in answer.get("headers", {}).items()}
            headers = {name: self.filled(value, play) for name, value in headers.items() if value is not None}
            endless = bool(answer.get("cut") or answer.get("leaves"))
            chunked = kind == "text/event-stream"
            pause_s = answer.get("pause_ms", 2) / 1000
            try:
                await write(
                    writer, answer["status"], headers, writes, chunked=chunked, endless=endless, pause_s=pause_s
                )
            except ConnectionError:
                return False  # the client left, which only `leaves` asks for; too few chunks show in the outcome
        if answer.get("leaves"):
            await self.wait_until_left(play, number, reader)
            return False
        if answer.get("cut") == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return "status" in answer and not answer.get("cut")

    async def wait_until_left(self, play, number, reader):
        with contextlib.suppress(ConnectionError):
            try:
                await asyncio.wait_for(reader.read(1), LEAVES_WITHIN_S)
            except asyncio.TimeoutError:
                play.complaints.append(f"exchange {number}: the connection is still open {LEAVES_WITHIN_S} s later")

    async def verdict(self, play):
        deadline = time.monotonic() + VERDICT_WITHIN_S
        while play.under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        complaints = list(play.complaints)
        if play.asked < (wanted := len(play.case["exchanges"])):
            complaints.append(f"there were {play.asked} requests, not {wanted}")
        if play.under_way:
            complaints.append("an exchange did not end")
        return {"complaints": complaints}

    def filled(self, value, play):
        def date(match):
            return email.utils.formatdate(time.time() + int(match[1]), usegmt=True)

        other = f"http://127.0.0.1:{self.other_port}/elsewhere/{play.case['name']}"
        if "{other}" in value:
            self.plays["elsewhere", play.case["name"]] = play
        return re.sub(r"\{http-date\+(\d+)\}", date, value).replace("{other}", other)


async def read_request(reader):
    """None when the connection ends between requests."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


async def write(writer, status, headers, writes, *, chunked=False, endless=False, pause_s=0.0):
    """One answer, in the given writes. ``endless``: the body has no proper end, so what follows is a cut."""
    length = sum(map(len, writes)) + (1 if endless else 0)
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {length}"
    if status in (204, 304):
        framing = "server: contract"
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items()), framing]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    writer.write(head)
    for data in writes:
        if writer.is_closing():
            raise ConnectionResetError
        writer.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked and data else data)
        await writer.drain()
        await asyncio.sleep(pause_s)
    if chunked and not endless:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def write_json(writer, status, value):
    await write(writer, status, {"content-type": "application/json"}, [json.dumps(value).encode()])


async def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", default=Path(__file__).with_name("cases"), help="the folder of the cases")
    server = Server(parser.parse_args().cases)
    await server.start()
    print(json.dumps({"port": server.port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
