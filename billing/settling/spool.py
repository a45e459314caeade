"""Settlements on disk while Redis is away, for the event loop: nothing here waits for a disk but the writer's thread.

One lock guards the lines in memory and is held for moments; the other guards the files and is held as long as a disk
takes. Lines reach the file at once, so that a killed process loses nothing; power cuts cost the last ``GATHER_S``.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from billing.settling.settlement import Settlement
from billing.settling.spool_files import BEGIN, END, Folder, Segment, UnreadableSegment, encode, folders, unsettled

GATHER_S: Final = 0.02  # for one fsync
GROUP_LINES: Final = 500
BATCH: Final = 200
RETRY_S: Final = 1.0
COMPLAIN_EVERY_S: Final = 60.0
MAX_WAITING: Final = 50_000  # lines in memory while the disk takes nothing

Send = Callable[[list[Settlement]], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Cut:
    """All there was at one moment. Going on with it after a failure spares the batches that were sent."""

    segments: list[Segment]
    lines: list[bytes]  # that the disk did not take
    ends: int
    settlements: Iterator[Settlement]
    batch: list[Settlement] = field(default_factory=list)  # not yet taken by ``send``

    def advance(self) -> None:
        self.batch = list(islice(self.settlements, BATCH))


class Spool:
    """What one process could not settle, in ``directory``. Opened at first use: one made before a fork is each child's.

    What began here has to end here, whatever Redis does meanwhile: an end that went elsewhere leaves a begun request,
    which is settled as failed once this process is gone.
    """

    def __init__(self, directory: Path, process: str) -> None:
        self.dropped_lines = 0  # that memory had no room for, while the disk took nothing
        self.is_failing = False  # the disk takes nothing
        self._directory = directory
        self._process = process
        self._complained_at: dict[str, float] = {}
        self._replaying = False
        self._writer: threading.Thread | None = None
        self._retry = threading.Event()  # the disk may take something again

        self._changed = threading.Condition()  # guards these
        self._waiting: deque[bytes] = deque()
        self._open: dict[uuid.UUID, bytes] = {}  # begun and not ended
        self._unsent = 0  # ends since the last cut that was sent
        self._visitors = 0  # threads that want the files; the writer stays out of their way
        self._closing = False
        self._cut: _Cut | None = None  # that is being replayed

        self._files = threading.Lock()  # guards these
        self._folder: Folder | None = None
        self._carry: list[bytes] = []  # begins of segments that go: to be written before anything else

    @property
    def pending_lines(self) -> int:
        """Of this process, in memory and on disk."""
        cut, folder = self._cut, self._folder
        return len(self._waiting) + (len(cut.lines) if cut else 0) + (folder.lines if folder else 0)

    @property
    def pending_bytes(self) -> int:
        """Of this process, on disk."""
        folder = self._folder
        return folder.size if folder else 0

    def begin(self, settlement: Settlement) -> None:
        """``settlement`` is the one to make if no end follows. Returns at once and never raises."""
        line = encode(BEGIN, settlement)
        with self._changed:
            if self._has_room(MAX_WAITING // 2):  # an end says all that its begin does: the rest of the room is theirs
                self._open[settlement.id] = line
                self._add(line)

    def end(self, settlement: Settlement) -> None:
        """Returns at once and never raises."""
        line = encode(END, settlement)
        with self._changed:
            self._open.pop(settlement.id, None)
            self._unsent += 1
            if self._has_room(MAX_WAITING):
                self._add(line)

    async def flush(self) -> bool:
        """Wait until every line so far is on disk; False if the disk doesn't take them."""
        return await asyncio.to_thread(self._flush)

    async def replay(self, send: Send) -> int:
        """Give everything that ended to ``send``, in batches, and forget it. Returns how many were sent.

        ``send`` gets each at least once. What it raises comes out here; nothing is forgotten then.
        """
        if self._replaying or not self._unsent:
            return 0
        self._replaying = True
        try:
            cut = self._cut
            if cut is None:
                cut = await asyncio.to_thread(self._make_cut)
            sent = await self._send(cut, send)
            await asyncio.to_thread(self._finish, cut)
            return sent
        except UnreadableSegment as error:
            self._complain("read", "%s", error)
            self._discard_cut()
            return 0
        except asyncio.CancelledError:
            self._discard_cut()  # a thread may still be reading it
            raise
        finally:
            if self._holds_lines():
                self._discard_cut()
            self._replaying = False

    async def adopt(self, send: Send) -> int:
        """The same for what dead processes left behind in the directory: begun and not ended is sent as begun."""
        sent = 0
        for path in await asyncio.to_thread(folders, self._directory):
            folder = await asyncio.to_thread(self._take_over, path)
            if folder is not None:
                sent += await self._settle_orphan(folder, send)
        return sent

    def close(self) -> None:
        """Write what ``flush`` could not, wait for the disk, and leave the rest for any other process to adopt."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._retry.set()
        self._flush()
        with self._files:
            if self._waiting:
                logger.error("Lost %d lines of the spool: the disk took none of them", len(self._waiting))
            if self._folder is not None:
                self._folder.release()
                self._folder = None

    # Memory

    def _has_room(self, most: int) -> bool:
        if len(self._waiting) < most:
            return True
        self.dropped_lines += 1
        self._complain("memory", "The spool has dropped %d lines so far: memory is full as well", self.dropped_lines)
        return False

    def _add(self, line: bytes) -> None:
        self._waiting.append(line)
        self._changed.notify_all()
        if not self._closing and (self._writer is None or not self._writer.is_alive()):
            try:
                self._writer = threading.Thread(target=self._write_on, name="spool", daemon=True)
                self._writer.start()
            except RuntimeError as error:  # no more threads: the next line tries again
                self._complain("thread", "The spool cannot start its thread: %s", error)

    def _first(self, count: int) -> Iterator[list[bytes]]:
        with self._changed:
            lines = [self._waiting.popleft() for _ in range(count)]
        if lines:
            yield lines

    def _gathered(self) -> Iterator[list[bytes]]:
        """What one fsync is for: lines as they come, until it is time for it or a visitor waits."""
        left = GROUP_LINES
        until = time.monotonic() + GATHER_S
        while left and (wait_s := until - time.monotonic()) > 0:
            with self._changed:
                if not self._waiting and not self._visitors:
                    self._changed.wait(wait_s)
                count = min(left, len(self._waiting))
            if not count:
                return
            left -= count
            yield from self._first(count)

    def _holds_lines(self) -> bool:
        return self._cut is not None and bool(self._cut.lines)

    def _discard_cut(self) -> None:
        """Begin again with the next replay. Its lines come first again: the writer kept out meanwhile."""
        with self._changed:
            if self._cut is not None:
                self._waiting.extendleft(reversed(self._cut.lines))
                self._cut = None
                self._changed.notify_all()

    # The writer's thread

    def _write_on(self) -> None:
        while self._await_lines():
            with self._files:
                if not self._holds_lines():
                    self._write(self._gathered())

    def _await_lines(self) -> bool:
        """False when it is time to go."""
        if self.is_failing:
            self._retry.wait(RETRY_S)
            self._retry.clear()
        with self._changed:
            while not self._closing and (self._visitors or self._holds_lines() or not (self._waiting or self._carry)):
                self._changed.wait()
            return not self._closing

    # With the files

    @contextmanager
    def _visit(self) -> Iterator[None]:
        """The files for another thread. The writer ends its group at once and stays out as long."""
        with self._changed:
            self._visitors += 1
            self._changed.notify_all()
        try:
            with self._files:
                yield
        finally:
            with self._changed:
                self._visitors -= 1
                self._changed.notify_all()

    def _write(self, groups: Iterable[list[bytes]]) -> bool:
        """Take the groups out of memory and onto the disk; what the disk refuses is in memory as before."""
        taken: list[bytes] = []
        try:
            if self._folder is None:
                self._folder = Folder.create(self._directory, self._process)
            if self._carry:
                self._folder.write(self._carry)
            for lines in groups:
                taken += lines
                self._folder.write(lines)
            self._folder.sync()
        except OSError as error:
            with self._changed:
                self._waiting.extendleft(reversed(taken))
            self._disk_failed(error)
            return False
        self._carry = []
        self.is_failing = False
        return True

    def _disk_failed(self, error: OSError) -> None:
        self.is_failing = True
        self._complain("write", "The spool cannot be written, lines are kept in memory: %s", error)
        if self._folder is None:
            return
        self._folder.cancel()
        if isinstance(error, FileNotFoundError) and not self._folder.path.exists():  # somebody tidied up
            self._folder.release()
            self._folder = None
            with self._changed:
                self._carry = list(self._open.values())

    def _flush(self) -> bool:
        with self._visit():
            if not self._replaying and self._holds_lines():
                self._discard_cut()
            count = len(self._waiting)
            if count or self._carry:
                self._write(self._first(count))
            return not self.is_failing and not self._holds_lines()

    def _make_cut(self) -> _Cut:
        with self._visit():
            if self._cut is not None:
                return self._cut
            with self._changed:
                count, ends, begun = len(self._waiting), self._unsent, dict(self._open)
            lines: list[bytes] = []
            if not self._write(self._first(count)):
                for lines in self._first(count):  # noqa: B007  # at most once
                    pass
            segments: list[Segment] = []
            if self._folder is not None:
                self._folder.close_segment()
                segments = self._folder.closed_segments()
            self._carry = list(begun.values())
            if begun:
                self._write(())
            self._cut = _Cut(segments, lines, ends, unsettled(segments, lines, begun))
            return self._cut

    def _finish(self, cut: _Cut) -> None:
        """If the begins could not be carried on, the disk may have room for them when the segments are gone."""
        with self._visit():
            with self._changed:
                if self._cut is not cut:
                    return
                self._cut = None
                self._unsent -= cut.ends
            if self._folder is not None:
                self._remove(self._folder, cut.segments)
            if not self._waiting and not self._carry:
                self.is_failing = False  # nothing is left that the disk refused
            self._retry.set()

    def _remove(self, folder: Folder, segments: list[Segment]) -> None:
        if not folder.remove_segments(segments):
            self._complain(f"remove {folder.path}", "Segments in %s are settled and cannot be removed", folder.path)

    @staticmethod
    async def _send(cut: _Cut, send: Send) -> int:
        sent = 0
        while True:
            if not cut.batch:
                await asyncio.to_thread(cut.advance)
            if not cut.batch:
                return sent
            await send(cut.batch)
            sent += len(cut.batch)
            cut.batch = []

    def _take_over(self, path: Path) -> Folder | None:
        try:
            return Folder.adopt(path)
        except OSError as error:
            self._complain(f"adopt {path}", "%s cannot be adopted: %s", path, error)
            return None

    async def _settle_orphan(self, folder: Folder, send: Send) -> int:
        segments = folder.closed_segments()
        try:
            sent = await self._send(_Cut(segments, [], 0, unsettled(segments)), send)
            await asyncio.to_thread(self._remove, folder, segments)
        except UnreadableSegment as error:
            self._complain(f"read {folder.path}", "%s", error)
            return 0
        finally:
            await asyncio.to_thread(folder.release)
        if sent:
            logger.warning("Settled %d requests that a process left in %s when it died", sent, folder.path)
        return sent

    def _complain(self, topic: str, message: str, *values: object) -> None:
        """At most once a minute for each topic."""
        now = time.monotonic()
        if now - self._complained_at.get(topic, -COMPLAIN_EVERY_S) >= COMPLAIN_EVERY_S:
            self._complained_at[topic] = now
            logger.error(message, *values)
