"""What a spool finds on disk, whole or damaged."""

import asyncio
import os
import stat

import pytest

from billing import events
from billing.settling import spool_files
from billing.settling.settlement import Settlement
from helixflow.lib import ids
from tests.billing.spooling import (
    ANSWERED,
    API_KEY,
    FAILED,
    ORGANIZATION,
    Redis,
    adopted,
    begin,
    crash,
    end,
    settlement,
)


@pytest.mark.parametrize("kind", [spool_files.BEGIN, spool_files.END])
def test_a_line_says_what_was_written(kind):
    made = settlement(ids.uuid7(), ANSWERED)
    line = spool_files.encode(kind, made)
    assert line.count(b"\n") == 1
    found, decoded = spool_files.decode(line)
    assert (found, decoded) == (kind, made)
    assert events.decode(decoded.payload).end_user == "Zoë\n"


def test_a_settlement_without_an_event_keeps_its_emptiness():
    settlement = Settlement(ids.uuid7(), ORGANIZATION, API_KEY, 202611, 0)
    _, decoded = spool_files.decode(spool_files.encode(spool_files.END, settlement))
    assert decoded == settlement
    assert not decoded.payload


def test_no_changed_byte_goes_unnoticed():
    line = spool_files.encode(spool_files.BEGIN, settlement(ids.uuid7(), FAILED))
    for at in [0, *range(2, 10), *range(11, len(line) - 1)]:
        changed = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        with pytest.raises(ValueError, match="not a line"):
            spool_files.decode(changed)


def test_a_torn_last_line_is_skipped(start_spool, spool_directory, caplog):
    process = start_spool()
    request = end(process)
    end(process)
    asyncio.run(process.flush())
    crash(process)
    (segment,) = spool_directory.rglob("*.log")
    os.truncate(segment, segment.stat().st_size - 20)
    assert adopted(start_spool()) == [(request, ANSWERED)]
    assert "torn line" in caplog.text
    assert list(spool_directory.iterdir()) == []


def test_zeros_that_a_power_cut_leaves_are_skipped(start_spool, spool_directory, caplog):
    process = start_spool()
    request = begin(process)
    asyncio.run(process.flush())
    crash(process)
    (segment,) = spool_directory.rglob("*.log")
    os.truncate(segment, segment.stat().st_size + 4096)
    assert adopted(start_spool()) == [(request, FAILED)]
    assert "torn line" in caplog.text


def test_lines_that_cannot_be_read_are_set_aside(start_spool, spool_directory, caplog):
    process = start_spool()
    requests = [end(process) for _ in range(3)]
    asyncio.run(process.flush())
    crash(process)
    (segment,) = spool_directory.rglob("*.log")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"202611", b"202612")
    segment.write_bytes(b"".join(lines))
    assert adopted(start_spool()) == [(requests[0], ANSWERED), (requests[2], ANSWERED)]
    (aside,) = spool_directory.iterdir()
    assert aside.suffix == ".corrupt"
    assert aside.read_bytes() == lines[1]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert "cannot be read" in caplog.text


def test_a_living_process_whose_line_was_damaged_settles_its_begin(start_spool, spool_directory):
    async def scenario():
        process, redis = start_spool(), Redis()
        request = begin(process)
        end(process, request)
        await process.flush()
        (segment,) = spool_directory.rglob("*.log")
        content = segment.read_bytes()
        segment.write_bytes(content[:-2] + b"?\n")
        await process.replay(redis)
        assert redis.taken == [(request, FAILED)]

    asyncio.run(scenario())


def test_a_segment_that_cannot_be_read_stays_and_stops_nobody_else(start_spool, spool_directory, monkeypatch, caplog):
    async def scenario():
        bad, good = start_spool("a"), start_spool("b")
        first, second = end(bad), end(good)
        await asyncio.gather(bad.flush(), good.flush())
        crash(bad)
        crash(good)
        (segment,) = spool_directory.glob("a.*/*.log")
        segment.rename(spool_directory / "kept")
        segment.mkdir()  # reading it fails as a broken disk does
        living, redis = start_spool(), Redis()
        for _ in range(3):
            await living.adopt(redis)
        assert redis.taken == [(second, ANSWERED)]
        assert caplog.text.count("cannot be read") == 1
        segment.rmdir()
        (spool_directory / "kept").rename(segment)
        await living.adopt(redis)
        assert redis.taken[1:] == [(first, ANSWERED)]

    asyncio.run(scenario())


def test_a_directory_that_somebody_removed_is_made_again(start_spool, spool_directory):
    async def scenario():
        process = start_spool()
        begun = begin(process)
        await process.flush()
        for path in sorted(spool_directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        spool_directory.rmdir()
        ended = end(process)
        await process.flush()
        assert await process.flush()
        crash(process)
        return begun, ended

    begun, ended = asyncio.run(scenario())
    assert adopted(start_spool()) == [(ended, ANSWERED), (begun, FAILED)]
