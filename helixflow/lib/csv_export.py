"""Tables as CSV (RFC 4180, UTF-8), sent row by row, with cells that no spreadsheet takes for a formula."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.http import StreamingHttpResponse

# OWASP, "CSV Injection": what a cell with text begins with when a spreadsheet computes it.
TRIGGERS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
PART: Final = 200  # rows sent at once


class _Echo:
    """A file that gives back what is written: the csv module writes into nothing else."""

    def write(self, text: str) -> str:
        return text


def response(filename: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    """A download. ``rows`` is read while it is sent, so an iterator over a queryset holds only its chunk."""
    answer = StreamingHttpResponse(parts(header, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{filename}"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def parts(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The text of the file, some rows at a time."""
    writer = csv.writer(_Echo())
    lines = [writer.writerow(header)]
    for row in rows:
        lines.append(writer.writerow([defused(value) for value in row]))
        if len(lines) >= PART:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


def defused(value: Any) -> Any:
    """Numbers as they are, None as an empty cell; text that could be a formula behind an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(TRIGGERS):
        return f"'{value}"
    return value
