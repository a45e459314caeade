"""The Celery application. Tasks live in each app's ``tasks`` module.

Queues: ``webhooks`` for calls of receivers, which can take long; ``celery`` for everything else.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helixflow.settings")

app = Celery("helixflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
