"""One readable log of many processes: each line behind the name of who wrote it, in its colour."""

import os
import re
import sys
import time
from typing import Final, TextIO

CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
COLOURS: Final = (36, 33, 35, 32, 34, 96, 93, 95)
OWN_NAME: Final = "helixflow"


class Console:
    """No colour where nobody sees it: not a terminal, or NO_COLOR is set (https://no-color.org)."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 10) -> None:
        self._stream = stream or sys.stdout
        self._width = width
        self._coloured = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {OWN_NAME: 1}  # bold

    def line(self, name: str, text: str) -> None:
        """``text`` comes from children, who may print what a stranger sent: no control characters get through."""
        self.write(f"{time.strftime('%H:%M:%S')} {self._prefix(name)} {CONTROL.sub('', text)}\n")

    def note(self, text: str) -> None:
        self.line(OWN_NAME, text)

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, UnicodeEncodeError):  # the terminal or pipe is gone, or can't show it: go on without
            pass

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._coloured else text

    def _prefix(self, name: str) -> str:
        prefix = f"{name:<{self._width}} |"
        if not self._coloured:
            return prefix
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        return f"\x1b[{colour}m{prefix}\x1b[0m"
