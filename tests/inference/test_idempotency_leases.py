"""Leases of idempotency keys: owners that die, pause, are cancelled, and lose Redis."""

import asyncio
import random
import time
import uuid

import pytest

from billing.admission import limits
from billing.admission.breaker import Breaker
from helixflow.lib import errors
from helixflow.lib.redis import shard_tag as shard
from inference.keeping import idempotency, room
from inference.keeping.idempotency import Claims, Lease
from tests.inference.kept_answers import (
    ORGANIZATION,
    PATIENCE_S,
    answer,
    booked,
    claim,
    client,
    forget_leases,
    leave_without_a_word,
    stored,
    until,
)


def test_a_dead_owners_key_is_somebody_elses_when_its_lease_has_ended():
    async def run():
        dead = Claims(lease_s=0.3)
        await claim(dead)
        leave_without_a_word(dead)
        return await claim(Claims())

    assert isinstance(asyncio.run(run()), Lease)


def test_a_lease_is_renewed_for_as_long_as_its_owner_lives():
    async def run():
        mine = Claims(renew_every_s=0.05)
        lease = await claim(mine)
        (name,) = stored()
        for _ in range(3):  # each time it had less, and has more again before it could have ended
            client().pexpire(name, 10_000)
            await until(lambda: client().pttl(name) > 10_000, seconds=8)
        await lease.finish(answer())
        await until(lambda: mine._tending is None or mine._tending.done())
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


def test_a_key_that_is_freed_while_another_shard_is_renewed_stays_free(monkeypatch):
    elsewhere = next(
        each for each in map(uuid.UUID, map("{:032x}".format, range(99))) if shard(each) != shard(ORGANIZATION)
    )

    async def run():
        mine = Claims(renew_every_s=60)
        await claim(mine, organization_id=elsewhere)
        lease = await claim(mine)
        renew, renewing = room.run, asyncio.Event()

        async def slowly(script, *arguments):
            found = await renew(script, *arguments)
            if script is idempotency._renew:
                renewing.set()
                await asyncio.sleep(0.05)
            return found

        monkeypatch.setattr(room, "run", slowly)
        task = asyncio.create_task(mine._renew())
        await renewing.wait()
        await lease.release()
        await task
        assert not stored()

    asyncio.run(run())


def test_a_lease_that_redis_forgot_is_set_anew():
    async def run():
        mine = Claims(renew_every_s=0.05)
        lease = await claim(mine)
        before = stored()
        client().flushdb()
        await until(lambda: stored() == before)
        await lease.finish(answer())
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


def test_an_answer_outlives_a_flush_while_its_request_was_under_way():
    async def run():
        lease = await claim(Claims())
        client().flushdb()
        await lease.finish(answer())
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


@pytest.mark.parametrize("end", ["finish", "release", "renewal"])
def test_a_lost_lease_leaves_the_next_owner_alone(end):
    async def run():
        paused = Claims(renew_every_s=0.02)
        late = await claim(paused)
        leave_without_a_word(paused)
        forget_leases()
        other = Claims()
        lease = await claim(other)
        before = stored()
        match end:
            case "finish":
                await late.finish(answer(b"late"))
            case "release":
                await late.release()
            case _:
                await paused._renew()
        assert stored() == before
        await lease.finish(answer())
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


def test_the_answer_that_is_there_stays_when_a_late_one_comes():
    async def run():
        late = await claim(Claims())
        forget_leases()
        await (await claim(Claims())).finish(answer())
        await late.finish(answer(b"late"))
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


def test_the_first_end_of_a_lease_counts():
    async def run():
        claims = Claims()
        lease = await claim(claims)
        await lease.finish(answer())
        await lease.release()
        await lease.finish(None)
        return await claim(claims)

    assert asyncio.run(run()) == answer()


def test_a_caller_who_is_cancelled_while_it_finishes_has_finished():
    async def run():
        claims = Claims()
        lease = await claim(claims)
        finishing = asyncio.create_task(lease.finish(answer()))
        await asyncio.sleep(0)
        finishing.cancel()
        await asyncio.wait([finishing])
        assert finishing.cancelled()
        await until(lambda: booked()[0] == 1)
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


@pytest.mark.parametrize("how", ["refused", "known to be away"])
def test_without_redis_made_up_keys_go_on_and_given_ones_are_refused(how, settings):
    if how == "refused":
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
    else:
        limits.breaker.is_open = True
        limits.breaker._waits_since = time.monotonic() + 60
    assert asyncio.run(claim(Claims(), "auto-1")) is None
    with pytest.raises(errors.ServiceUnavailable, match="can't be honoured") as refused:
        asyncio.run(claim(Claims()))
    assert refused.value.retry_after == 2


def test_an_answer_that_redis_did_not_take_is_offered_again_and_is_here_meanwhile():
    async def run():
        mine = Claims(renew_every_s=0.05)
        lease = await claim(mine)
        limits.breaker.is_open = True
        limits.breaker._waits_since = time.monotonic() + 60
        await lease.finish(answer())
        assert await claim(mine) == answer()
        assert booked()[0] == 0
        limits.breaker.is_open = False
        await until(lambda: booked()[0] == 1)
        await until(lambda: mine._tending is None or mine._tending.done())
        return await claim(Claims())

    assert asyncio.run(run()) == answer()


def test_after_a_while_it_is_not_offered_any_more(monkeypatch):
    monkeypatch.setattr(idempotency, "TRY_STORING_S", 0.0)

    async def run():
        mine = Claims()
        lease = await claim(mine)
        limits.breaker.is_open = True
        limits.breaker._waits_since = time.monotonic() + 60
        await lease.finish(answer())
        limits.breaker.is_open = False
        forget_leases()
        return await claim(mine)

    assert isinstance(asyncio.run(run()), Lease)


def test_large_answers_that_end_together_are_all_kept():
    """They take turns: see room.py."""
    wholes = [answer(random.randbytes(300_000)) for _ in range(5)]

    async def run():
        claims = Claims()
        leases = [await claim(claims, f"order-{number}") for number in range(5)]
        await asyncio.gather(*(lease.finish(whole) for lease, whole in zip(leases, wholes, strict=True)))
        return [await claim(Claims(), f"order-{number}") for number in range(5)]

    assert asyncio.run(run()) == wholes


def test_a_redis_that_fails_here_is_still_there_for_admission(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    room.breaker = Breaker(failures=1)
    assert asyncio.run(claim(Claims(), "auto-1")) is None
    assert room.breaker.is_open
    assert not limits.breaker.is_open
    assert not limits.breaker._failed_at


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_of_successes_failures_and_deaths_there_is_one_owner_and_one_answer(seed):
    """Twelve callers in three processes. A dead one's lease ends at once, as nobody has seen it being renewed."""
    chance = random.Random(seed)
    fates = [chance.choice(["fails", "fails", "dies", "leaves"]) for _ in range(11)] + ["succeeds"]
    chance.shuffle(fates)
    owning: list[str] = []
    answers: list[bytes] = []

    async def caller(claims: Claims, fate: str) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        found = await claim(claims)
        if not isinstance(found, Lease):
            answers.append(found.body)
            return
        assert not owning
        owning.append(fate)
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            owning.clear()
            if fate == "dies":
                claims._flights.clear()  # as if it had never been
                forget_leases()
            elif fate == "succeeds":
                await found.finish(answer(b"the one"))
                answers.append(b"the one")
            else:
                await found.release()

    async def run():
        processes = [Claims() for _ in range(3)]
        tasks = []
        for number, fate in enumerate(fates):
            # A process of its own for who takes it down
            claims = Claims() if fate == "dies" else processes[number % 3]
            tasks.append(asyncio.create_task(caller(claims, fate)))
        await asyncio.sleep(0)
        for task, fate in zip(tasks, fates, strict=True):
            if fate == "leaves":
                task.cancel()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
        assert not [each for each in ended if isinstance(each, Exception)]  # who left is none
        return await claim(Claims())

    assert asyncio.run(run()).body == b"the one"
    assert set(answers) == {b"the one"}
