"""The data plane as plain ASGI: chat, completions, embeddings. No Django request, no middleware, no SQL when warm.

Here is what the requests of one process share; ``inference.exchange`` is the path of one of them.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from django.db import close_old_connections

from accounts import api_keys
from billing.admission import limits
from billing.settling.settle import Settler
from helixflow.lib import metrics
from inference import calls, catalogue, health
from inference.exchange import Exchange
from inference.health_sync import HealthSync
from inference.keeping.contents import Contents
from inference.keeping.idempotency import Claims
from inference.keeping.over_limit import OverLimit
from inference.responder import Receive, Scope, Send
from inference.upstream import UpstreamClient

logger = logging.getLogger(__name__)

RECORD_USE_EVERY_S: Final = 10.0
FOLD_EVERY_S: Final = 1.0


class Gateway:
    """What the requests of one process share. Started by the server's lifespan, or by the first request."""

    def __init__(self) -> None:
        self.client: UpstreamClient | None = None
        self.settler: Settler  # made at the start, which is after the fork: each process has its own name and spool
        self.claims: Claims
        self.contents: Contents
        self.uses: dict[uuid.UUID, float] = {}  # API key → when it was last used, epoch seconds
        self.over_limit = OverLimit()
        self._tasks: list[asyncio.Task[None]] = []
        self._later: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, "gateway")  # a hung PostgreSQL may hold it for long
        self._metrics_thread = ThreadPoolExecutor(1, "metrics")

    async def startup(self) -> None:
        self.client = UpstreamClient()
        await self._in_thread(catalogue.refresh_in_thread)
        self.settler = Settler()
        await self.settler.start()
        self.claims = Claims()
        self.contents = Contents()
        self._tasks = [
            asyncio.create_task(self._fold_metrics()),
            asyncio.create_task(self._every(catalogue.CHECK_EVERY_S, catalogue.refresh_in_thread)),
            asyncio.create_task(self._every(RECORD_USE_EVERY_S, self._record_uses)),
            asyncio.create_task(HealthSync(health.board).run()),
        ]

    async def shutdown(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._later, self.claims.close(), self.contents.close())
        await self.settler.stop()
        await self._in_thread(self._record_uses)
        self._fold()
        if self.client is not None:
            await self.client.close()
            self.client = None
        self._thread.shutdown(wait=False)
        self._metrics_thread.shutdown(wait=False)

    async def chat_completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(calls.ChatCall, scope, receive, send)

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(calls.CompletionCall, scope, receive, send)

    async def embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(calls.EmbeddingCall, scope, receive, send)

    async def _answer(self, kind: type[calls.Call], scope: Scope, receive: Receive, send: Send) -> None:
        if self.client is None:
            await self.startup()
        await Exchange(self, kind, scope, receive, send).run()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background, and be done before the gateway ends."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._in_thread(work)
            except Exception:  # the next round tries again
                logger.exception("the gateway's housekeeping failed")

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _fold_metrics(self) -> None:
        while True:
            await asyncio.sleep(FOLD_EVERY_S)
            try:
                await asyncio.get_running_loop().run_in_executor(self._metrics_thread, self._fold)
            except Exception:  # metrics that stand still must not end
                logger.exception("metrics were not folded")

    def _fold(self) -> None:
        metrics.set_gauges(
            settle_queue=self.settler.queue_length,
            spool_bytes=self.settler.spool.pending_bytes,
            breaker_open=limits.breaker.is_open,
        )
        metrics.fold()

    def _record_uses(self) -> None:
        uses, self.uses = self.uses, {}
        if not uses:
            return
        close_old_connections()
        try:
            api_keys.record_use({key: datetime.fromtimestamp(at, UTC) for key, at in uses.items()})
        except Exception:  # "last used" is told late rather than a request failed; the next use tells it again
            logger.exception("last use of %d API keys was not recorded", len(uses))


gateway = Gateway()
chat_completions = gateway.chat_completions
completions = gateway.completions
embeddings = gateway.embeddings
startup = gateway.startup
shutdown = gateway.shutdown
