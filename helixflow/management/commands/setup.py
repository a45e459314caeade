"""`manage.py setup`: everything between an address of a database and a working site, in one process."""

import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import OperationalError

from helixflow import assets, seeds


class Command(BaseCommand):
    help = "Bring the database, the seeds and the static files up to date. Safe to repeat."
    requires_system_checks = ()

    def handle(self, *args: Any, verbosity: int, **kwargs: Any) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0)
            seeds.plant()
        except OperationalError as error:
            sys.exit(f"The database cannot be used: {str(error).strip().splitlines()[0]}")
        assets.collect()
