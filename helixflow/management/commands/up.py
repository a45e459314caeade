"""`manage.py up`: the whole of HelixFlow on this machine."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from helixflow.stack.console import Console
from helixflow.stack.embedded import EmbeddedError
from helixflow.stack.supervisor import SupervisorError
from helixflow.stack.up import Stack


class Command(BaseCommand):
    help = "Start everything: PostgreSQL, Valkey and a small model where none is configured, then web and workers."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also make a demo account and print its API key")

    def handle(self, *args: Any, demo: bool, **kwargs: Any) -> None:
        try:
            Stack(settings.DATA_DIR, Console(), with_demo=demo).run()
        except (EmbeddedError, SupervisorError) as error:
            sys.exit(f"HelixFlow did not start: {error}")
        except OSError as error:
            sys.exit(f"HelixFlow did not start: {error.filename or settings.DATA_DIR}: {error.strerror or error}")
        except KeyboardInterrupt:
            sys.exit(130)
