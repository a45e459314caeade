"""Tables as CSV (RFC 4180, UTF-8), sent row by row, with cells that no spreadsheet takes for a formula."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.http import StreamingHttpResponse

# OWASP, "CSV Injection": what a cell with text begins with when a spreadsheet computes it. Some skip what can't be seen
# before it, and take the wide forms of East Asian keyboards for the same.
_UNSEEN: Final = r"\s\x00-\x20\xad\u200b-\u200f\u2060\ufeff"
_FORMULA: Final = re.compile(rf"[\t\r\n]|[{_UNSEEN}]*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212]")
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
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value
