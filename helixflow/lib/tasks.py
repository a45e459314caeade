"""Handing work to Celery's workers from a process that somebody waits for: quickly, or not at all."""

import logging
import smtplib
import time
from functools import cache
from typing import Any, Final

from celery import Signature, current_app, shared_task
from celery.app.task import Task
from django import db
from kombu import pools
from kombu.exceptions import LimitExceeded, OperationalError

logger = logging.getLogger(__name__)

# For a task that sends a mail: about ten minutes of tries. No wait over 60 s: a longer one outlives the broker's
# visibility timeout.
mail_task: Final = shared_task(
    autoretry_for=(OSError, smtplib.SMTPException, db.OperationalError, db.InterfaceError),
    max_retries=12,
    retry_backoff=2,
    retry_backoff_max=60,
)

# The workers' own socket timeout is far too long for somebody who waits for a page.
_QUICK: Final = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
}
LET_BE_S: Final = 3.0  # after the broker did not answer, for those who can do without it
# Messages in a queue, after which nudges say nothing new. The broker keeps expired ones too until a worker takes them,
# so with no worker there they would fill its memory.
CROWD: Final = 10_000
COUNTED_FOR_S: Final = 1.0  # a count of them is believed

_away_until = 0.0
_crowded: dict[str, tuple[bool, float]] = {}  # a queue: whether it is, and until when that is believed


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
    """The same for what is found anyway, a little later: with the broker away nobody waits for it again and again, and
    where thousands of messages wait for a worker there will be no more.
    """
    global _away_until  # noqa: PLW0603  # what one call learned of the broker is for all of the process
    if time.monotonic() < _away_until:
        return
    crowded = _is_crowded(current_app.amqp.router.route(dict(options), task.name)["queue"].name)
    if crowded is None or not (crowded or send(task, *args, **options)):
        _away_until = time.monotonic() + LET_BE_S


def _is_crowded(queue: str) -> bool | None:
    """None: with the broker away."""
    crowded, until = _crowded.get(queue, (False, 0.0))
    if time.monotonic() < until:
        return crowded
    waiting = _waiting(queue)
    if waiting is None:
        return None
    if waiting >= CROWD:
        logger.warning("%d messages wait in the queue %s: does a worker take them?", waiting, queue)
    _crowded[queue] = waiting >= CROWD, time.monotonic() + COUNTED_FOR_S
    return waiting >= CROWD


def _waiting(queue: str) -> int | None:
    """Messages that no worker has taken. None: with the broker away."""
    try:
        with _producers().acquire(block=True, timeout=2) as producer:
            try:
                return int(producer.channel.queue_declare(queue).message_count)
            except (*producer.connection.connection_errors, *producer.connection.channel_errors) as error:
                logger.warning("the broker did not answer: %s", error)
    except (OperationalError, OSError, LimitExceeded) as error:
        logger.warning("the broker did not answer: %s", error)
    return None
