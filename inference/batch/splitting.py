"""Lines out of pieces that end anywhere. Pure; memory holds a piece and the line that has begun."""

from collections.abc import Iterator
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
BLANK: Final = b" \t\r"


class Splitter:
    """Lines come without their ends, without blanks around them, the first without a byte order mark; empty ones too.

    Of a line that is longer than ``most`` only a beginning comes, which is longer than that as well.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._begun: list[bytes] = []
        self._length = 0
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[bytes]:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._keep(part)
            yield self._take()
        self._keep(rest)

    def end(self) -> Iterator[bytes]:
        """The last line, if nothing has ended it."""
        if self._begun:
            yield self._take()

    def _keep(self, part: bytes) -> None:
        if part and (self._most is None or self._length <= self._most + len(BOM)):
            self._begun.append(part)
            self._length += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._begun)
        self._begun = []
        self._length = 0
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(BOM)
        return line.strip(BLANK) if self._most is None or len(line) <= self._most else line
