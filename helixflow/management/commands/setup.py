"""`manage.py setup`: everything between an address of a database and a working site, in one process."""

import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError

from billing.metering import partitions
from helixflow import assets, seeds
from helixflow.stack import demo


class Command(BaseCommand):
    help = "Bring the database, the seeds and the static files up to date. Safe to repeat."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also make a demo account")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["demo"] and settings.PRODUCTION:
            sys.exit("--demo keeps an API key in clear, so it is refused where HELIXFLOW_ENV is production.")
        try:
            call_command("migrate", interactive=False, verbosity=0)
            partitions.ensure()
            seeds.plant()
            if options["demo"]:
                demo.make()
        except OperationalError as error:
            sys.exit(f"The database cannot be used: {str(error).strip().splitlines()[0]}")
        assets.collect()
