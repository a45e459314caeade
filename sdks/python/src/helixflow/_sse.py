"""Server-Sent Events, read from bytes that may be cut anywhere. Pure."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """``feed`` takes pieces and gives the ``data`` of the events that are complete.

    Lines end with CR LF, LF or CR and with nothing else: U+2028, which some splitters take for one, is plain text in
    JSON. Bytes are split before they are decoded, so characters may be cut too.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._started = False
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        if self._after_cr and piece:
            self._after_cr = False
            if piece[:1] == b"\n":  # the second half of a CR LF
                piece = piece[1:]
        text = self._rest + piece
        if not self._started:
            if len(text) < 3 and _BOM.startswith(text):
                self._rest = text
                return []
            self._started = True
            text = text[3:] if text.startswith(_BOM) else text
        lines = text.splitlines(keepends=True)  # of bytes: these three ends alone
        self._rest = lines.pop() if lines and lines[-1][-1] not in b"\r\n" else b""
        self._after_cr = text[-1:] == b"\r"
        found: list[bytes] = []
        for line in lines:
            event = self._read(line.rstrip(b"\r\n"))
            if event is not None:
                found.append(event)
        return found

    def flush(self) -> list[bytes]:
        """What the end of the stream completes: some servers leave out the empty line after the last event."""
        return [event for line in (self._rest, b"") if (event := self._read(line)) is not None]

    def _read(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data = self._data, []
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value[1:] if value[:1] == b" " else value)
        return None
