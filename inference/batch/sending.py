"""One request of a batch over HTTP to the gateway, as any caller sends it; and the threads that do so side by side.

urllib3 without requests on top: one pool that all threads share, with connections that are kept alive, at a third of
the processor time, and deaf to proxies in the environment. Nothing here knows of PostgreSQL.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import urllib3
from django.conf import settings

from helixflow.lib import ids
from inference import relay
from inference.batch import sealing
from inference.batch.sealing import Box
from inference.batch_models import BatchItem

MAX_ANSWER: Final = relay.MAX_ANSWER + 1024 * 1024  # what the gateway takes from an upstream, in its own words
TIMEOUT_S: Final = 600  # which the gateway keeps
READ_S: Final = TIMEOUT_S + 30
CONNECT_S: Final = 5
CONNECTIONS: Final = 256  # kept; more are made where they are needed
USER_AGENT: Final = "HelixFlow-Batch/1.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have small letters. ``is_ours``: the gateway's own, and not that of something before it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    too_long: bool = False

    @property
    def request_id(self) -> str:
        """Empty where something on the way has written another."""
        said = self.headers.get("x-request-id", "")
        return said if said.startswith(ids.REQUEST) else ""

    @property
    def is_ours(self) -> bool:
        return bool(self.request_id)


@dataclass(frozen=True, slots=True)
class Sent:
    """``answer`` None: there was none, and ``problem`` says why. ``unsent``: it was not even tried."""

    item: BatchItem
    answer: Answer | None = None
    problem: str = ""
    unreadable: bool = False
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Errand:
    """What the requests of a batch have in common."""

    operation: str
    batch_id: str
    token: str = field(repr=False)
    box: Box


def idempotency_key(batch_id: str, position: int) -> str:
    return f"{batch_id}:{position}"


def send(errand: Errand, item: BatchItem) -> Sent:
    """Never raises for what happens to the request."""
    try:
        body = errand.box.open(bytes(item.request), sealing.request_label(item.position))
    except sealing.Unopenable:
        return Sent(item, unreadable=True)
    headers = {
        "Authorization": f"Bearer {errand.token}",
        "Content-Type": "application/json",
        "Idempotency-Key": idempotency_key(errand.batch_id, item.position),
        "User-Agent": USER_AGENT,
        "X-HelixFlow-Timeout": str(TIMEOUT_S),
    }
    url = settings.BATCH_URL + errand.operation
    try:
        try:
            return Sent(item, _post(url, body, headers))
        except urllib3.exceptions.ProtocolError:  # a connection that was closed while nobody used it; the key makes
            return Sent(item, _post(url, body, headers))  # sending again harmless
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return Sent(item, problem=type(error).__name__)


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    response = _pool().request("POST", url, body=body, headers=headers, preload_content=False, redirect=False)
    try:
        read = response.read(MAX_ANSWER + 1, decode_content=False)
        too_long = len(read) > MAX_ANSWER
    except BaseException:
        response.close()
        raise
    if too_long:
        response.close()  # the rest is not wanted
    else:
        response.release_conn()
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, read, too_long)


@cache
def _pool() -> urllib3.PoolManager:
    """Certificates are verified, as urllib3 does by itself."""
    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    return urllib3.PoolManager(num_pools=2, maxsize=CONNECTIONS, timeout=timeout, retries=False)


class Crew:
    """Threads that send, as many as there are requests at once. Daemons: a model that takes minutes holds up no exit.

    ``may_send`` is asked right before each: a worker that was stopped meanwhile may have lost its lane.
    """

    def __init__(self, errand: Errand, may_send: Callable[[], bool]) -> None:
        self._errand = errand
        self._may_send = may_send
        self._given: queue.SimpleQueue[BatchItem | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self._threads = 0
        self.under_way = 0

    def give(self, item: BatchItem) -> None:
        self.under_way += 1
        if self.under_way > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name="batch-sender", daemon=True).start()
        self._given.put(item)

    def done(self, *, wait_s: float) -> list[Sent]:
        """All that have come back, of which the first is waited for."""
        found: list[Sent] = []
        try:
            found.append(self._done.get(timeout=wait_s))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            self.under_way -= len(found)
            return found

    def dismiss(self) -> None:
        for _ in range(self._threads):
            self._given.put(None)

    def _work(self) -> None:
        while (item := self._given.get()) is not None:
            self._done.put(send(self._errand, item) if self._may_send() else Sent(item, unsent=True))
