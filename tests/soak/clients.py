"""What the clients do, drawn from the seed, and the log they keep of it: the material the checker judges."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.fakes.behaviours import BEHAVIOURS
from tests.soak.http import Answer, Client
from tests.soak.world import PASSED_OVER, RESCUED, Tenant

PATH = "/v1/chat/completions"
PATIENCE_S = 20.0
ONCE = "once/"  # begins the users of requests that are sent twice, under a key
# Streams that mean what the normal one means: they must arrive whole.
GOOD_STREAMS = (
    *("normal", "one-read", "bytewise", "crlf", "cr", "comments", "no-space", "drip"),
    *("no-done", "no-last-blank-line"),
)
SILENT = ("stall-before-head", "stall-before-first", "stall-in-the-middle")
VAST = ("endless-line", "endless-comment", "endless-answer")  # megabytes each: now and then
BAD = tuple(name for name in BEHAVIOURS if name not in {*GOOD_STREAMS, *SILENT, *VAST})

BAD_BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"[" * 100_000,
    b'{"model": "normal", "messages": []}',
    b'{"model": "normal", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "normal", "messages": [{"role": "user", "content": "hi"}], "temperature": "1"}',
    b'{"model": "normal", "messages": [{"role": "user", "content": "hi"}], "api_base": "http://127.0.0.1"}',
)


@dataclass(frozen=True)
class Entry:
    """One call. ``kind`` says what may come of it; see ``tests.soak.checker``.

    ``user`` was sent as the request's own: upstream and ledger have it too. Empty where no valid body was sent.
    """

    kind: str
    model: str
    stream: bool
    tenant: str  # the organization's name; empty if no key of one was sent
    answer: Answer
    user: str = ""


class Actor:
    """One client: a loop of random calls until the deadline. ``keys``: some are sent again under an Idempotency-Key,
    for which Redis has to be there."""

    def __init__(self, seed: str, port: int, tenants: list[Tenant], log: list[Entry], *, keys: bool = True) -> None:
        self._seed = seed
        self._calls = 0
        self._dice = random.Random(seed)
        self._client = Client(port)
        self._tenants = tenants
        self._log = log
        self._keys = keys

    async def run(self, deadline: float) -> None:
        actions = [
            *(self._good, self._bad, self._leave, self._silence, self._invalid, self._stranger, self._vast),
            *(self._rescued, self._again),
        ]
        while time.monotonic() < deadline:
            await self._dice.choices(actions, weights=[8, 4, 4, 2, 2, 1, 0.1, 4, 2 * self._keys])[0]()
        self._client.close()

    async def _good(self) -> None:
        stream = self._dice.random() < 0.6
        await self._complete("good", self._dice.choice(GOOD_STREAMS) if stream else "normal", stream)

    async def _rescued(self) -> None:
        """Its model has another deployment."""
        await self._complete("good", RESCUED + self._dice.choice(PASSED_OVER), self._dice.random() < 0.6)

    async def _again(self) -> None:
        """Under an Idempotency-Key: left, or answered, and sent again."""
        tenant, stream = self._tenant(), self._dice.random() < 0.6
        model = self._dice.choice(GOOD_STREAMS) if stream else "normal"
        self._calls += 1
        user = f"{ONCE}{self._seed}/{self._calls}"
        patience_s = self._dice.choice([PATIENCE_S, self._dice.expovariate(1 / 0.05)])
        for leave_after_s in (patience_s, PATIENCE_S):
            body = _body(model, stream=stream, user=user)
            answer = await self._post(body, tenant.key, leave_after_s=leave_after_s, key_once=user)
            self._log.append(Entry("good", model, stream, tenant.organization.name, answer, user))

    async def _bad(self) -> None:
        await self._complete("bad", self._dice.choice(BAD), self._dice.random() < 0.6)

    async def _vast(self) -> None:
        await self._complete("leave", self._dice.choice(VAST), True, leave_after_s=2)

    async def _leave(self) -> None:
        model = self._dice.choice((*GOOD_STREAMS, *BAD, *VAST[:1]))
        await self._complete("leave", model, True, leave_after_s=self._dice.expovariate(1 / 0.05))

    async def _silence(self) -> None:
        stream = self._dice.random() < 0.5
        await self._complete("leave", self._dice.choice(SILENT), stream, leave_after_s=self._dice.uniform(0.05, 0.5))

    async def _invalid(self) -> None:
        tenant = self._tenant()
        body = self._dice.choice(BAD_BODIES)
        self._note("invalid", "", False, tenant.organization.name, await self._post(body, tenant.key))

    async def _stranger(self) -> None:
        key = self._dice.choice(["", "hflow_nothing", self._tenants[0].key[:-1], self._tenants[0].key[:-1] + "!"])
        self._note("stranger", "", False, "", await self._post(_body("normal", stream=False), key))

    async def _complete(self, kind: str, model: str, stream: bool, *, leave_after_s: float = PATIENCE_S) -> None:
        tenant = self._tenant()
        self._calls += 1
        user = f"{self._seed}/{self._calls}"
        answer = await self._post(_body(model, stream=stream, user=user), tenant.key, leave_after_s=leave_after_s)
        self._log.append(Entry(kind, model, stream, tenant.organization.name, answer, user))

    def _tenant(self) -> Tenant:
        """Mostly the first, which has plenty: who is refused by the limit gets no further."""
        return self._dice.choices(self._tenants, weights=[5, 1])[0]

    async def _post(self, body: bytes, key: str, *, leave_after_s: float = PATIENCE_S, key_once: str = "") -> Answer:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        if key_once:
            headers["Idempotency-Key"] = key_once
        return await self._client.post(PATH, body, headers, leave_after_s=leave_after_s)

    def _note(self, kind: str, model: str, stream: bool, tenant: str, answer: Answer) -> None:
        self._log.append(Entry(kind, model, stream, tenant, answer))


async def revoke_over_and_over(port: int, tenant: Tenant, log: list[Entry], deadline: float) -> None:
    """A key that worked a moment ago is refused on the next request after its revocation."""
    client = Client(port)

    async def call(key: str) -> Answer:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        return await client.post(PATH, _body("normal", stream=False), headers, leave_after_s=PATIENCE_S)

    while time.monotonic() < deadline:
        row, secret = await asyncio.to_thread(tenant.new_key)
        log.append(Entry("good", "normal", False, tenant.organization.name, await call(secret)))
        await asyncio.to_thread(tenant.revoke, row)
        log.append(Entry("revoked", "normal", False, "", await call(secret)))
        await asyncio.sleep(0.2)
    client.close()


def _body(model: str, *, stream: bool, user: str = "") -> bytes:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello, world!"}]}
    if user:
        body["user"] = user
    if stream:
        body["stream"] = True
    return json.dumps(body).encode()
