"""From a batch's file to its rows: all lines are read and checked before anything is asked.

Rows are written on the way, in order, so that whoever goes on after a kill knows where to begin; nobody asks them while
the batch is validating. One bad line and they go again: the batch has failed, with its lines named.
"""

from collections.abc import Iterator
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from helixflow.lib import errors
from inference.batch import announcing, files, lines, sealing
from inference.batch.lanes import Lane
from inference.batch.lines import BadLine, Line
from inference.batch_models import Batch, BatchItem, BatchStatus, StoredFile

PIECE: Final = 1_000  # rows written at once
PIECE_BYTES: Final = 8 * 1024 * 1024  # or what they hold
MOST_ERRORS: Final = 100  # told
MOST_LINES: Final = 50_000
NO_FILE: Final = "file_not_found"
EMPTY: Final = "empty_file"
TOO_MANY: Final = "too_many_requests"


class _Interrupted(Exception):
    """The lane is lost, or somebody has cancelled the batch."""


def prepare(batch: Batch, lane: Lane) -> None:
    """The batch is in progress then, or has failed; or somebody else goes on."""
    reading = _Reading(batch, lane)
    try:
        total = reading.read()
    except _Interrupted:
        return
    if reading.errors:
        _fail(batch, reading.told())
    else:
        _validating(batch).update(status=BatchStatus.IN_PROGRESS, in_progress_at=timezone.now(), total=total)


class _Reading:
    """One pass through the file."""

    def __init__(self, batch: Batch, lane: Lane) -> None:
        self.errors: list[dict[str, Any]] = []
        self._batch = batch
        self._lane = lane
        self._box = sealing.Box(batch.sealed_key)
        self._bad = 0
        self._known: dict[bytes, int] = {}  # custom_id, shortened → the number of its line
        last = batch.items.order_by("-position").values_list("position", flat=True).first()
        self._written = 0 if last is None else last + 1
        self._rows: list[BatchItem] = []
        self._held = 0  # bytes in them

    def read(self) -> int:
        """How many requests there are. Raises _Interrupted."""
        number = 0
        try:
            for number, raw in enumerate(self._lines(), start=1):
                self._take(raw, number)
                if number % PIECE == 0 or self._held >= PIECE_BYTES:
                    self._write()
        except errors.NotFound as gone:
            self._note(NO_FILE, f"{gone.message} Then make the batch anew.", "input_file_id")
        except sealing.Unopenable:
            message = "The input file is damaged. Upload it again, and make the batch anew."
            self._note(NO_FILE, message, "input_file_id")
        if not number and not self.errors:
            self._note(EMPTY, "The input file has no requests: write one on each line.", "input_file_id")
        self._write()
        return number

    def told(self) -> list[dict[str, Any]]:
        rest = self._bad - len(self.errors)
        if rest:
            message = f"{rest:,} more lines are wrong: these are the first {MOST_ERRORS}."
            self.errors.append({"code": "more_errors", "message": message, "param": None, "line": None})
        return self.errors

    def _lines(self) -> Iterator[bytes]:
        file = StoredFile.objects.filter(organization_id=self._batch.organization_id, id=self._batch.input_file_id)
        found = file.first()
        if found is None:
            raise errors.NotFound("The input file was deleted before it was read. Upload it again.")
        return files.lines(found)

    def _take(self, raw: bytes, number: int) -> None:
        if number > MOST_LINES:
            if number == MOST_LINES + 1:
                message = f"A batch may have {MOST_LINES:,} requests: make several of this file."
                self._note(TOO_MANY, message, "input_file_id")
            return
        try:
            line = lines.parse(raw, number, self._batch.operation)
            self._require_new(line, number)
        except BadLine as bad:
            self._bad += 1
            if len(self.errors) < MOST_ERRORS:
                self.errors.append(bad.error())
            return
        if number > self._written and not self.errors:
            self._rows.append(self._row(line, number - 1))
            self._held += len(raw)

    def _require_new(self, line: Line, number: int) -> None:
        first = self._known.setdefault(lines.digest(line.custom_id), number)
        if first != number:
            message = f"This custom_id is that of line {first} too: give each request its own."
            raise BadLine(number, lines.DUPLICATE, message, "custom_id")

    def _row(self, line: Line, position: int) -> BatchItem:
        return BatchItem(
            batch=self._batch,
            position=position,
            custom_id=line.custom_id,
            model=line.model,
            request=self._box.close(line.body, sealing.request_label(position)),
        )

    def _note(self, code: str, message: str, param: str) -> None:
        self._bad += 1
        self.errors.append({"code": code, "message": message, "param": param, "line": None})

    def _write(self) -> None:
        """Where two overlap, the first row of a position stays."""
        if not self._lane.held or not _validating(self._batch).exists():
            raise _Interrupted
        rows, self._rows, self._held = self._rows, [], 0
        if rows:
            BatchItem.objects.bulk_create(rows, batch_size=PIECE, ignore_conflicts=True)


def _validating(batch: Batch) -> Any:
    return Batch.objects.filter(id=batch.id, status=BatchStatus.VALIDATING)


def _fail(batch: Batch, told: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        failed = {"status": BatchStatus.FAILED, "failed_at": timezone.now(), "errors": told}
        if _validating(batch).update(**failed):
            drop_items(batch)
            batch.refresh_from_db()
            announcing.completed(batch)


def drop_items(batch: Batch) -> None:
    """Of a batch that never began."""
    batch.items.all().delete()
    Batch.objects.filter(id=batch.id).update(held_bytes=0)
