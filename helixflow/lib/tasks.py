"""Handing work to Celery's workers from a process that somebody waits for: quickly, or not at all."""

import logging
import time
from functools import cache
from typing import Any, Final

from celery import Signature, current_app
from celery.app.task import Task
from kombu import pools
from kombu.exceptions import LimitExceeded, OperationalError

logger = logging.getLogger(__name__)

# The workers' own socket timeout is far too long for somebody who waits for a page.
_QUICK: Final = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
}
LET_BE_S: Final = 3.0  # after the broker did not answer, for those who can do without it

_away_until = 0.0


@cache
def _producers() -> Any:
    """Connections that are kept, a process's own (kombu forgets them in a fork)."""
    return pools.producers[current_app.connection_for_write(transport_options=_QUICK)]


def send(task: "Task[..., Any] | Signature[Any]", *args: str, **options: Any) -> bool:
    """Queue a task. False with the broker away: the caller decides whether that matters.

    ``options`` are ``apply_async``'s: queue, countdown (at most 60 s), expires.
    """
    try:
        with _producers().acquire(block=True, timeout=2) as producer:
            task.apply_async(args, producer=producer, retry=False, **options)
    except (OperationalError, OSError, LimitExceeded) as error:
        logger.warning("%s not queued: %s", task.name, error)
        return False
    return True


def nudge(task: "Task[..., Any] | Signature[Any]", *args: str, **options: Any) -> None:
    """The same for what is found anyway, a little later: with the broker away nobody waits for it again and again."""
    global _away_until  # noqa: PLW0603  # what one call learned of the broker is for all of the process
    if time.monotonic() >= _away_until and not send(task, *args, **options):
        _away_until = time.monotonic() + LET_BE_S
