"""What Celery runs for the platform itself."""

from celery import shared_task

from helixflow.status import probing


@shared_task
def probe() -> None:
    """Every minute."""
    probing.run()


@shared_task
def drop_old_status() -> None:
    probing.drop_old()
