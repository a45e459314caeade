"""Settlements on disk while Redis is away (docs/ledger.md)."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from billing.settlement import Settlement

Send = Callable[[list[Settlement]], Awaitable[None]]


class Spool:
    """What one process could not settle, in ``directory``. Opened at first use: one made before a fork is each child's.

    What began here has to end here, whatever Redis does meanwhile: an end that went elsewhere leaves a begun request,
    which is settled as failed once this process is gone.
    """

    def __init__(self, directory: Path, process: str) -> None:
        self._directory = directory
        self._process = process
        self.dropped_lines = 0  # that memory had no room for, while the disk took nothing
        self.pending_lines = 0  # in memory and on disk, of this process
        self.pending_bytes = 0  # on disk, of this process

    def begin(self, settlement: Settlement) -> None:
        """``settlement`` is the one to make if no end follows. Returns at once and never raises."""

    def end(self, settlement: Settlement) -> None:
        """Returns at once and never raises."""

    async def flush(self) -> bool:
        """Wait until every line so far is on disk; False if the disk doesn't take them."""
        return True

    async def replay(self, send: Send) -> int:
        """Give everything that ended to ``send``, in batches, and forget it. Returns how many were sent.

        ``send`` gets each at least once. What it raises comes out here, and what was not sent is kept.
        """
        return 0

    async def adopt(self, send: Send) -> int:
        """The same for what dead processes left behind in the directory: begun and not ended is sent as begun."""
        return 0

    def close(self) -> None:
        """After ``flush``. What is left is adopted by any other process."""
