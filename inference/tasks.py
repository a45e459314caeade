"""What Celery runs for the data plane. ``work_batches`` has a queue of its own: models keep its threads waiting."""

import logging

from celery import shared_task
from celery.signals import worker_shutting_down
from django import db

from inference import contents, model_uptime
from inference.batch import files, lanes, retention, rounds, turn

logger = logging.getLogger(__name__)


@shared_task
def drop_contents() -> None:
    """Every few minutes, and when an organization has turned them off: stored contents that nobody is to see again."""
    dropped = contents.drop()
    if dropped:
        logger.info("dropped the stored contents of %d requests", dropped)


@shared_task
def measure_models() -> None:
    """Every minute, so that no page has to add up how models have been doing."""
    model_uptime.measure()


@shared_task
def work_batches() -> None:
    """A turn at the batches of whichever organization has waited longest."""
    if rounds.stopping.is_set():  # a message that was fetched ahead
        return
    try:
        turn.work()
    except turn.AWAY as error:
        # The lease ends, and the sweeper tells of the lane again.
        logger.warning("batches wait: %s", str(error).partition("\n")[0])
        db.connection.close()


@shared_task
def sweep_batches() -> None:
    """Every few seconds: lanes that no message told of, or whose worker died."""
    lanes.sweep()


@shared_task
def drop_old_batches() -> None:
    """Every hour: files whose time is over, what no file's row names, and the requests of old batches."""
    found = {"files": files.drop_expired(), "litter": files.drop_litter(), "requests": retention.drop_old_items()}
    logger.info("dropped of batches: %s", found)


@worker_shutting_down.connect  # type: ignore[misc,unused-ignore]  # celery's stubs know no decorator
def _stop_early(**_: object) -> None:
    rounds.stopping.set()
