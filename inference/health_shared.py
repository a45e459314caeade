"""How deployments are doing as all processes together see it: for operators' pages, metrics and the API.

What the processes tell each other is in two hashes in Redis (inference/lua/exchange_health.lua): the last change of
each deployment's state, and what each process counted, which is gone a few seconds after the process.
"""

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from billing.admission import limits
from helixflow.lib import redis
from inference import lua
from inference.breaker import State

logger = logging.getLogger(__name__)

KEYS: Final = ("{health}:changes", "{health}:numbers")
LIFE_MS: Final = 5_000  # of what a process counted; as in exchange_health.lua
REASON_CHARS: Final = 300
HEALTHY, DEGRADED, UNAVAILABLE = "healthy", "degraded", "unavailable"  # models, by their deployments


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """``since``: the last change of its state. ``until``: from then on it may be tried again, while it is cut off.
    ``reason``: why it is, or of its last failure.

    ``requests`` and ``failures``: those of the last five to ten minutes. ``latency_ms``: the moving average until the
    first token, or until the end where no stream was asked for. ``in_flight``: being answered.
    """

    state: State = State.CLOSED
    since: datetime | None = None
    until: datetime | None = None
    reason: str = ""
    requests: int = 0
    failures: int = 0
    latency_ms: float | None = None
    in_flight: int = 0


class Numbers(msgspec.Struct, array_like=True):
    """What one process counted of one deployment."""

    requests: int = 0
    failures: int = 0
    in_flight: int = 0
    latency_ms: float | None = None
    reason: str = ""


encode_numbers: Final = msgspec.json.Encoder().encode
_decode_numbers: Final = msgspec.json.Decoder(dict[str, Numbers]).decode


def shared() -> dict[str, DeploymentHealth]:
    """By the hex of the deployment's id, those that anything is known of. Nothing if Redis is away."""
    if limits.breaker.is_open:  # the gateway of this process has found that out: no page need wait for it too
        return {}
    try:
        script: Any = redis.sync_client().register_script(lua.source("read_health"))
        now, changes, numbers = script(keys=KEYS)
    except redis.RedisError:
        return {}
    found = {
        name.decode(): _as_changed(value.decode(), int(now)) for name, value in _pairs(changes) if name != b"version"
    }
    for _, told in _pairs(numbers):
        told_at, _, content = told.partition(b" ")
        if int(told_at) >= int(now) - LIFE_MS:
            for name, counted in _decode_numbers(content).items():
                found[name] = _with(found.get(name, DeploymentHealth()), counted)
    return found


def reset(deployment_id: uuid.UUID | str) -> bool:
    """Close it in all processes within a second, whatever is known of it. False if Redis could not be told."""
    name = uuid.UUID(str(deployment_id)).hex
    try:
        script: Any = redis.sync_client().register_script(lua.source("exchange_health"))
        script(keys=KEYS, args=[2**53, "", "", name, State.CLOSED.value, 0, 0, ""])
    except redis.RedisError as error:
        logger.warning("deployment %s is not closed: %s", name, error)
        return False
    return True


def worst(states: Iterable[State]) -> str:
    """What callers of a model whose deployments are in these states meet."""
    found = list(states)
    well = found.count(State.CLOSED)
    if well == len(found):
        return HEALTHY
    return DEGRADED if well or State.HALF_OPEN in found else UNAVAILABLE


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _as_changed(value: str, now: int) -> DeploymentHealth:
    _, since, until, state, _, reason = value.split(" ", 5)
    told = State(state)
    if told is not State.CLOSED and int(until) <= now:
        told = State.HALF_OPEN if told is State.OPEN else State.CLOSED
    cut_off = told in {State.OPEN, State.LIMITED}
    return DeploymentHealth(told, _at(since), _at(until) if cut_off else None, reason)


def _at(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _with(known: DeploymentHealth, counted: Numbers) -> DeploymentHealth:
    requests = known.requests + counted.requests
    latency_ms = known.latency_ms
    if counted.latency_ms is not None:
        share = counted.requests / requests if requests and latency_ms is not None else 1.0
        latency_ms = counted.latency_ms * share + (latency_ms or 0.0) * (1 - share)
    return replace(
        known,
        reason=known.reason or counted.reason,
        requests=requests,
        failures=known.failures + counted.failures,
        latency_ms=latency_ms,
        in_flight=known.in_flight + counted.in_flight,
    )
