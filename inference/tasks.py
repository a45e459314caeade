"""What Celery runs for the data plane."""

import logging

from celery import shared_task

from inference import contents, model_uptime

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
