"""Uploads of input files: the form is read, and its file checked and encrypted, as one stream. ``receive`` is all.

Lines are looked at from the outside only: whether the bodies are right for their endpoint is seen when a batch is made
of the file, as the answer may depend on the day.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, cast

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import QueryDict
from django.utils import timezone

from helixflow.lib import errors
from inference.batch import files, lines
from inference.batch.splitting import Splitter
from inference.batch_models import Operation, Purpose, StoredFile

MAX_BYTES: Final = 200 * 1024 * 1024
MAX_LINES: Final = 50_000
MAX_BLANK: Final = 1_000  # lines; 200 MB of nothing else would keep a processor for minutes
MAX_NAMED: Final = 100  # bad lines
MAX_FILENAME: Final = 255
CHUNK: Final = 256 * 1024
TAIL: Final = 2048  # of the form, where its last boundary is
OTHER_FORMATS: Final = {
    b"\x1f\x8b": "This file is compressed (gzip). Upload the JSONL file itself.",
    b"PK\x03\x04": "This file is compressed (ZIP). Upload the JSONL file itself.",
    b"\xff\xfe": "This file is in UTF-16. Save it as UTF-8.",
    b"\xfe\xff": "This file is in UTF-16. Save it as UTF-8.",
}
FILE: Final = "file"
FIELDS: Final = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
LEAST_LIFE: Final = timedelta(hours=1)
SECONDS: Final = re.compile(r"[0-9]{1,9}")


def receive(
    stream: Any, meta: Mapping[str, Any], organization_id: uuid.UUID, api_key_id: uuid.UUID | None
) -> StoredFile:
    """``stream`` has the body of a request, ``meta`` its headers as Django has them.

    Raises InvalidRequest, UnsupportedMediaType, BodyTooLarge, ServiceUnavailable; nothing is stored then.
    """
    if not str(meta.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data"):
        raise errors.UnsupportedMediaType(
            "Send the file as multipart/form-data, with the fields purpose (batch) and file."
        )
    handler = _Handler(organization_id, api_key_id)
    try:
        fields = _read_form(stream, meta, handler)
        lifetime = _check_fields(fields, handler)
        assert handler.writer is not None  # noqa: S101  # _check_fields has seen to it
        count = handler.check.end()
        return handler.writer.close(lines=count, expires_at=timezone.now() + lifetime, within_room=True)
    finally:
        handler.abort()


class LineCheck:
    """Fed with the contents piece by piece. ``end`` says how many lines there are, or raises what is wrong."""

    def __init__(self) -> None:
        self._splitter = Splitter(lines.MAX_BYTES)
        self._size = 0
        self._number = 0  # of the line last seen, from 1
        self._count = 0
        self._blank = 0  # the first of the blank lines just seen: they may be the last ones
        self._seen: dict[bytes, int] = {}  # custom_id, shortened → its line
        self._bad: dict[str, str] = {}
        self._bad_count = 0

    def feed(self, piece: bytes) -> None:
        """Raises BodyTooLarge or InvalidRequest as soon as nothing can be made of the file any more."""
        if not self._size and (message := OTHER_FORMATS.get(piece[:2]) or OTHER_FORMATS.get(piece[:4])):
            raise errors.InvalidRequest(message, param=FILE)
        self._size += len(piece)
        if self._size > MAX_BYTES:
            raise errors.BodyTooLarge("A file may have at most 200 MB. Split it into several.")
        for line in self._splitter.feed(piece):
            self._look_at(line)

    def end(self) -> int:
        for line in self._splitter.end():
            self._look_at(line)
        if not self._count:
            raise errors.InvalidRequest("The file is empty: it needs a request on each line.", param=FILE)
        if self._bad_count:
            raise self._complaint()
        return self._count

    def _look_at(self, line: bytes) -> None:
        self._number += 1
        if not line:
            self._blank = self._blank or self._number
            if self._number - self._count > MAX_BLANK:
                raise errors.InvalidRequest(
                    f"The file has more than {MAX_BLANK:,} empty lines. Remove them.", param=FILE
                )
            return
        if self._blank:
            self._note(self._blank, "This line is empty: remove it.")
            self._blank = 0
        self._count += 1
        if self._count > MAX_LINES:
            raise errors.InvalidRequest(
                f"A file may have at most {MAX_LINES:,} lines. Split it into several.", param=FILE
            )
        try:
            self._check(line)
        except lines.BadLine as bad:
            self._note(self._number, bad.message)

    def _check(self, line: bytes) -> None:
        """Raises BadLine."""
        envelope = lines.envelope(line, self._number)
        if envelope.url not in Operation.values:
            message = f"url must be one of {', '.join(Operation.values)}."
            raise lines.BadLine(self._number, lines.INVALID_LINE, message, "url")
        if not bytes(envelope.body).startswith(b"{"):
            raise lines.BadLine(self._number, lines.INVALID_LINE, "body must be an object.", "body")
        if not _is_text(line):
            raise lines.BadLine(self._number, lines.INVALID_JSON, "This line is not in UTF-8: save the file as UTF-8.")
        first = self._seen.setdefault(lines.digest(envelope.custom_id), self._number)
        if first != self._number:
            message = f"custom_id is that of line {first} already: give each request one of its own."
            raise lines.BadLine(self._number, lines.DUPLICATE, message, "custom_id")

    def _note(self, number: int, message: str) -> None:
        self._bad_count += 1
        if len(self._bad) < MAX_NAMED:
            self._bad[f"line {number}"] = message

    def _complaint(self) -> errors.InvalidRequest:
        where, what = next(iter(self._bad.items()))
        many = f"{self._bad_count:,} lines are not right. The first is " if self._bad_count > 1 else ""
        rest = self._bad_count - len(self._bad)
        more = {"more": f"{rest:,} more lines are not right."} if rest else {}
        return errors.InvalidRequest(f"{many}{where}: {what} Nothing was stored.", details=self._bad | more)


class _Handler(FileUploadHandler):
    """Takes the form's file to its check and to its writer; any other is only remembered."""

    chunk_size = CHUNK

    def __init__(self, organization_id: uuid.UUID, api_key_id: uuid.UUID | None) -> None:
        super().__init__()
        self._owner = (organization_id, api_key_id)
        self.check = LineCheck()
        self.writer: files.Writer | None = None
        self.filename = ""
        self.others: list[str] = []

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        if field_name != FILE or self.writer is not None:
            self.others.append(field_name)
            raise SkipFile
        self.filename = _shortened(file_name)
        self.writer = files.new(*self._owner, self.filename, Purpose.BATCH)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        assert self.writer is not None  # noqa: S101  # new_file comes first
        self.check.feed(raw_data)
        self.writer.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        return None

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.abort()


class _Watched:
    """A stream that remembers its end: Django's parser takes a form that was cut off for a whole one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        return data


def _read_form(stream: Any, meta: Mapping[str, Any], handler: _Handler) -> QueryDict:
    """The fields that are no files. Raises InvalidRequest."""
    watched = _Watched(stream)
    try:
        parser: Any = MultiPartParser(meta, cast("Any", watched), [handler], "utf-8")
        fields: QueryDict = parser.parse()[0]
    except MultiPartParserError as error:
        raise errors.InvalidRequest(f"The body is not a form that can be read: {error}") from None
    except RequestDataTooBig:
        raise errors.InvalidRequest("A field beside the file has more than 1 MiB.") from None
    except SuspiciousOperation:
        raise errors.InvalidRequest("The form can't be read, or has too many fields.") from None
    if b"--%b--" % parser._boundary not in watched.tail:  # noqa: SLF001  # it has read it from the headers
        raise errors.InvalidRequest("The form ends too early: its last boundary is missing. Send it again.")
    return fields


def _check_fields(fields: QueryDict, handler: _Handler) -> timedelta:
    """How long the file is to be kept. Raises InvalidRequest."""
    given = [*fields.keys(), *handler.others]
    twice = [name for name in fields if len(fields.getlist(name)) > 1] + [
        name for name in handler.others if name == FILE
    ]
    details = {name: "This field is not known." for name in given if name not in (*FIELDS, FILE)}
    details |= dict.fromkeys(twice, "Give this field once.")
    if handler.writer is None:
        details.setdefault(FILE, "The file is missing: send it as a part of the form that has a file name.")
    if "purpose" not in details and fields.get("purpose") != Purpose.BATCH:
        details["purpose"] = "The purpose must be batch: files are kept for batches only."
    lifetime = files.LIFETIME
    try:
        lifetime = _lifetime(fields)
    except errors.InvalidRequest as error:
        details |= error.details
    if details:
        name, what = next(iter(details.items()))
        raise errors.InvalidRequest(f"{name}: {what}", param=name, details=details)
    return lifetime


def _lifetime(fields: QueryDict) -> timedelta:
    """``expires_after`` as OpenAI has it. Raises InvalidRequest."""
    _, anchor, seconds = (fields.get(name) for name in FIELDS)
    if anchor is None and seconds is None:
        return files.LIFETIME
    if anchor != "created_at":
        raise errors.InvalidRequest("The anchor must be created_at.", param=FIELDS[1])
    lifetime = timedelta(seconds=int(seconds)) if seconds and SECONDS.fullmatch(seconds) else timedelta(0)
    if not LEAST_LIFE <= lifetime <= files.LIFETIME:
        least, most = (int(each.total_seconds()) for each in (LEAST_LIFE, files.LIFETIME))
        raise errors.InvalidRequest(f"Give a whole number of seconds from {least} to {most}.", param=FIELDS[2])
    return lifetime


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shortened(filename: str) -> str:
    """Its end tells what it is."""
    stem, dot, kind = filename.rpartition(".")
    if len(filename) <= MAX_FILENAME:
        return filename
    return stem[: MAX_FILENAME - len(kind) - 1] + dot + kind if dot and len(kind) < 20 else filename[:MAX_FILENAME]
