"""`manage.py drop_old_records`: retention. Records go by whole months; what they summed up to stays."""

from datetime import UTC, date, datetime
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from billing.management import outages
from billing.metering import partitions
from billing.models import Refusal
from helixflow.lib import clock

MOST_MONTHS: Final = 1_200


class Command(BaseCommand):
    help = "Drop the usage records and counts of refusals of months that are long past. Hourly and monthly sums stay."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep-months", type=int, required=True, help="whole months to keep before this one")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")
        parser.add_argument("--no-input", action="store_true", help="don't ask")

    @outages.told()
    def handle(self, *args: Any, keep_months: int, dry_run: bool, no_input: bool, **kwargs: Any) -> None:
        if not 0 <= keep_months <= MOST_MONTHS:
            raise CommandError(f"--keep-months must be between 0 and {MOST_MONTHS}.")
        partitions.ensure()  # so that old records in the default partition have one of their own
        first = _months_back(clock.now().date(), keep_months)
        old = partitions.drop_before(first, dry_run=True)
        if not old:
            self.stdout.write(f"Nothing is older than {first}.")
            return
        for partition in old:
            size = filesizeformat(partition.size)
            self.stdout.write(
                f"{partition.starts_on:%Y-%m}  about {partition.rows:,} records, {size}  {partition.name}"
            )
        if dry_run:
            return
        question = f"Drop all records of requests before {first}, for good? Type yes: "
        if not no_input and input(question).strip().lower() != "yes":
            raise CommandError("Nothing was dropped.")
        partitions.drop_before(first)
        Refusal.objects.filter(minute__lt=datetime(first.year, first.month, 1, tzinfo=UTC)).delete()
        self.stdout.write(f"Dropped {len(old)} months.")


def _months_back(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)
