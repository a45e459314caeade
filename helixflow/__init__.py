"""The project package: settings, server, pages of the platform itself. See docs/architecture.md."""

from helixflow.celery import app as celery_app

__all__ = ["celery_app"]
