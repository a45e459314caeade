"""Writing an export: a ZIP of JSON Lines, one file a table, streamed through a temporary file into the default storage.

A worker owns a row by what it last wrote into ``touched_at``; whoever finds that changed stops. A worker that was
killed touches nothing any more, so its export is begun anew by the next one (``accounts.exports.sweep``).
"""

import json
import logging
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import IO, Any, Final

from django.core.files import File
from django.core.files.storage import default_storage
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import Export, Organization
from helixflow.lib import clock

logger = logging.getLogger(__name__)

STALE: Final = timedelta(seconds=60)  # untouched for so long: its worker is gone
LIFETIME: Final = timedelta(days=7)
TOUCH_EVERY: Final = 1_000  # rows
TOUCH_AFTER: Final = timedelta(seconds=5)  # whatever the rows are like, and while the file is put away
LITTER: Final = timedelta(hours=1)  # unchanged for so long: nobody is writing it
FOLDER: Final = "exports"
CHUNK: Final = 1_000  # rows of a table read at once

Source = Callable[[Organization], Iterator[dict[str, Any]]]
_sources: dict[str, Source] = {}

README: Final = """\
Everything HelixFlow keeps of the organization {name} ({id}), as of {at}.

Each .jsonl file holds one JSON object a line. Times are UTC. Secrets (API keys, signing secrets, passwords) are not in
here: of keys only their first and last characters are kept at all.

{lines}
"""


class Taken(Exception):
    """Another worker has this export, or it is gone."""


def register(name: str, source: Source) -> None:
    """``name``.jsonl holds the rows of ``source``, which reads them as it goes. Called in ``AppConfig.ready``."""
    _sources[name] = source


def rows_of(rows: QuerySet[Any]) -> Iterator[Any]:
    """Read piece by piece in order of their keys, oldest first: neither memory nor a snapshot is held for long."""
    last = None
    while True:
        piece = list((rows if last is None else rows.filter(pk__gt=last)).order_by("pk")[:CHUNK])
        yield from piece
        if len(piece) < CHUNK:
            return
        last = piece[-1].pk


def write(export_id: uuid.UUID) -> bool:
    """Whether this call finished it; False where another worker is at it, or it is done or gone."""
    export = _claim(export_id)
    if export is None:
        return False
    try:
        with tempfile.TemporaryFile() as file:
            _fill(file, export)
            size = file.tell()
            file.seek(0)
            name = default_storage.save(f"{FOLDER}/{export.id.hex}-{uuid.uuid4().hex}.zip", _Watched(file, export))
        _finish(export, name, size)
    except Taken:
        logger.info("export %s was taken over", export.public_id)
        return False
    return True


def fail(export_id: uuid.UUID) -> None:
    Export.objects.filter(id=export_id, state=Export.State.RUNNING).update(
        state=Export.State.FAILED, finished_at=timezone.now()
    )


def drop_litter() -> int:
    """Files that no row names: of workers killed between a file and its row, or after the row. How many."""
    try:
        names = [f"{FOLDER}/{name}" for name in default_storage.listdir(FOLDER)[1]]
    except FileNotFoundError:  # there never was an export
        return 0
    known = set(Export.objects.exclude(file="").values_list("file", flat=True).iterator())
    before = timezone.now() - LITTER
    litter = [name for name in names if name not in known and default_storage.get_modified_time(name) < before]
    for name in litter:
        default_storage.delete(name)
    return len(litter)


def claimable() -> QuerySet[Export]:
    stale = Q(state=Export.State.RUNNING, touched_at__lte=timezone.now() - STALE)
    return Export.objects.filter(Q(state=Export.State.WAITING) | stale)


def _claim(export_id: uuid.UUID) -> Export | None:
    now = timezone.now()
    claimed = claimable().filter(id=export_id).update(state=Export.State.RUNNING, touched_at=now, rows=0)
    if not claimed:
        return None
    return Export.objects.select_related("organization").filter(id=export_id, touched_at=now).first()


def _fill(file: IO[bytes], export: Export) -> None:
    lines = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(_sources.items()):
            count = _write_table(archive, f"{name}.jsonl", source(export.organization), export)
            lines.append(f"{name}.jsonl: {count:,} {'row' if count == 1 else 'rows'}")
        archive.writestr("README.txt", _readme(export.organization, lines))
    _touch(export)


def _write_table(archive: zipfile.ZipFile, name: str, rows: Iterator[dict[str, Any]], export: Export) -> int:
    before = export.rows
    with archive.open(name, "w", force_zip64=True) as table:
        for row in rows:
            table.write(json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False).encode() + b"\n")
            export.rows += 1
            if export.rows % TOUCH_EVERY == 0:
                _touch(export)
            _touch_in_time(export)
    return export.rows - before


def _readme(organization: Organization, lines: list[str]) -> str:
    return README.format(
        name=organization.name, id=organization.public_id, at=clock.rfc3339(timezone.now()), lines="\n".join(lines)
    )


def _touch(export: Export) -> None:
    """Progress for the page, and the lease. Raises Taken."""
    _set(export, timezone.now(), rows=export.rows)


def _touch_in_time(export: Export) -> None:
    """Raises Taken."""
    if timezone.now() - export.touched_at > TOUCH_AFTER:
        _touch(export)


class _Watched(File):  # type: ignore[type-arg]  # the stubs' File is generic, Django's is not
    """Being read says that its worker is there: a storage may take minutes for what is large."""

    def __init__(self, file: IO[bytes], export: Export) -> None:
        super().__init__(file)
        self._export = export

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        for chunk in super().chunks(chunk_size):
            _touch_in_time(self._export)
            yield chunk


def _finish(export: Export, name: str, size: int) -> None:
    now = timezone.now()
    done = {"state": Export.State.READY, "file": name, "size_bytes": size}
    try:
        _set(export, now, finished_at=now, expires_at=now + LIFETIME, **done)
    except Taken:
        default_storage.delete(name)
        raise


def _set(export: Export, now: datetime, **fields: Any) -> None:
    mine = Export.objects.filter(id=export.id, state=Export.State.RUNNING, touched_at=export.touched_at)
    if not mine.update(touched_at=now, **fields):
        raise Taken
    export.touched_at = now
