"""`manage.py web`: serve the site and the API."""

import fcntl
import os
import sys
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from helixflow.server.workers import Options, run


class Command(BaseCommand):
    help = "Serve the site and the API (uvicorn, with limits that hold without a reverse proxy)."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--workers", type=int, default=settings.WEB_PROCESSES)

    def handle(self, *args: Any, host: str, port: int, workers: int, **kwargs: Any) -> None:
        if workers < 1:
            raise CommandError("There must be at least one worker.")
        if not settings.DEBUG:
            collect_missing_static_files()
        options = Options(
            host=host,
            port=port,
            workers=workers,
            grace_s=settings.SHUTDOWN_GRACE_S,
            metrics=settings.DATA_DIR / "metrics",
        )
        try:
            code = run(settings.ASGI_APPLICATION.replace(".application", ":application"), options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads that wait for a hung PostgreSQL must not hold up the end


def collect_missing_static_files() -> None:
    """No page renders without them. `manage.py setup` also brings old ones up to date."""
    manifest = settings.STATIC_ROOT / "staticfiles.json"
    try:
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
        lock = (settings.DATA_DIR / "static.lock").open("w")
    except OSError:
        if manifest.exists():  # collected when the image was built, and read-only since
            return
        raise
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another copy may be at it: the manifest is there before all is compressed
        if not manifest.exists():
            call_command("collectstatic", interactive=False, verbosity=0)
