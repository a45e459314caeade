"""The Celery application. Queues: ``celery`` for everything; tasks live in each app's ``tasks`` module."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helixflow.settings")

app = Celery("helixflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
