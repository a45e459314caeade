"""Where the processes of one `manage.py web` put their counts for each other: `DATA_DIR/metrics/web-…/<slot>.counts`.

A worker that is replaced leaves its slot, and so its file, to its successor. Thus there are never more files than
workers. The directory is locked as long as one of the processes lives, however it ends, and the next start removes
those that nobody holds. Names are drawn, not process ids, which say nothing where containers share a volume.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helixflow.lib import metrics

logger = logging.getLogger(__name__)


class Directory:
    def __init__(self, path: Path | None) -> None:
        self.path = path

    def join(self, slot: int) -> None:
        """This process shares its counts from now on, and goes on from those of the slot's former holder."""
        if self.path is not None:
            metrics.share(self.path / f"{slot}{metrics.SUFFIX}")


@contextmanager
def opened(parent: Path | None) -> Iterator[Directory]:
    """A new directory in ``parent``, removed at the end. Forked processes hold it too, and leave without the end.

    Where nothing can be written the server works all the same, with metrics of the process that happens to be asked.
    """
    if parent is None:
        yield Directory(None)
        return
    try:
        path, lock = _make(parent)
    except OSError as error:
        logger.warning("metrics are not shared between processes: %s", error)
        yield Directory(None)
        return
    try:
        yield Directory(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    parent.mkdir(parents=True, exist_ok=True)
    starting = _lock(parent, fcntl.LOCK_EX)  # nobody may take one that is made and not locked yet for a dead one
    try:
        _sweep(parent)
        path = Path(tempfile.mkdtemp(prefix="web-", dir=parent))
        return path, _lock(path, fcntl.LOCK_EX)
    finally:
        os.close(starting)


def _sweep(parent: Path) -> None:
    for path in parent.glob("web-*"):
        with suppress(OSError):  # in use, or removed by its owner at this moment
            lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, how: int) -> int:
    """Held as long as one process has the descriptor open, forked ones included. Raises OSError."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)  # of a directory itself, NFS allows none
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
