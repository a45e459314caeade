"""While Redis runs out of memory kept answers take no more of it, whoever's they are: the ledger needs the rest."""

import asyncio

import pytest

from helixflow.lib import errors
from helixflow.lib.pipelined_redis import Script
from inference.keeping import idempotency, lua, response_cache
from inference.keeping.idempotency import Claims
from tests.inference.kept_answers import answer, booked, claim
from tests.inference.test_kept_room import body, get, keep, put, refused

pytestmark = pytest.mark.usefixtures("patient_with_redis")


@pytest.fixture
def pressed(monkeypatch):
    """From now on more memory is used than may be."""

    def press() -> None:
        for module, name in ((idempotency, "_finish"), (response_cache, "_put")):
            source = lua.source("room", name[1:]).replace("local PRESSED = 0.75", "local PRESSED = 0")
            monkeypatch.setattr(module, name, Script(source, lane="kept"))

    return press


def test_the_fake_is_of_what_is_there():
    assert "local PRESSED = 0.75" in lua.source("room")


def test_new_answers_take_the_place_of_old_ones(pressed):
    async def run():
        for number in range(6):
            await keep(f"order-{number}", answer(body()))
        before = booked()[1]
        pressed()
        for number in range(6, 10):
            await keep(f"order-{number}", answer(body()))
        assert booked()[1] <= before
        assert not await refused("order-9")
        assert await refused("order-0")

    asyncio.run(run())


def test_who_had_nothing_has_marks_and_is_not_billed_again(pressed):
    pressed()

    async def run():
        for number in range(3):
            await keep(f"order-{number}", answer(body(100_000)))
        assert booked()[1] < 3 * 700
        for number in range(3):
            with pytest.raises(errors.InvalidRequest, match="not kept any more"):
                await claim(Claims(), f"order-{number}")

    asyncio.run(run())


def test_no_more_is_cached_than_was(pressed):
    async def run():
        await put(1)
        before = booked()
        pressed()
        await put(2)
        await put(3, 2_000)
        assert booked() == before
        assert [await get(seed) is not None for seed in (1, 2, 3)] == [False, True, False]

    asyncio.run(run())
