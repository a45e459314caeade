"""`manage.py rebuild_rollups`: do the sums say what the records say? With ``--write``: make it so."""

import uuid
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.management import outages
from billing.metering import recount
from billing.metering.recount import Difference
from billing.metering.rollups import HourKey
from helixflow.lib import ids, redis

SHOWN_AT_MOST: Final = 100  # rows; a run with --organization shows that organization's


class Command(BaseCommand):
    help = (
        "Add the usage records up again, compare with the hourly and monthly sums, and show what differs. Safe beside "
        "running meters. Ends with code 1 if anything differs and is left as it is, with 2 if a server is away."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        day: dict[str, Any] = {"type": date.fromisoformat, "metavar": "YYYY-MM-DD"}
        parser.add_argument("--from", dest="first", help="first day, UTC (default: the oldest there is)", **day)
        parser.add_argument("--to", dest="last", help="last day, UTC (default: today)", **day)
        parser.add_argument("--organization", help="only this one: org-…")
        parser.add_argument("--write", action="store_true", help="write the sums anew where they differ")

    @outages.told()
    def handle(
        self,
        *args: Any,
        first: date | None,
        last: date | None,
        organization: str | None,
        write: bool,
        **kwargs: Any,
    ) -> None:
        only = _organization(organization)
        period = recount.countable(first=first, last=last)
        if period is None:
            self.stdout.write("Nothing to do: there are no records of that time.")
            return
        self.stdout.write(f"Counting the records of {period.first} to {period.last} …")
        organizations = recount.organizations(period) if only is None else [only]
        found = 0
        for organization_id in organizations:
            differences = recount.compare(organization_id, period)
            self._show(differences, room=SHOWN_AT_MOST - found)
            found += len(differences)
            if write:
                self._repair(differences)
        if not found:
            self.stdout.write(f"Nothing to do: the sums are right. Organizations compared: {len(organizations)}.")
        elif write:
            self.stdout.write(f"{found} rows differed and were written anew.")
        else:
            raise CommandError(f"{found} rows differ. Nothing was changed; --write writes them anew.")

    def _show(self, differences: list[Difference], *, room: int) -> None:
        for difference in differences[: max(room, 0)]:
            self.stdout.write(_title(difference))
            for line in _lines(difference):
                self.stdout.write(f"    {line}")
        if len(differences) > room > 0:
            self.stdout.write(f"More than {SHOWN_AT_MOST} rows differ; --organization shows one organization's.")

    def _repair(self, differences: list[Difference]) -> None:
        try:
            recount.repair(differences)
        except redis.RedisError as error:
            raise CommandError(f"Redis could not be told that a month was wrong. Run it again. ({error})") from None


def _organization(text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    try:
        return ids.parse_public_id(ids.ORGANIZATION, text)
    except ValueError:
        raise CommandError(
            "--organization takes an id such as org-…, as the admin and the dashboard show it."
        ) from None


def _title(difference: Difference) -> str:
    key = difference.key
    who = f"{ids.public_id(ids.ORGANIZATION, key.organization_id)}  {ids.public_id(ids.API_KEY, key.api_key_id)}"
    if isinstance(key, HourKey):
        return f"hour {key.hour:%Y-%m-%d %H:00}  {who}  {key.model or '(no model)'} at {key.deployment or '(none)'}"
    return f"month {key.month:%Y-%m}  {who}"


def _lines(difference: Difference) -> Iterator[str]:
    for name, kept, counted in difference.fields():
        if name in recount.HISTOGRAMS:
            yield f"{name:<22} {sum(kept)} durations kept, {sum(counted)} counted; not the same"
        else:
            yield f"{name:<22} {kept} kept, {counted} counted"
