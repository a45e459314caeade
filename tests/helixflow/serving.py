"""Runs the real server in a process of its own, and talks to it over a raw socket."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from helixflow.server.protocol import Limits
from helixflow.server.workers import Options, run

ROOT = Path(__file__).parent.parent.parent
APP = "tests.helixflow.misbehaving_app:app"


@dataclass
class Served:
    process: "subprocess.Popen[str]"
    port: int
    log: list[str] = field(default_factory=list)

    def connect(self, **options: int) -> "Raw":
        return Raw(self.port, **options)

    def ask(self, request: bytes) -> "Answer":
        with self.connect() as raw:
            raw.send(request)
            return raw.answer()

    def get(self, path: str) -> "Answer":
        return self.ask(get(path))

    def stop(self, *, seconds: float = 15) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@dataclass
class Answer:
    head: str
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = (line.partition(": ") for line in self.head.split("\r\n")[1:])
        return {name.lower(): value for name, _, value in lines}

    def json(self):
        return json.loads(self.body)


class Raw:
    """A client that does what it is told, and nothing that HTTP says."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def push(self, data: bytes) -> None:
        """Send what the server takes; it may hang up meanwhile."""
        try:
            self.socket.sendall(data)
        except OSError:
            return

    def push_aside(self, *parts: bytes, every_s: float = 0) -> None:
        """``push`` each part in turn while the caller reads."""

        def push_all() -> None:
            for part in parts:
                time.sleep(every_s)
                self.push(part)

        threading.Thread(target=push_all, daemon=True).start()

    def more(self) -> bool:
        data = self.socket.recv(65_536)
        self.rest += data
        return bool(data)

    def answer(self, *, head_only: bool = False) -> Answer:
        while b"\r\n\r\n" not in self.rest:
            assert self.more(), f"hung up after {self.rest[:200]!r}"
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        answer = Answer(head.decode("latin-1"), b"")
        if head_only:
            return answer
        if "content-length" in answer.headers:
            answer.body = self.take(int(answer.headers["content-length"]))
        elif answer.headers.get("transfer-encoding") == "chunked":
            while size := int(self.line(), 16):
                answer.body += self.take(size)
                self.line()
            self.line()
        elif answer.status not in {204, 304}:
            answer.body = self.until_closed()
        return answer

    def take(self, size: int) -> bytes:
        while len(self.rest) < size:
            assert self.more(), "cut off"
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def line(self) -> bytes:
        while b"\r\n" not in self.rest:
            assert self.more(), "cut off"
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def until_closed(self) -> bytes:
        try:
            while self.more():
                pass
        except ConnectionError:
            pass
        rest, self.rest = self.rest, b""
        return rest


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


def post(path: str, body: bytes, *headers: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body


@contextmanager
def started(command: list[str], env: dict[str, str] | None = None) -> Iterator[Served]:
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stderr=subprocess.PIPE, env=os.environ | (env or {}), start_new_session=True
    )
    try:
        yield follow(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def follow(process: "subprocess.Popen[str]") -> Served:
    """Waits for the port in the log, then for an answer, and keeps the log."""
    served = Served(process, 0)
    assert process.stderr is not None
    for line in process.stderr:
        served.log.append(line)
        if found := re.search(r"serving http://[^ ]*:(\d+) ", line):
            served.port = int(found[1])
            break
    else:
        raise AssertionError("".join(served.log))
    reader = threading.Thread(target=served.log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    wait_for(lambda: answers(served.port) or process.poll() is not None)
    if process.poll() is not None:
        reader.join()
        raise AssertionError("".join(served.log))
    return served


def answers(port: int) -> bool:
    try:
        with Raw(port) as raw:
            raw.send(get("/livez"))
            return raw.more()
    except OSError:
        return False


def wait_for(condition, *, seconds: float = 15) -> float:
    """How long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited too long"
        time.sleep(0.02)
    return time.monotonic() - start


@contextmanager
def server(app: str = APP, *, workers: int = 1, grace_s: float = 1, **limits: Any) -> Iterator[Served]:
    with started(server_command(app, workers=workers, grace_s=grace_s, **limits)) as served:
        wait_for(lambda: "".join(served.log).count("Application startup complete") == workers)
        yield served


def server_command(app: str = APP, *, workers: int = 1, grace_s: float = 1, **limits: Any) -> list[str]:
    options = json.dumps({"workers": workers, "grace_s": grace_s, "limits": limits})
    return [sys.executable, "-m", "tests.helixflow.serving", app, options]


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO)
    chosen = json.loads(sys.argv[2])
    sys.exit(run(sys.argv[1], Options(port=0, **chosen | {"limits": Limits(**chosen["limits"])})))
