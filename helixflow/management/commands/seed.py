"""`manage.py seed`: plans and catalogue."""

from typing import Any

from django.core.management.base import BaseCommand

from helixflow import seeds


class Command(BaseCommand):
    help = "Add what is missing of the plans and the catalogue. Safe to repeat; your own changes stay."

    def handle(self, *args: Any, **kwargs: Any) -> None:
        seeds.plant()
