"""Processes to be killed, stopped and started again, callers, and what must be true when all is over."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from django.conf import settings

from billing.metering import rollups
from billing.models import UsageRecord
from billing.settling.reaper import Reaper
from billing.settling.settle import heartbeat_key
from helixflow.lib import ids, redis
from helixflow.stack import embedded
from tests import web
from tests.billing.admitting import Account, drain, read_stream
from tests.billing.usage_events import sums, trimmed
from tests.factories import MODEL
from tests.fakes import answers
from tests.fakes.behaviours import Call
from tests.stack import wait_for

PATIENCE_S = 90.0
PATIENT = {"HELIXFLOW_REDIS_BUDGET_MS": "2000"}  # where Redis stays, a busy machine must not look like a dead one
METER = [sys.executable, "manage.py", "meter"]


class Server:
    """One of the embedded servers, on a folder of its own."""

    def __init__(self, service: embedded.Service) -> None:
        self.service = service

    @property
    def url(self) -> str:
        return self.service.url

    def start(self) -> None:
        """What a killed PostgreSQL leaves behind can be in the way for a moment: it is tried again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._start_once()
                return
            except embedded.EmbeddedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _start_once(self) -> None:
        self.service.prepare()
        self.process = subprocess.Popen(
            self.service.command,
            cwd="/",
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.service.identity,
        )
        embedded.wait_until_ready(self.service, self.process, seconds=PATIENCE_S)

    def kill(self) -> None:
        """As a power cut does, and its children with it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Valkey(Server):
    """What it has written survives ``kill``, since the machine goes on. A power cut takes the last second with it."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(embedded.valkey(data_dir, port=embedded.free_port()))
        self._folder = data_dir / "valkey" / "appendonlydir"

    @property
    def written_bytes(self) -> int:
        return self._newest().stat().st_size

    def cut_power(self, *, since_bytes: int) -> None:
        """All that was written since there were ``since_bytes`` is lost."""
        self.kill()
        os.truncate(self._newest(), since_bytes)

    def _newest(self) -> Path:
        return max(self._folder.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """That of processes with a data directory of their own, but the secrets of this one. Redis is waited for 50 ms."""
    return {
        "HELIXFLOW_DATA_DIR": str(data_dir),
        "HELIXFLOW_SECRET_KEY": settings.SECRET_KEY,
        "HELIXFLOW_JWT_KEY": settings.JWT_KEY,
        "HELIXFLOW_ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "HELIXFLOW_KEY_PEPPERS": ",".join(settings.KEY_PEPPERS),
        "HELIXFLOW_REDIS_BUDGET_MS": "50",
        **more,
    }


@contextmanager
def running_meter(data_dir: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``manage.py meter``; killed at the end, as nothing is owed to it. That it ended by itself is an error."""
    path = data_dir / "meter.log"
    with path.open("ab") as log:
        process = subprocess.Popen(
            METER,
            cwd=web.ROOT,
            env=_environment_of_meters(data_dir),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        code = process.wait()
    assert code == -signal.SIGKILL, path.read_text()


def run_meter(data_dir: Path, *arguments: str) -> None:
    """To its end."""
    subprocess.run(
        [*METER, *arguments], cwd=web.ROOT, env=_environment_of_meters(data_dir), check=True, timeout=PATIENCE_S
    )


def _environment_of_meters(data_dir: Path) -> dict[str, str]:
    return web.environment_on(1, "http://127.0.0.1", 1) | environment(data_dir)


# Callers


def served(ask: Callable[[], requests.Response]) -> requests.Response:
    """The answer of ``ask``, tried again as a client does: on a busy machine Redis may be too slow for a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := ask()).status_code == 503 and time.monotonic() < deadline:
        time.sleep(float(answer.headers["retry-after"]))
    return answer


def chat(running: web.Web, token: str, **options: Any) -> requests.Response:
    """On a connection of its own."""
    return requests.post(
        f"{running.url}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]} | options,
        headers={"Authorization": f"Bearer {token}", "Connection": "close"},
        timeout=PATIENCE_S,
    )


def request_id(response: requests.Response) -> uuid.UUID:
    return ids.parse_public_id(ids.REQUEST, response.headers["x-request-id"])


class Stream:
    """A streamed call that is under way."""

    def __init__(self, running: web.Web, token: str) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        sent = json.dumps(body).encode()
        self.socket = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S)
        self.text = b""
        self.socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token.encode(), len(sent), sent)
        )

    def read_until(self, what: bytes) -> None:
        while what not in self.text:
            part = self.socket.recv(65_536)
            assert part, self.text
            self.text += part

    def read_to_its_end(self) -> bytes:
        try:
            while part := self.socket.recv(65_536):
                self.text += part
        except ConnectionResetError:
            pass
        self.socket.close()
        return self.text


class Gate:
    """A behaviour of the upstream: a stream that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.is_open = False

    async def behaviour(self, call: Call) -> None:
        frames = answers.frames(call.body)
        await call.begin_stream()
        for number, frame in enumerate(frames):
            while number == 3 and not self.is_open:
                await asyncio.sleep(0.02)
            await call.part(frame)
        await call.end_stream()


# Gateways that are gone


def reap() -> int:
    """At once: as if their heartbeats had run out long ago."""
    client: Any = redis.sync_client()
    for key in client.keys(heartbeat_key("*")):
        client.delete(key)
    return Reaper(grace_s=0).run_once()


# The end


def until_known(account: Account, request_ids: set[uuid.UUID]) -> None:
    """Every one of these is settled, and nothing is under way."""

    def known() -> bool:
        if account.notes():
            return False
        told = {entry.event.id for _, entry in read_stream(account.tag)}
        return request_ids <= told | {record.id for record in account.records()}

    wait_for(known, seconds=PATIENCE_S, what="not all of it was settled")


def until_agreed(account: Account, ask: Callable[[], requests.Response]) -> None:
    """The counter says what the ledger does. ``ask`` makes a request, with which a lost counter is made anew."""

    def agree() -> bool:
        if account.used() is None:
            answer = ask()
            if answer.status_code != 429:
                until_known(account, {request_id(answer)})
        drain()
        return not account.stream() and account.used() == sum(record.units for record in account.records())

    wait_for(agree, seconds=PATIENCE_S, what="the counter and the ledger disagree")


def check_books(account: Account, running: web.Web, request_ids: set[uuid.UUID]) -> dict[uuid.UUID, UsageRecord]:
    """One record each, sums that are those of the records, and a counter that says the same. Returns the records."""
    until_known(account, request_ids)
    until_agreed(account, lambda: chat(running, account.key.token))
    check_sums()
    records = {record.id: record for record in account.records()}
    assert request_ids <= set(records)
    return records


def check_sums() -> None:
    rollup = rollups.Rollup()
    for record in UsageRecord.objects.all():
        rollup.add(record)
    hours = {
        key: (
            *(row.requests, row.units, row.failures, row.prompt_tokens, row.cached_tokens, row.completion_tokens),
            *(row.cost, trimmed(row.duration_histogram), trimmed(row.first_token_histogram)),
        )
        for key, row in rollup.hours.items()
    }
    months = {key: (row.requests, row.units, row.cost) for key, row in rollup.months.items()}
    assert sums() == (hours, months)
