"""A webhook receiver in a bad mood: what it does to a call follows from the seed, the event and how often it came."""

import hashlib
import hmac
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

from standardwebhooks import Webhook, WebhookVerificationError

from tests.fakes import receiver
from tests.fakes.receiver import Behaviour, Call, Exchange

MERCY: Final = 5  # the call from which on every event is taken, but for the doomed
FAILING: Final = 0.35
DOOMED: Final = 0.003  # of all events
RETRY_AFTER_S: Final = 2

FINE: Final[dict[str, Behaviour]] = {
    "taken": receiver.status(),
    "taken, without a word": receiver.status(204),
    "taken, slowly": receiver.after(0.2, receiver.status(202)),
}
BAD: Final[dict[str, Behaviour]] = {
    "500": receiver.status(500, b"<h1>no luck</h1>"),
    "503, later": receiver.status(503, b"busy", {"Retry-After": str(RETRY_AFTER_S)}),
    "redirected": receiver.redirect("http://127.0.0.1:9/"),
    "closed": receiver.close(),
    "reset": receiver.reset(),
    "cut within the answer": receiver.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"),
    "no HTTP": receiver.raw(b"220 mail.example.com ESMTP\r\n"),
    "flooded": receiver.flood(),
}
HANG: Final = "hung"


@dataclass
class Arrival:
    """A call, in wall-clock seconds; ``ended_at`` is None while it is under way."""

    path: str
    event_id: str
    body: bytes
    mood: str
    began_at: float
    ended_at: float | None = None
    forged: str = ""  # what is wrong with its signatures


class MoodyReceiver:
    """``secrets`` by path, to verify with. Each path is an endpoint's."""

    def __init__(self, seed: int, secrets: dict[str, str], *, hanging: float = 0.02) -> None:
        self.arrivals: list[Arrival] = []
        self._seed = seed
        self._secrets = secrets
        self._hanging = hanging
        self._times: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._server = receiver.Receiver()
        self._server.answer = self._answer

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def under_way(self) -> int:
        return sum(arrival.ended_at is None for arrival in list(self.arrivals))

    def is_doomed(self, number: int) -> bool:
        """Whether the event with this number in its data is never taken."""
        return random.Random(f"doomed {self._seed} {number}").random() < DOOMED

    def _answer(self, call: Call) -> Behaviour:
        self._times[call.path, call.event_id] += 1
        mood, behaviour = self._mood(call.json["data"]["number"], self._times[call.path, call.event_id])
        arrival = Arrival(call.path, call.event_id, call.body, mood, time.time())
        arrival.forged = _verify(call, self._secrets[call.path])
        self.arrivals.append(arrival)
        return _logged(arrival, behaviour)

    def _mood(self, number: int, times: int) -> tuple[str, Behaviour]:
        dice = random.Random(f"mood {self._seed} {number} {times}")
        if not self.is_doomed(number):
            if times < MERCY and dice.random() < self._hanging:
                return HANG, receiver.hang()
            if times >= MERCY or dice.random() >= FAILING:
                return dice.choice(list(FINE.items()))
        return dice.choice(list(BAD.items()))


def _logged(arrival: Arrival, behaviour: Behaviour) -> Behaviour:
    async def logged(exchange: Exchange) -> None:
        try:
            await behaviour(exchange)
        finally:
            arrival.ended_at = time.time()

    return logged


def _verify(call: Call, secret: str) -> str:
    """With the package that receivers use, and as the reference does."""
    try:
        Webhook(secret).verify(call.body, call.headers)
    except WebhookVerificationError as error:
        return str(error)
    expected = hmac.new(secret.encode(), call.body, hashlib.sha256).hexdigest()
    return "" if call.headers.get("x-helixflow-signature") == expected else "X-HelixFlow-Signature"
