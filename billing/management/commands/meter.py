"""`manage.py meter`: takes usage from Redis into the ledger, settles what gateways left behind, makes partitions."""

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

import django.db
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from billing.management import outages
from billing.metering import partitions
from billing.metering.meter import Meter, Stopped, put_rejects_back
from billing.settling.reaper import Reaper
from helixflow.lib import redis

logger = logging.getLogger(__name__)

REAP_EVERY_S: Final = 5.0
PARTITIONS_EVERY_S: Final = 86_400.0
AGAIN_AFTER_S: Final = 60.0


class Command(BaseCommand):
    help = "Take usage from Redis into the ledger. Run as many as are needed."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--drain", action="store_true", help="take what is there, then end")
        parser.add_argument("--retry-rejects", action="store_true", help="first put back what was set aside")

    def handle(self, *args: Any, drain: bool, retry_rejects: bool, **kwargs: Any) -> None:
        if retry_rejects:
            with outages.told():
                put_back, unreadable = put_rejects_back()
            self.stdout.write(
                f"{put_back} entries are in the streams again; {unreadable} cannot be read and stay aside."
            )
        meter = Meter()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: meter.stop())
        if drain:
            try:
                meter.drain()
            except Stopped as error:
                raise CommandError(f"Not all of it: {error}") from None
            return
        chores = [
            Chore(Reaper().run_once, every_s=REAP_EVERY_S),
            Chore(keep_partitions, every_s=PARTITIONS_EVERY_S),
        ]
        for chore in chores:
            chore.start()
        meter.run()
        for chore in chores:
            chore.end()


class Chore(threading.Thread):
    """Something done again and again beside the metering, whatever goes wrong.

    A server that is away is said once. A daemon, since who waits for a server must not hold up the end.
    """

    def __init__(self, act: Callable[[], object], *, every_s: float) -> None:
        super().__init__(name=getattr(act, "__qualname__", "chore"), daemon=True)
        self._act = act
        self._every_s = every_s
        self._ended = threading.Event()

    def run(self) -> None:
        hindered = False
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                self._act()
            except (django.db.Error, redis.RedisError) as error:
                if not hindered:
                    logger.warning("%s is put off: %s: %s", self.name, type(error).__name__, str(error).strip())
                connection.close()
                hindered, pause = True, min(AGAIN_AFTER_S, self._every_s)
            except Exception:
                logger.exception("%s failed and is tried again", self.name)
                pause = min(AGAIN_AFTER_S, self._every_s)
            else:
                hindered, pause = False, self._every_s

    def end(self) -> None:
        self._ended.set()
        self.join(1)


def keep_partitions() -> None:
    made = partitions.ensure()
    if made:
        logger.info("made partitions: %s", ", ".join(made))
    connection.close()  # not needed again before tomorrow
