"""The contents of files: in the default storage, encrypted frame by frame, written and read as streams.

    header | frame 0 | frame 1 | … | last frame      a frame: nonce, ciphertext of FRAME bytes (the last: fewer), tag

A frame is sealed with its number and whether it is the last one, under a key of its file's own: frames that changed
places, or a file that lost its end, don't open. A row is made once its file is whole, and goes before its file does;
so what a worker's death leaves behind is a file without a row, which ``drop_litter`` finds.
"""

import io
import logging
import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import IO, Any, Final, Self

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Sum
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import errors, ids
from inference.batch import sealing
from inference.batch.splitting import Splitter
from inference.batch_models import Batch, BatchStatus, Purpose, StoredFile

logger = logging.getLogger(__name__)

HEADER: Final = b"HFF\x01"  # a name, and the version of what follows
FRAME: Final = 64 * 1024  # bytes in clear
SEALED: Final = FRAME + sealing.OVERHEAD
FOLDER: Final = "batch-files"
LIFETIME: Final = timedelta(days=30)
LITTER: Final = timedelta(hours=2)  # begun so long ago: nobody is writing it any more
PIECE: Final = 500  # rows dropped at once
GONE: Final = "This file isn't there any more. Upload it again."
AWAY: Final = "Files can't be kept or read at the moment. Try again."


class Writer:
    """A file in the making, from ``new``. Left without ``close`` nothing of it remains.

    ``size_bytes`` and ``lines`` are what was written so far; a last line needs no end.
    """

    def __init__(self, row: StoredFile) -> None:
        self._row = row
        self._box = sealing.Box(row.sealed_key)
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close and abort
        self._file.write(HEADER)
        self._frame = bytearray()
        self._number = 0
        self._ended = True  # whether the last line has
        self.size_bytes = 0
        self.lines = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes) -> None:
        if not data:
            return
        self.size_bytes += len(data)
        self.lines += data.count(b"\n")
        self._ended = data.endswith(b"\n")
        self._frame += data
        while len(self._frame) > FRAME:  # what may be the last frame is kept
            self._seal(FRAME, last=False)

    def close(
        self, *, lines: int | None = None, expires_at: datetime | None = None, within_room: bool = False
    ) -> StoredFile:
        """Put it away and make its row. ``lines`` where the caller counts otherwise, as blank ones don't count.

        With ``within_room`` raises InvalidRequest, and leaves nothing, if the organization's files are too many then.
        """
        self._seal(len(self._frame), last=True)
        row = self._row
        row.size_bytes = self.size_bytes
        row.lines = self.lines + (not self._ended) if lines is None else lines
        row.created_at = timezone.now()
        row.expires_at = expires_at or row.created_at + LIFETIME
        self._file.seek(0)
        try:
            row.name = default_storage.save(row.name, File(self._file))
        except OSError:
            logger.exception("a file can't be put away")
            raise errors.ServiceUnavailable(AWAY, retry_after=5) from None
        finally:
            self.abort()
        try:
            with transaction.atomic():
                if within_room:
                    require_room(row.organization_id, row.size_bytes)
                row.save(force_insert=True)
        except BaseException:
            default_storage.delete(row.name)
            raise
        return row

    def abort(self) -> None:
        """Does nothing after ``close``."""
        self._file.close()

    def _seal(self, size: int, *, last: bool) -> None:
        self._file.write(self._box.close(bytes(self._frame[:size]), _label(self._number, last=last)))
        del self._frame[:size]
        self._number += 1


def new(organization_id: uuid.UUID, api_key_id: uuid.UUID | None, filename: str, purpose: Purpose) -> Writer:
    """Use it as a context: ``with files.new(…) as writer: …; file = writer.close()``."""
    row = StoredFile(
        organization_id=organization_id,
        api_key_id=api_key_id,
        filename=filename,
        purpose=purpose,
        sealed_key=sealing.new_key(),
    )
    row.name = f"{FOLDER}/{row.id.hex}"  # of a time-ordered id: ``drop_litter`` reads the time from it
    return Writer(row)


def chunks(file: StoredFile) -> Iterator[bytes]:
    """The contents in clear. Opens the file before it returns.

    Raises errors.NotFound where the storage has lost it, ServiceUnavailable where it is away; while it is read
    sealing.Unopenable for what is damaged.
    """
    box = sealing.Box(file.sealed_key)
    try:
        stream = default_storage.open(file.name)
    except FileNotFoundError:
        logger.exception("the contents of %s are missing", file.public_id)
        raise errors.NotFound(GONE) from None
    except OSError:
        logger.exception("the contents of %s can't be read", file.public_id)
        raise errors.ServiceUnavailable(AWAY, retry_after=5) from None
    return _opened(stream, box)


def lines(file: StoredFile) -> Iterator[bytes]:
    """Without line ends, blank lines and a byte order mark; raises as ``chunks`` does."""
    return _lines(chunks(file))


def of(organization_id: uuid.UUID) -> QuerySet[StoredFile]:
    """Those that an organization has now."""
    return StoredFile.objects.filter(organization_id=organization_id, expires_at__gt=timezone.now())


def get(organization_id: uuid.UUID, public_id: str) -> StoredFile:
    """Raises errors.NotFound, for another organization's too."""
    try:
        return of(organization_id).get(id=ids.parse_public_id(ids.FILE, public_id))
    except (ValueError, StoredFile.DoesNotExist):
        raise errors.NotFound("There is no such file. Files are kept for 30 days at most.") from None


def room(organization_id: uuid.UUID) -> int:
    """How many bytes more the organization's files may have together; below 0 if outputs have filled it up."""
    held = of(organization_id).aggregate(held=Sum("size_bytes"))["held"] or 0
    return int(settings.FILES_MB * 1_000_000 - held)


def require_room(organization_id: uuid.UUID, size_bytes: int) -> None:
    """In a transaction, for whose rest nobody else's file takes the room. Raises InvalidRequest."""
    Organization.objects.select_for_update(no_key=True).only("id").get(id=organization_id)
    left = room(organization_id)
    if size_bytes > left:
        raise errors.InvalidRequest(
            f"Your organization's files may have {settings.FILES_MB:,} MB together, and this one has "
            f"{size_bytes / 1_000_000:,.1f} MB where {max(left, 0) / 1_000_000:,.1f} MB are free. Delete files that "
            "you no longer need (DELETE /v1/files/{id}), or wait until they expire.",
            param="file",
        )


@transaction.atomic
def delete(file: StoredFile) -> None:
    """Raises InvalidRequest while a batch is yet to read it."""
    waiting = Batch.objects.filter(input_file_id=file.id, status=BatchStatus.VALIDATING).first()
    if waiting is not None:
        raise errors.InvalidRequest(
            f"{waiting.public_id} is still reading this file. Delete it once the batch is in progress, "
            "or cancel the batch first."
        )
    drop(StoredFile.objects.filter(id=file.id))


def erase(organization_id: uuid.UUID, limit: int) -> int:
    """At most so many of an organization that is to be deleted, as ``accounts.erasure`` asks for it; how many."""
    return drop(StoredFile.objects.filter(organization_id=organization_id).order_by("id")[:limit])


@transaction.atomic
def drop(files: QuerySet[StoredFile]) -> int:
    """The rows, and once that is certain their contents; how many."""
    found = dict(files.values_list("id", "name"))
    StoredFile.objects.filter(id__in=found).delete()
    for name in found.values():
        transaction.on_commit(partial(default_storage.delete, name), robust=True)
    return len(found)


def drop_expired() -> int:
    """Those whose time is over and that no batch is yet to read; how many."""
    reading = Batch.objects.filter(input_file_id=OuterRef("id"), status=BatchStatus.VALIDATING)
    due = StoredFile.objects.filter(~Exists(reading), expires_at__lte=timezone.now()).order_by("expires_at")
    dropped = 0
    while piece := drop(due[:PIECE]):
        dropped += piece
    return dropped


def drop_litter() -> int:
    """Contents that no row names: of workers killed between a file and its row, or after the row. How many.

    A row without contents is left until it expires: if a volume was not mounted for an hour, all rows would go.
    """
    try:
        names = default_storage.listdir(FOLDER)[1]
    except FileNotFoundError:  # there never was a file
        return 0
    before = timezone.now() - LITTER
    old = [name for name in names if _begun_at(name) < before]
    dropped = 0
    for start in range(0, len(old), PIECE):
        piece = {f"{FOLDER}/{name}" for name in old[start : start + PIECE]}
        litter = piece - set(StoredFile.objects.filter(name__in=piece).values_list("name", flat=True))
        for name in litter:
            default_storage.delete(name)
        dropped += len(litter)
    return dropped


def _begun_at(name: str) -> datetime:
    """By its name. One that nobody here has given is of no time at all: it stays."""
    try:
        file_id = uuid.UUID(name)
    except ValueError:
        return timezone.now()
    return ids.time_of(file_id) if file_id.version == 7 else timezone.now()


def _label(number: int, *, last: bool) -> bytes:
    return HEADER + b"%d%s" % (number, b" last" if last else b"")


def _opened(stream: Any, box: sealing.Box) -> Iterator[bytes]:
    with stream:
        if stream.read(len(HEADER)) != HEADER:
            raise sealing.Unopenable
        number, sealed = 0, _read(stream)
        while sealed:
            following = _read(stream)
            yield box.open(sealed, _label(number, last=not following))
            number, sealed = number + 1, following
        if not number:
            raise sealing.Unopenable  # even an empty file has a frame


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    splitter = Splitter()
    for piece in pieces:
        yield from filter(None, splitter.feed(piece))
    yield from filter(None, splitter.end())


def _read(stream: Any) -> bytes:
    """A whole frame, or what is left: storages may give less than they were asked for."""
    parts = io.BytesIO()
    while (missing := SEALED - parts.tell()) and (part := stream.read(missing)):
        parts.write(part)
    return parts.getvalue()
