"""The Celery application. Tasks live in each app's ``tasks`` module.

Queues: ``webhooks`` for calls of receivers and ``batches`` for requests of batches, which can take long; ``celery`` for
everything else.
"""

import os
from typing import Any

from celery import Celery
from kombu.transport import redis

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helixflow.settings")


class Channel(redis.Channel):
    """With its connection gone kombu 5.7's fails with an AttributeError, which ends a worker and the calls it is at."""

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("the connection to the broker is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]  # the stubs leave it out


redis.Transport.Channel = Channel

app = Celery("helixflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
