"""How much may be kept, and what goes first: tried with a small room. The books must agree with what is there."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helixflow.lib import errors
from inference.keeping import room
from inference.keeping.idempotency import Claims
from inference.keeping.kept import KeptAnswer
from inference.keeping.response_cache import Directives, Entry
from inference.schemas import parse_chat_request
from tests.inference.kept_answers import ORGANIZATION, answer, booked, claim, client, stored

pytestmark = pytest.mark.usefixtures("patient_with_redis")
ROOM = 20_000
ENTRY = 700 + 1_100  # about what an answer of 1,000 random bytes takes


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(room, "limit", lambda: ROOM)


def body(size: int = 1_000) -> bytes:
    """No two are alike, and none can be compressed."""
    return random.randbytes(size)


async def keep(key: str, kept: KeptAnswer | None) -> None:
    await (await claim(Claims(), key)).finish(kept)


def entry(seed: int) -> Entry:
    request = b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":%d}' % seed
    return Entry(ORGANIZATION, "chat completions", parse_chat_request(request))


async def put(seed: int, size: int = 1_000) -> None:
    await entry(seed).put(answer(body(size)), Directives(), 600)


async def get(seed: int) -> KeptAnswer | None:
    return await entry(seed).get(Directives(), 600)


async def refused(key: str) -> bool:
    """Whether its retry is told that the answer is gone."""
    try:
        found = await claim(Claims(), key)
    except errors.InvalidRequest:
        return True
    assert isinstance(found, KeptAnswer)
    return False


def test_the_books_have_what_is_there_and_what_it_takes():
    async def run():
        await keep("order-1", answer(body()))
        await put(1)
        await put(1)  # again: in place of the first

    asyncio.run(run())
    names, size = booked()
    assert names == len(stored()) == 2
    assert sum(map(len, stored().values())) + 1_200 == size


def test_the_books_say_no_less_than_redis_really_needs():
    server = client()

    async def run():
        for number in range(300):
            await keep(f"order-{number}", answer(body(100)))

    asyncio.run(run())
    needed = sum(server.memory_usage(key, samples=0) for key in server.scan_iter() if b":kept:" in key)
    assert needed < booked()[1] < 2 * needed


def test_the_oldest_cached_answers_go_first(small):
    async def run():
        await keep("order-1", answer(body()))
        for seed in range(30):
            await put(seed)
        assert not await refused("order-1")
        kept = [seed for seed in range(30) if await get(seed) is not None]
        assert kept == list(range(30 - len(kept), 30))
        return len(kept)

    assert ROOM // ENTRY - 2 <= asyncio.run(run()) < 30
    assert booked()[1] <= ROOM


def test_answers_under_keys_go_once_no_cached_one_is_left_and_their_retry_is_told(small):
    async def run():
        for seed in range(5):
            await put(seed)
        for number in range(15):
            await keep(f"order-{number}", answer(body()))
        assert [await get(seed) for seed in range(5)] == [None] * 5
        return [await refused(f"order-{number}") for number in range(15)]

    gone = asyncio.run(run())
    assert gone == sorted(gone, reverse=True)  # the oldest
    assert True in gone
    assert False in gone
    assert booked()[1] <= ROOM


def test_a_mark_lives_as_long_as_the_answer_would_have(small):
    async def run():
        await keep("auto-1", answer(body()))
        (name,) = stored()
        for number in range(15):
            await keep(f"order-{number}", answer(body()))
        return name

    name = asyncio.run(run())
    server = client()
    assert server.get(name).startswith(b"M")
    assert 0 < server.ttl(name) <= 600


def test_the_oldest_marks_go_last(small):
    async def run():
        for number in range(60):
            await keep(f"order-{number}", None)
        await keep("order-60", answer(body(10_000)))
        assert not await refused("order-60")
        return booked()

    names, size = asyncio.run(run())
    assert size <= ROOM
    assert names == len(stored()) < 30


def test_a_cached_answer_makes_no_room_among_those_under_keys(small):
    async def run():
        for number in range(9):
            await keep(f"order-{number}", answer(body()))
        await put(1, 8_000)
        assert await get(1) is None
        return [await refused(f"order-{number}") for number in range(9)]

    assert not any(asyncio.run(run()))


def test_an_older_cached_answer_gives_way_to_its_successor_that_does_not_fit(small):
    async def run():
        await put(1)
        await put(1, ROOM)
        return await get(1)

    assert asyncio.run(run()) is None
    assert booked() == (0, 0)


def test_what_has_expired_leaves_the_books():
    async def run():
        await entry(1).put(answer(body()), Directives(), 1)
        await keep("order-1", answer(body()))
        _, due, _ = room.books(ORGANIZATION)
        server = client()
        server.zadd(due, dict.fromkeys(server.zrange(due, 0, 0), 1))  # long ago
        await keep("order-2", answer(body()))

    asyncio.run(run())
    assert booked()[0] == 2


def test_the_books_outlive_everything_in_them():
    async def run():
        await keep("order-1", answer(body()))

    asyncio.run(run())
    server = client()
    (name,) = stored()
    assert min(server.ttl(book) for book in room.books(ORGANIZATION)) > server.ttl(name)


def test_each_organization_has_its_own_room(small):
    other = ORGANIZATION.__class__(int=ORGANIZATION.int + 1)

    async def run():
        await keep("order-1", answer(body()))
        for number in range(20):
            lease = await claim(Claims(), f"order-{number}", organization_id=other)
            await lease.finish(answer(body()))
        return await refused("order-1")

    assert not asyncio.run(run())


ACTIONS = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 9), st.sampled_from([None, 10, 1_000, 9_000])),
    st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from([10, 1_000, 9_000, 30_000])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=40))
def test_whatever_is_kept_the_room_is_not_exceeded_and_the_newest_answer_is_there(small, actions):
    client().flushdb()

    async def run():
        for turn, (action, number, size) in enumerate(actions):
            if action == "keep":
                await keep(f"order-{number}-{turn}", None if size is None else answer(body(size)))
                assert await refused(f"order-{number}-{turn}") is (size is None)
            else:
                await put(number, size)
            names, total = booked()
            assert total <= ROOM
            assert names == len(stored())

    asyncio.run(run())


def test_on_a_cluster_everything_of_an_organization_is_on_one_node(on_cluster):
    async def run():
        await keep("order-1", answer())
        await put(1)
        waiting = Claims(renew_every_s=0.01)
        lease = await claim(waiting, "order-2")
        await waiting._renew()
        await lease.release()
        return await claim(Claims(), "order-1"), await get(1)

    first, second = asyncio.run(run())
    assert first == answer()
    assert second is not None
