"""The spool on disk: a folder per process, in it a lock and numbered segments of lines. Pure.

::

    spool/web-7.5f3a09c1/lock            held while the process lives
                         00000001.log    oldest first; only the newest is appended to
    spool/web-7.5f3a09c1.corrupt         lines of it that could not be read

A line is ``B`` (what to settle if no end follows) or ``E`` (how it ended), a checksum, and a settlement in JSON. They
hold what callers say of their users, so all of it is for its owner only.
"""

import fcntl
import logging
import os
import secrets
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from billing.settling.settlement import Settlement

BEGIN: Final = b"B"
END: Final = b"E"
LOCK: Final = "lock"
_NO_EVENT: Final = msgspec.Raw(b"null")

logger = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Settlement).decode


class UnreadableSegment(Exception):
    """The disk does not give back what it took. The segment stays where it is."""


def encode(kind: bytes, settlement: Settlement) -> bytes:
    if not settlement.payload:  # nothing at all is no JSON
        settlement = msgspec.structs.replace(settlement, payload=_NO_EVENT)
    body = _encode(settlement)
    return b"%s %08x %s\n" % (kind, zlib.crc32(body, zlib.crc32(kind)), body)


def decode(line: bytes) -> tuple[bytes, Settlement]:
    """Kind and settlement. Raises ValueError for what ``encode`` did not make."""
    kind, checksum, body = line[:1], line[2:10], line[11:-1]
    if kind not in {BEGIN, END} or checksum != b"%08x" % zlib.crc32(body, zlib.crc32(kind)):
        raise ValueError("not a line of a spool")
    try:
        settlement = _decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if settlement.payload == _NO_EVENT:
        settlement = msgspec.structs.replace(settlement, payload=msgspec.Raw(b""))
    return kind, settlement


@dataclass(slots=True, eq=False)
class Segment:
    path: Path
    lines: int = 0
    size: int = 0
    synced: tuple[int, int] = (0, 0)  # lines and size that are safe
    damaged: bool = False


class Folder:
    """One process's files. Nothing here locks between threads. ``create``, ``write`` and ``sync`` raise OSError."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._segments = [Segment(found, size=found.stat().st_size) for found in sorted(path.glob("*.log"))]
        self._sent: list[Segment] = []  # and still there, as the disk refused to remove them
        self._number = int(self._segments[-1].path.stem) if self._segments else 0
        self._file: int | None = None  # of the newest segment, while it is written

    @classmethod
    def create(cls, directory: Path, process: str) -> Self:
        """A new one, locked before anybody can see it."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".", dir=directory))
        name = "".join(char if char.isalnum() else "-" for char in process)
        path = directory / f"{name}.{secrets.token_hex(4)}"
        lock = None
        try:
            lock = _lock(hidden / LOCK)
            assert lock is not None  # noqa: S101  # nobody else knows its name
            hidden.rename(path)
            _sync_folder(directory)
        except OSError:
            for made in (hidden, path):
                shutil.rmtree(made, ignore_errors=True)
            if lock is not None:
                os.close(lock)
            raise
        return cls(path, lock)

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """That of a process which died; None if it lives, or if somebody else was quicker."""
        try:
            lock = _lock(path / LOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if lock is None:
            return None
        try:
            return cls(path, lock)
        except FileNotFoundError:
            os.close(lock)
            return None

    @property
    def lines(self) -> int:
        return sum(segment.lines for segment in list(self._segments))

    @property
    def size(self) -> int:
        return sum(segment.size for segment in list(self._segments))

    def write(self, lines: list[bytes]) -> None:
        """After this a killed process loses nothing; after ``sync`` neither does a machine without power."""
        if self._file is None:
            self._file = self._start_segment()
        segment = self._segments[-1]
        left = memoryview(b"".join(lines))
        while left:
            written = os.write(self._file, left)
            segment.size += written
            left = left[written:]
        segment.lines += len(lines)

    def sync(self) -> None:
        if self._file is None:
            return
        os.fsync(self._file)
        if not os.fstat(self._file).st_nlink:
            raise FileNotFoundError(f"somebody removed {self._segments[-1].path}")
        segment = self._segments[-1]
        segment.synced = (segment.lines, segment.size)

    def close_segment(self) -> None:
        """The next line begins a new one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def cancel(self) -> None:
        """After a failure: take back what was written since ``sync``."""
        if self._file is None:
            return
        segment = self._segments[-1]
        segment.lines, segment.size = segment.synced
        try:
            os.ftruncate(self._file, segment.size)
        except OSError:
            logger.info("%s may end in a torn line", segment.path)
        self.close_segment()
        if not segment.size:
            self.remove_segments([segment])

    def closed_segments(self) -> list[Segment]:
        return self._segments[:-1] if self._file is not None else self._segments.copy()

    def remove_segments(self, segments: list[Segment]) -> bool:
        """Never given out again, even while the disk refuses. Oldest first: a begin must not outlive its end.

        False if some are still there; the next call tries them again.
        """
        self._segments = [segment for segment in self._segments if segment not in segments]
        self._sent += segments
        try:
            while self._sent:
                segment = self._sent[0]
                if segment.damaged:
                    self._set_damage_aside(segment)
                segment.path.unlink(missing_ok=True)
                del self._sent[0]
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let others adopt what is left; an empty folder goes."""
        self.close_segment()
        if self._lock < 0:
            return
        try:
            if not self._segments and not self._sent:
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()
        except OSError as error:  # somebody looked at it in between and made a lock of their own: they remove it
            logger.info("%s stays: %s", self.path, error)
        os.close(self._lock)
        self._lock = -1

    def _start_segment(self) -> int:
        path = self.path / f"{self._number + 1:08}.log"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._number += 1
        self._segments.append(Segment(path))
        self._file = file  # so that ``cancel`` finds it if the folder can't be synced
        _sync_folder(self.path)
        return file

    def _set_damage_aside(self, segment: Segment) -> None:
        path = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            aside = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(aside, "ab") as file, segment.path.open("rb") as lines:
                file.writelines(line for line in lines if line.endswith(b"\n") and not _is_whole(line))
        except OSError:
            logger.exception("Lines of %s that cannot be read are lost", segment.path)


def unsettled(
    segments: list[Segment], more_lines: Iterable[bytes] = (), carried: Container[uuid.UUID] = ()
) -> Iterator[Settlement]:
    """Everything that ended, then what began and did not, except the ``carried``, which may end yet.

    In the order of writing: a begin comes before its end, so only what is under way is remembered.
    Raises UnreadableSegment.
    """
    begun: dict[uuid.UUID, Settlement] = {}
    for lines in (*map(_settlements, segments), map(decode, more_lines)):
        for kind, settlement in lines:
            if kind == BEGIN:
                begun[settlement.id] = settlement
            else:
                begun.pop(settlement.id, None)
                yield settlement
    yield from (settlement for settlement in begun.values() if settlement.id not in carried)


def _settlements(segment: Segment) -> Iterator[tuple[bytes, Settlement]]:
    try:
        with segment.path.open("rb") as file:
            for line in file:
                try:
                    yield decode(line)
                except ValueError:
                    _report(segment, line)
    except FileNotFoundError:
        logger.exception("Somebody removed %s: its requests will never be settled", segment.path)
    except OSError as error:
        raise UnreadableSegment(f"{segment.path} cannot be read: {error}") from error


def _report(segment: Segment, line: bytes) -> None:
    if not line.endswith(b"\n"):
        logger.warning("%s ends in a torn line, as after a power cut: skipped", segment.path)
    elif not segment.damaged:
        segment.damaged = True
        logger.error("%s holds lines that cannot be read: they will be set aside", segment.path)


def folders(directory: Path) -> list[Path]:
    """Those of all processes, the living and the dead."""
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _is_whole(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True


def _lock(path: Path) -> int | None:
    """A descriptor to hold, or None if another one holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:
        os.close(file)
        raise
    return file


def _sync_folder(path: Path) -> None:
    """A file is found after a power cut only if its folder was written too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
