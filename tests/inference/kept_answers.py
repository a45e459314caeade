"""Answers to keep, and what Redis has of them."""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

from helixflow.lib import redis
from inference.keeping import idempotency, room
from inference.keeping.idempotency import Claims
from inference.keeping.kept import KeptAnswer

ORGANIZATION = uuid.UUID("018f0000-0000-7000-8000-000000000001")
API_KEY = uuid.UUID("018f0000-0000-7000-8000-000000000002")
PATIENCE_S = 20
SECRET_TEXT = b"The patient has 3 weeks."


def answer(
    body: bytes = b'{"id":"chatcmpl-old","created":1700000000,"choices":[]}',
    *,
    content_type: str = "application/json",
    id: str = "chatcmpl-old",  # noqa: A002  # the field's name
    created: int = 1_700_000_000,
    kept_at: float | None = None,
) -> KeptAnswer:
    """Kept now, or rather a moment that all of a test share, so that they are equal."""
    moment = kept_at if kept_at is not None else this_moment()
    return KeptAnswer(body=body, content_type=content_type, upstream="first", id=id, created=created, kept_at=moment)


@cache
def this_moment() -> float:
    """Forgotten before each test (conftest.py): the whole run takes longer than answers are kept."""
    return time.time()


def claim(
    claims: Claims,
    key: str = "order-1",
    body: bytes = b"{}",
    *,
    organization_id: uuid.UUID = ORGANIZATION,
    api_key_id: uuid.UUID = API_KEY,
    wait_until: float | None = None,
) -> Coroutine[Any, Any, Any]:
    return claims.claim(
        organization_id=organization_id,
        api_key_id=api_key_id,
        key=key,
        fingerprint=idempotency.fingerprint("/v1/chat/completions", body),
        wait_until=wait_until,
    )


def client() -> Any:
    """Typed loosely: the stubs know strings and bytes, and this one gives bytes."""
    return redis.sync_client()


def stored() -> dict[str, bytes]:
    """What Redis has for the organization, the books aside."""
    base = room.books(ORGANIZATION)[0]
    keys = [key.decode() for key in client().keys(f"{base}:*")]
    return {key: client().get(key) for key in keys if len(key) == len(base) + 33}


def booked() -> tuple[int, int]:
    """How many names and how many bytes the books have. They must agree with each other."""
    sizes, due, turn = room.books(ORGANIZATION)
    held = {name: int(size) for name, size in client().hgetall(sizes).items()}
    total = held.pop(b"total", 0)
    assert sum(held.values()) == total
    assert set(held) == set(client().zrange(due, 0, -1)) == set(client().zrange(turn, 0, -1))
    return len(held), total


async def until(condition: Callable[[], object], *, seconds: float = PATIENCE_S) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def leave_without_a_word(claims: Claims) -> None:
    """As a killed process does."""
    if claims._tending is not None:
        claims._tending.cancel()


def forget_leases() -> None:
    """As time does, or a flush."""
    for key, value in stored().items():
        if value.startswith(b"L"):
            client().delete(key)
