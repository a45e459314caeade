"""A spool in tests: what processes do with it, a Redis that goes away, and a disk that fills up."""

import asyncio
import errno
import os
import threading
import uuid
from pathlib import Path

from billing import events
from billing.settling.settlement import Settlement
from helixflow.lib import ids

ORGANIZATION, API_KEY = uuid.uuid4(), uuid.uuid4()
FAILED, ANSWERED = 0, 1  # units: what a begin and an end of these tests give


def settlement(request, units):
    event = events.Usage(
        id=request,
        organization_id=ORGANIZATION,
        api_key_id=API_KEY,
        month=202611,
        units=units,
        status=200 if units else 500,
        duration_ms=1.5,
        end_user="Zoë\n",
    )
    return Settlement.of(event)


def begin(process, request=None):
    request = request or ids.uuid7()
    process.begin(settlement(request, FAILED))
    return request


def end(process, request=None):
    request = request or ids.uuid7()
    process.end(settlement(request, ANSWERED))
    return request


class Away(Exception):
    pass


class Redis:
    """Takes ``calls`` batches, then is away; None: all."""

    def __init__(self, calls=None):
        self.calls = calls
        self.batches = []
        self.is_away = lambda: False

    async def __call__(self, batch):
        await asyncio.sleep(0)
        if self.is_away():
            raise Away
        if self.calls is not None:
            if not self.calls:
                raise Away
            self.calls -= 1
        self.batches.append(list(batch))

    @property
    def taken(self):
        return [(settlement.id, settlement.units) for batch in self.batches for settlement in batch]


class Disk:
    """The disk below ``directory``: full on command, dead after ``lasts`` changes, and its fsyncs are counted."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory
        self.full: bool | str = False  # "entirely": not even a part of a write fits
        self.lasts = 1_000_000
        self.fsyncs = 0
        self.may_sync = threading.Event()
        self.may_sync.set()
        self._write, self._fsync, self._ftruncate, self._unlink = os.write, os.fsync, os.ftruncate, os.unlink
        for name in ("write", "fsync", "ftruncate", "unlink"):
            monkeypatch.setattr(os, name, getattr(self, name))

    def write(self, file, data):
        if self._changes(file) and self.full:
            if len(data) > 100 and self.full != "entirely":
                return self._write(file, data[:50])  # some of it fits
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(file, data)

    def fsync(self, file):
        if self._changes(file):
            self.fsyncs += 1
            assert self.may_sync.wait(20)
        else:
            self._fsync(file)

    def ftruncate(self, file, size):
        self._changes(file)
        self._ftruncate(file, size)

    def unlink(self, path, **options):
        self._changes(path)
        self._unlink(path, **options)

    def _changes(self, file):
        path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else Path(file)
        if not path.is_relative_to(self.directory):
            return False
        self.lasts -= 1
        if self.lasts < 0:
            raise OSError(errno.EIO, "Input/output error")
        return True


def crash(process):
    """What kill -9 leaves: files as they are, the lock free. (test_spool_faults.py really kills.)"""
    with process._changed:
        process._closing = True
        process._changed.notify_all()
    process._retry.set()
    if process._writer is not None:
        process._writer.join(20)
    if process._folder is not None:
        process._folder.close_segment()
        os.close(process._folder._lock)
        process._folder = None
    process._waiting.clear()
    process._carry.clear()
    process._cut = None


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def adopted(process):
    redis = Redis()
    asyncio.run(process.adopt(redis))
    return redis.taken
