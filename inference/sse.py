"""An incremental decoder of server-sent events, as the WHATWG specification has them, for upstreams' streams.

Works on bytes: only CR, LF and CRLF end a line, so U+2028 inside JSON breaks nothing, and characters may be split
between reads. One leniency: ``finish`` returns a last event that lacks its blank line.
"""

MAX_BYTES = 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class LineTooLong(Exception):
    """A line, or the lines of one event together, are longer than MAX_BYTES."""


class Decoder:
    """Only events that have data are returned; their type, id and retry time mean nothing to us."""

    __slots__ = ("_after_cr", "_data", "_data_bytes", "_first", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()  # a line whose end has not come
        self._data: list[bytes] = []  # data lines of an event whose end has not come
        self._data_bytes = 0
        self._after_cr = False  # an LF that comes next belongs to the CR before it
        self._first = True  # a byte order mark may stand before the first line

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event completed by these bytes, its lines joined by LF. Raises LineTooLong."""
        if not (self._tail or self._data) and data.startswith(b"data: ") and data.endswith(b"\n\n"):
            # Whole events of one line each, as nearly every read has them: as many line ends as those make, and no CR.
            events = data[6:-2].split(b"\n\ndata: ")
            if data.count(b"\n") == 2 * len(events) and b"\r" not in data and len(data) <= MAX_BYTES:
                self._first = self._after_cr = False
                return events
        return self._feed_lines(data)

    def finish(self) -> list[bytes]:
        """The stream has ended: its last event, if that was not ended by a blank line."""
        return self._feed_lines(b"\n\n")

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        self._tail += lines[0]
        if len(lines) > 1:
            lines[0] = bytes(self._tail)
            self._tail = bytearray(lines.pop())
            events = [event for line in lines if (event := self._line(line)) is not None]
        else:
            events = []
        if len(self._tail) > MAX_BYTES:
            raise LineTooLong
        return events

    def _line(self, line: bytes) -> bytes | None:
        """The event's data if this line, without its end, completes one."""
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value) + 1
        if len(line) > MAX_BYTES or self._data_bytes > MAX_BYTES:
            raise LineTooLong
        return None

    def _dispatch(self) -> bytes | None:
        if not self._data:
            return None
        event = b"\n".join(self._data)
        self._data = []
        self._data_bytes = 0
        return event
