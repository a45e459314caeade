"""The receivers that the docs and the catalogue show, as shown: plain Python, JavaScript and Go."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import requests
from django.template.loader import render_to_string
from django.utils import timezone

from helixflow.lib import crypto
from helixflow.stack.embedded import free_port
from tests import factories, golang
from tests.requirements import require_program
from tests.stack import wait_for
from webhooks import payloads, sending, signing
from webhooks.models import EventType

pytestmark = pytest.mark.timeout(300)  # one of them waits for Go's compiler

SECRET: Final = signing.new_secret()
OLD_SECRET: Final = signing.new_secret()
NEW_SECRET: Final = signing.new_secret()
BODY: Final = payloads.body(
    event_type="completion.created",
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    data=payloads.example(EventType.COMPLETION_CREATED, "org-1") | {"end_user": "Zoë \u2028 😀"},
)


def python(program: str, folder: Path) -> list[str]:
    (folder / "receiver.py").write_text(program)
    return [sys.executable, "receiver.py"]


def javascript(program: str, folder: Path) -> list[str]:
    (folder / "receiver.mjs").write_text(program)
    return [require_program("node"), "receiver.mjs"]


def go(program: str, folder: Path) -> list[str]:
    """Built, since `go run` would leave a process of its own behind; the standard library with it, which takes long."""
    (folder / "receiver.go").write_text(program)
    golang.go("build", "-o", "receiver", "receiver.go", folder=folder)
    return ["./receiver"]


@dataclass(frozen=True)
class Program:
    command: list[str]
    folder: Path


@dataclass(frozen=True)
class Receiver:
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def post(self, headers: dict[str, str], body: bytes = BODY) -> int:
        url = f"http://127.0.0.1:{self.port}/hooks"
        own = {"Content-Type": "application/json"}
        return requests.post(url, data=body, headers=own | headers, timeout=20).status_code

    def heard(self, event_id: str) -> int:
        """How often it worked on this event."""
        return sum(line.startswith(f"{event_id} completion.created ") for line in self.output.splitlines())


@contextmanager
def started(program: Program, secret: str) -> Iterator[Receiver]:
    port = free_port()
    log = program.folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            program.command,
            cwd=program.folder,
            env=os.environ | {"HELIXFLOW_WEBHOOK_SECRET": secret, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Receiver(process, port, log)
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module", params=[python, javascript, go], ids=lambda build: build.__name__)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    build: Callable[[str, Path], list[str]] = request.param
    folder = tmp_path_factory.mktemp("receiver")
    text = render_to_string(f"snippets/webhook.{build.__name__}.txt")
    return Program(build(text, folder), folder)


@pytest.fixture(scope="module")
def receiver(program: Program) -> Iterator[Receiver]:
    """It knows SECRET."""
    with started(program, SECRET) as receiver:
        wait_for(lambda: receiver.is_up() or receiver.process.poll() is not None, what="the receiver")
        assert receiver.process.poll() is None, receiver.output
        yield receiver
        assert receiver.process.poll() is None, receiver.output


def signed(
    event_id: str = "evt_1",
    *,
    body: bytes = BODY,
    age_s: float = 0,
    secret: str = SECRET,
    previous_secret: str | None = None,
) -> dict[str, str]:
    return signing.headers(
        body=body,
        event_id=event_id,
        timestamp=int(time.time() - age_s),
        secret=secret,
        previous_secret=previous_secret,
    )


@pytest.mark.django_db
def test_what_is_really_sent_is_accepted(receiver, endpoint, settings):
    """Through the queue, from the row as PostgreSQL gives it back; before, during and after a rotation."""
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    endpoint.url = f"http://127.0.0.1:{receiver.port}/hooks"
    for secret, previous_secret in ((SECRET, None), (SECRET, OLD_SECRET), (NEW_SECRET, SECRET)):
        endpoint.sealed_secret = crypto.encrypt(secret)
        if previous_secret:
            endpoint.sealed_previous_secret = crypto.encrypt(previous_secret)
            endpoint.rotation_ends_at = timezone.now() + timedelta(hours=1)
        endpoint.save()
        delivery = factories.delivery(endpoint, data=json.loads(BODY)["data"])
        assert sending.work(endpoint.id) == 1
        delivery.refresh_from_db()
        assert (delivery.state, delivery.last_status) == ("succeeded", 204)
        wait_for(partial(receiver.heard, delivery.event.public_id), what="the event")


@pytest.mark.parametrize("age_s", [0, 200, -200])
def test_a_genuine_message_is_accepted(receiver, age_s):
    assert receiver.post(signed(age_s=age_s)) == 204


@pytest.mark.parametrize("age_s", [400, -400, 400_000_000])
def test_a_stale_message_is_refused(receiver, age_s):
    assert receiver.post(signed(age_s=age_s)) == 400


@pytest.mark.parametrize(
    "body",
    [BODY[:-1], BODY[: len(BODY) // 2], b"", BODY + b"\n", BODY.replace(b"completion.created", b"completion.failed")],
    ids=["truncated", "half", "empty", "longer", "changed"],
)
def test_another_body_than_was_signed_is_refused(receiver, body):
    assert receiver.post(signed(), body) == 400


def test_a_body_that_breaks_off_is_refused_and_harms_nobody(receiver):
    headers = signed("evt_broken") | {"Host": "127.0.0.1", "Content-Length": str(len(BODY))}
    head = "POST / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as caller:
        caller.sendall(f"{head}\r\n".encode() + BODY[:-5])
        caller.shutdown(socket.SHUT_WR)
        answer = caller.recv(1000)
    assert b" 204 " not in answer
    assert receiver.post(signed()) == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": ""},
        {"webhook-id": "evt_2"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "²"},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": "-1"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1," + "A" * 43 + "="},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_a_forged_message_is_refused(receiver, headers):
    forged = signed() | {name: value.encode("latin-1") for name, value in headers.items()}
    assert receiver.post(forged if headers else {}) == 400


def test_the_signature_of_another_version_is_refused(receiver):
    headers = signed()
    assert receiver.post(headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}) == 400


def test_another_endpoints_secret_is_refused(receiver):
    assert receiver.post(signed(secret=OLD_SECRET)) == 400


def test_a_rotation_interrupts_neither_who_has_the_new_secret_nor_who_has_the_old(receiver):
    assert receiver.post(signed(secret=NEW_SECRET, previous_secret=SECRET)) == 204
    assert receiver.post(signed(secret=SECRET, previous_secret=OLD_SECRET)) == 204
    assert receiver.post(signed(secret=NEW_SECRET, previous_secret=OLD_SECRET)) == 400


def test_an_event_that_comes_twice_is_worked_on_once(receiver):
    for event_id in ("evt_twice", "evt_twice", "evt_last"):
        assert receiver.post(signed(event_id)) == 204
    wait_for(lambda: receiver.heard("evt_last"), what="the last event")
    assert receiver.heard("evt_twice") == 1


def test_what_is_refused_is_not_worked_on(receiver):
    assert receiver.post(signed("evt_forged", secret=OLD_SECRET)) == 400
    assert receiver.post(signed("evt_after")) == 204
    wait_for(lambda: receiver.heard("evt_after"), what="the event after it")
    assert receiver.heard("evt_forged") == 0


def test_an_endless_body_is_cut(receiver):
    body = b"[" + b"0," * 1_000_000 + b"0]"
    with suppress(requests.ConnectionError):  # where it hangs up before all of it was sent
        assert receiver.post(signed(body=body), body) == 400
    assert receiver.post(signed()) == 204


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ="])
def test_without_a_whole_secret_it_does_not_start(program, secret):
    """With an empty one anybody could sign."""
    with started(program, secret) as receiver:
        assert receiver.process.wait(30) != 0
    assert "HELIXFLOW_WEBHOOK_SECRET must be" in receiver.output
