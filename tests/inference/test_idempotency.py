"""Idempotency keys: one owner at a time, everybody else gets the owner's answer."""

import asyncio
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helixflow.lib import errors
from inference.keeping import idempotency
from inference.keeping.idempotency import Claims, Lease
from inference.keeping.kept import MAX_BODY, KeptAnswer
from tests.inference.kept_answers import (
    API_KEY,
    ORGANIZATION,
    PATIENCE_S,
    SECRET_TEXT,
    answer,
    claim,
    client,
    stored,
    until,
)

STREAM = answer(b'data: {"id":"chatcmpl-old"}\n\ndata: [DONE]\n\n', content_type="text/event-stream; charset=utf-8")


@pytest.mark.parametrize("kept", [answer(), STREAM], ids=["whole", "stream"])
def test_the_first_owns_the_key_and_a_retry_gets_the_answer(kept):
    async def run():
        lease = await claim(Claims())
        assert isinstance(lease, Lease)
        await lease.finish(kept)
        return await claim(Claims())

    assert asyncio.run(run()) == kept


@pytest.mark.parametrize("processes", [1, 3])
def test_ten_parallel_claims_have_one_owner_and_ten_equal_answers(processes):
    async def caller(claims, owners):
        found = await claim(claims)
        if isinstance(found, Lease):
            owners.append(found)
            await asyncio.sleep(0)
            await found.finish(answer())
            return answer()
        return found

    async def run():
        gateways = [Claims() for _ in range(processes)]
        owners: list[Lease] = []
        found = await asyncio.gather(*(caller(gateways[number % processes], owners) for number in range(10)))
        return owners, found

    owners, found = asyncio.run(run())
    assert len(owners) == 1
    assert {each.body for each in found} == {answer().body}


def test_other_processes_with_loops_of_their_own_wait_for_the_owner():
    """In threads, as each loop has its own connection."""
    owned = threading.Event()
    found: list[KeptAnswer] = []

    async def own():
        lease = await claim(Claims())
        owned.set()
        await until(lambda: len(waiting) == 3)
        await lease.finish(answer())

    waiting: list[None] = []

    async def wait():
        waiting.append(None)
        found.append(await claim(Claims()))

    owner = threading.Thread(target=lambda: asyncio.run(own()))
    owner.start()
    assert owned.wait(PATIENCE_S)
    others = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(3)]
    for thread in others:
        thread.start()
    for thread in (owner, *others):
        thread.join(PATIENCE_S)
    assert [each.body for each in found] == [answer().body] * 3


@pytest.mark.parametrize("same_process", [True, False])
def test_of_those_who_wait_one_owns_a_freed_key(same_process):
    async def run():
        mine = Claims()
        lease = await claim(mine)
        others = [asyncio.create_task(claim(mine if same_process else Claims())) for _ in range(5)]
        await asyncio.sleep(0)
        await lease.release()
        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        owners = [task for task in others if task.done()]
        assert len(owners) == 1
        await owners[0].result().finish(answer())
        return await asyncio.gather(*(task for task in others if task not in owners))

    assert [each.body for each in asyncio.run(run())] == [answer().body] * 4


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_another_body_is_refused(same_process, finished):
    async def run():
        mine = Claims()
        lease = await claim(mine)
        if finished:
            await lease.finish(answer())
        await claim(mine if same_process else Claims(), body=b'{"n": 2}')

    with pytest.raises(errors.InvalidRequest, match="another request") as refused:
        asyncio.run(run())
    assert refused.value.param == "Idempotency-Key"


def test_who_waits_here_for_another_process_is_not_measured_by_who_came_first_here():
    """The key belongs to a body asked elsewhere: here first the wrong one is asked, then the right one."""

    async def run():
        lease = await claim(Claims(), body=b"right")
        here = Claims()
        wrong = asyncio.create_task(claim(here, body=b"wrong"))
        right = asyncio.create_task(claim(here, body=b"right"))
        with pytest.raises(errors.InvalidRequest):
            await wrong
        await lease.finish(answer())
        return await right

    assert asyncio.run(run()) == answer()


def test_other_keys_api_keys_and_organizations_are_others():
    async def run():
        claims = Claims()
        return [
            await claim(claims),
            await claim(claims, "order-2"),
            await claim(claims, api_key_id=ORGANIZATION),
            await claim(claims, organization_id=API_KEY),
        ]

    assert all(isinstance(each, Lease) for each in asyncio.run(run()))


def test_the_operation_is_part_of_the_fingerprint():
    assert idempotency.fingerprint("/v1/embeddings", b"{}") != idempotency.fingerprint("/v1/completions", b"{}")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "emoji-🌍", "é", "nul\0", "line\n"])
def test_a_key_is_1_to_255_printable_ascii_characters(key):
    with pytest.raises(errors.InvalidRequest, match="printable"):
        asyncio.run(claim(Claims(), key))


@given(key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_any_printable_key_is_taken(key):
    async def run():
        claims = Claims()
        lease = await claim(claims, key)
        await lease.release()

    asyncio.run(run())


@pytest.mark.parametrize(("key", "seconds"), [("order-1", 24 * 3600), ("auto-1", 600)])
def test_answers_are_kept_for_a_day_and_those_of_made_up_keys_for_ten_minutes(key, seconds):
    async def run():
        await (await claim(Claims(), key)).finish(answer())

    asyncio.run(run())
    (name,) = stored()
    assert seconds - 60 < client().ttl(name) <= seconds


def test_a_waiter_who_leaves_takes_nobody_along():
    async def run():
        lease = await claim(Claims())
        here = Claims()
        first = asyncio.create_task(claim(here))
        second = asyncio.create_task(claim(here))
        await until(lambda: here._flights)
        first.cancel()
        await lease.finish(answer())
        return await second

    assert asyncio.run(run()) == answer()


def test_who_leaves_while_redis_is_asked_leaves_no_lease():
    async def run():
        leaving = asyncio.create_task(claim(Claims()))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        return await claim(Claims())

    assert isinstance(asyncio.run(run()), Lease)


@pytest.mark.parametrize("same_process", [True, False])
def test_nobody_waits_for_longer_than_they_may(same_process):
    async def run():
        mine = Claims()
        await claim(mine)
        await claim(mine if same_process else Claims(), wait_until=time.monotonic() + 0.05)

    with pytest.raises(errors.UpstreamTimeout):
        asyncio.run(run())


def test_a_process_that_stops_frees_its_keys():
    async def run():
        stopping = Claims()
        await claim(stopping)
        await stopping.close()
        return await claim(Claims())

    assert isinstance(asyncio.run(run()), Lease)


@pytest.mark.parametrize(
    "large", [None, answer(random.Random(1).randbytes(MAX_BODY + 1))], ids=["not taken down", "too large"]
)
def test_the_retry_of_an_answer_too_large_to_keep_is_told_and_not_sent(large):
    async def run():
        await (await claim(Claims())).finish(large)
        await claim(Claims())

    with pytest.raises(errors.InvalidRequest, match="too large"):
        asyncio.run(run())


def test_who_waits_in_the_same_process_gets_even_a_large_answer():
    large = answer(bytes(MAX_BODY + 1))

    async def run():
        claims = Claims()
        lease = await claim(claims)
        waiting = asyncio.create_task(claim(claims))
        await asyncio.sleep(0)
        await lease.finish(large)
        return await waiting

    assert asyncio.run(run()) == large


def test_an_answer_of_the_largest_size_is_kept():
    whole = answer(random.Random(2).randbytes(MAX_BODY))

    async def run():
        await (await claim(Claims())).finish(whole)
        return await claim(Claims())

    assert asyncio.run(run()) == whole


def test_redis_alone_tells_nothing(settings):
    async def keep():
        await (await claim(Claims(), "tell-nobody")).finish(answer(SECRET_TEXT))

    asyncio.run(keep())
    server = client()
    everything = b"".join(
        key + (server.get(key) if server.type(key) == b"string" else b"") for key in server.scan_iter()
    )
    for secret in (SECRET_TEXT, b"tell-nobody", b"application/json"):
        assert secret not in everything
    (name,) = stored()
    server.set(name, server.get(name)[:-1] + b"x")
    with pytest.raises(errors.ServerError, match="can't be read"):
        asyncio.run(claim(Claims(), "tell-nobody"))
    settings.ENCRYPTION_KEYS = ["another-key"]
    assert isinstance(asyncio.run(claim(Claims(), "tell-nobody")), Lease)
