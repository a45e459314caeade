"""Keeps this process's view of deployments and those of the others within a second of each other, through Redis.

Without Redis each process goes on by itself. Runs on the event loop.
"""

import asyncio
import logging
from typing import Any, Final

from billing.admission import limits
from helixflow.lib import ids, pipelined_redis, redis
from inference import catalogue, lua
from inference.breaker import State
from inference.health import Board, Standing
from inference.health_shared import KEYS, REASON_CHARS, Numbers, encode_numbers

logger = logging.getLogger(__name__)

EVERY_S: Final = 0.3  # told after that, heard after that again
NUMBERS_EVERY: Final = 3  # of these rounds
_script = pipelined_redis.Script(lua.source("exchange_health"))


class HealthSync:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._process = ids.uuid7().hex
        self._seen = "0"
        self._round = 0
        self._catalogue: catalogue.Catalogue | None = None
        self._names: dict[str, tuple[str, str]] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.exchange()
            except Exception:  # health that stands still must not end
                logger.exception("the health of deployments was not exchanged")
            await asyncio.sleep(EVERY_S)

    async def exchange(self) -> None:
        """Tell what changed here, and adopt what changed elsewhere. Raises nothing for a Redis that is away."""
        self._look_at_catalogue()
        if not limits.breaker.allows():
            return
        told = {name: standing for name, standing in self._board.standings.items() if standing.breaker.unsaid}
        arguments = [each for name, standing in told.items() for each in self._change(name, standing)]
        numbers = self._numbers() if self._round % NUMBERS_EVERY == 0 else b""
        self._round += 1
        for standing in told.values():
            standing.breaker.unsaid = False  # what changes while Redis is asked will be
        try:
            reply: Any = await _script.run(KEYS, self._seen, self._process, numbers, *arguments)
        except redis.RedisError:
            limits.breaker.failed()
            for standing in told.values():
                standing.breaker.unsaid = True
            return
        limits.breaker.succeeded()
        self._seen, *news = (each.decode() for each in reply)
        for at in range(0, len(news), 5):
            if news[at] not in told:  # the script tells first, so there is nothing newer of these
                self._adopt(*news[at : at + 5])

    def _look_at_catalogue(self) -> None:
        current = catalogue.keeper.catalogue
        if current is None:
            return
        if current is not self._catalogue:
            self._catalogue = current
            self._names = {
                each.id: (model.name, each.name) for model in current.models.values() for each in model.deployments
            }
        self._board.keep(self._names)

    def _change(self, name: str, standing: Standing) -> tuple[str, str, int, int, str]:
        breaker = standing.breaker
        now = self._board.clock()
        state = breaker.cut_off or State.CLOSED
        left_ms = max(0, round((breaker.until - now) * 1000))
        return name, state.value, left_ms, breaker.level, _short(breaker.reason)

    def _adopt(self, name: str, state: str, left_ms: str, level: str, reason: str) -> None:
        names = self._names.get(name)
        if names is None:
            return
        breaker = self._board.standing(name, *names).breaker
        if breaker.unsaid:  # changed while Redis was asked: newer, and told next
            return
        now = self._board.clock()
        if state == State.LIMITED and int(left_ms) <= 0:
            return
        breaker.adopt(State(state), now, until=now + int(left_ms) / 1000, level=int(level), reason=reason)

    def _numbers(self) -> bytes:
        now = self._board.clock()
        numbers = {}
        for name, standing in self._board.standings.items():
            requests, failures = standing.recent(now)
            latency_s = standing.latency_s
            latency_ms = None if latency_s is None else round(latency_s * 1000, 1)
            numbers[name] = Numbers(requests, failures, standing.in_flight, latency_ms, _short(standing.reason))
        return encode_numbers(numbers)


def _short(reason: str) -> str:
    return " ".join(reason.split())[:REASON_CHARS]
