"""Prompts and answers on their way to where an organization has them stored (docs/stored-contents.md).

They are handed over when their answer has ended, and written by a thread of their own: nobody's request waits for them,
or fails. While PostgreSQL is away they wait in memory as long as there is room; what finds none is dropped and counted.
Nothing of them is ever logged.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from django.db import InterfaceError, OperationalError, close_old_connections, connection, transaction

from helixflow.lib import clock, crypto, ids, metrics
from inference.keeping import transcript
from inference.keeping.kept import Recording
from inference.models import StoredContents

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 1_000
MAX_BYTES: Final = 32 * 1024 * 1024
BATCH: Final = 50
RETRY_S: Final = 2.0
CLOSE_S: Final = 3.0

# A change of the setting waits for this, and this for it: what is written after contents were turned off was not seen
# to be on.
WANTED: Final = """
SELECT id, contents_days, contents_since FROM accounts_organization
WHERE id = ANY(%s) AND contents_since IS NOT NULL ORDER BY id FOR SHARE
"""


class Ended(Protocol):
    """A request and its answer: ``inference.exchange.Exchange``. ``body_bytes`` is how long the request was."""

    request_id: uuid.UUID
    organization_id: uuid.UUID
    request: Any
    body_bytes: int
    recording: Recording | None


class Taken(NamedTuple):
    """One request that ended. ``size`` in bytes of memory, about."""

    id: uuid.UUID
    organization_id: uuid.UUID
    request: Any
    answer: Recording | None
    size: int


class Contents:
    """Those of one process and event loop."""

    def __init__(self, *, retry_s: float = RETRY_S) -> None:
        self._waiting: deque[Taken] = deque()
        self._bytes = 0
        self._retry_s = retry_s
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "contents")
        self._full = False

    def keep(self, ended: Ended) -> None:
        """Never raises, and waits for nothing."""
        answer = ended.recording
        size = ended.body_bytes + (answer.held_bytes if answer is not None else 0)
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_BYTES:
            self._drop(1)
            return
        self._waiting.append(Taken(ended.request_id, ended.organization_id, ended.request, answer, size))
        self._bytes += size
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Write what waits, unless that takes long."""
        if self._writing is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._writing
        if self._waiting:
            self._drop(len(self._waiting))
        self._thread.shutdown(wait=False)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = list(islice(self._waiting, BATCH))
            try:
                await loop.run_in_executor(self._thread, _write_in_thread, batch)
            except (OperationalError, InterfaceError) as problem:
                logger.warning("contents wait for PostgreSQL: %s", type(problem).__name__)
                await asyncio.sleep(self._retry_s)
                continue
            except Exception as problem:  # noqa: BLE001  # its text, or a trace, could tell of the contents
                logger.error("contents of %d requests were not stored: %s", len(batch), type(problem).__name__)  # noqa: TRY400  # the same
                metrics.contents_dropped(len(batch))
            for _ in batch:
                self._bytes -= self._waiting.popleft().size
            self._full = False

    def _drop(self, count: int) -> None:
        metrics.contents_dropped(count)
        if not self._full:  # once for each time that there is no room
            logger.error("contents are not stored: there is no room for more of them in memory")
        self._full = True


def _write_in_thread(batch: Sequence[Taken]) -> None:
    close_old_connections()
    write(batch)


def write(batch: Sequence[Taken]) -> None:
    """A request that is there already stays as it is. Raises django.db.Error."""
    connection.ensure_connection()  # sealing is work, and would be done in vain every two seconds of an outage
    sealed = {taken.id: _seal(taken) for taken in batch}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout TO '10s'")
            cursor.execute(WANTED, [sorted({taken.organization_id for taken in batch})])
            wanted = {row[0]: (timedelta(days=row[1]), ids.first_at(row[2])) for row in cursor.fetchall()}
        now = clock.now()
        rows = [
            StoredContents(
                id=taken.id,
                organization_id=taken.organization_id,
                sealed_contents=sealed[taken.id],
                expires_at=now + wanted[taken.organization_id][0],
            )
            for taken in batch
            if taken.organization_id in wanted and taken.id >= wanted[taken.organization_id][1]
        ]
        StoredContents.objects.bulk_create(rows, ignore_conflicts=True)


def _seal(taken: Taken) -> str:
    answer = taken.answer
    stored = transcript.take(
        taken.request,
        answer.beginning() if answer is not None else b"",
        answer_cut=answer is not None and answer.is_cut,
    )
    return crypto.encrypt_bytes(transcript.pack(stored))
