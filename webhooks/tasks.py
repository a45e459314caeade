"""What Celery runs. ``deliver`` has a queue of its own, since receivers may keep its threads waiting."""

import logging
import uuid
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down
from django import db

from helixflow.lib import tasks
from webhooks import mails, queue, retention, sending

logger = logging.getLogger(__name__)


@shared_task
def deliver(endpoint_id: str) -> None:
    # Messages that were fetched ahead still come up: a call that begins now could outlast the patience of who stops us.
    if sending.stopping.is_set():
        return
    try:
        sending.work(uuid.UUID(endpoint_id))
    except (db.OperationalError, db.InterfaceError) as error:
        # Leases end, and the sweeper finds what is left.
        logger.warning("deliveries to %s wait: %s", endpoint_id, str(error).partition("\n")[0])
        db.connection.close()


@shared_task
def sweep() -> None:
    """Every few seconds: what no message told of, or whose worker died."""
    queue.sweep()
    mails.tell_owners()


@tasks.mail_task
def tell_owners(endpoint_id: str) -> None:
    """That an endpoint was disabled. The sweeper queues it anew where the mail server is away for longer than this."""
    mails.send_disabled(uuid.UUID(endpoint_id))


@shared_task
def drop_old(run: int = 1) -> None:
    """Every hour: what is older than the retention. What is too much for one run the next ones do at once."""
    dropped = retention.drop_old()
    logger.info("dropped what is old: %s", dropped)
    if not dropped.complete and run < retention.RUNS:
        drop_old.delay(run + 1)


@worker_shutting_down.connect  # type: ignore[misc,unused-ignore]  # celery's stubs know no decorator
def _stop_early(**_: Any) -> None:
    sending.stopping.set()
