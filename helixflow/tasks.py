"""What Celery runs for the platform itself."""

from typing import Any, Final

from celery import shared_task
from celery.signals import beat_init

from helixflow.lib import tasks
from helixflow.status import probing

STARTING_S: Final = 10  # what has just been started with us answers by then


@shared_task
def probe() -> None:
    """Every minute."""
    probing.run()


@shared_task
def drop_old_status() -> None:
    probing.drop_old()


@beat_init.connect  # type: ignore[misc,unused-ignore]  # celery's stubs know no decorator
def _probe_soon(**_: Any) -> None:
    """A new installation's page need not wait for a minute."""
    tasks.send(probe, countdown=STARTING_S, expires=60)
