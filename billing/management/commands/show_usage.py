"""`manage.py show_usage org-…`: what Redis counts of an organization beside what the ledger has, and what differs."""

import json
import re
import sys
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Q

from accounts.models import ApiKey, Organization
from billing import money, months, plans
from billing.management.outages import UNKNOWN, first_line
from billing.reports import balance
from billing.reports.balance import Balance, Line
from helixflow.lib import ids, redis

DIFFERENT: Final = 1
MOST_FOUND: Final = 10
WIDTH: Final = 34
COLUMNS: Final = ("Redis", "ledger", "stream", "under way", "difference", "Redis", "ledger")


class Command(BaseCommand):
    help = (
        "Show an organization's live counters (Redis) beside its ledger (PostgreSQL). "
        "Ends with 1 if they differ, with 2 if that can't be known."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", help="its id (org-… or UUID), its name, or a member's e-mail address")
        parser.add_argument("--month", type=_month, help="such as 2026-11; without it the current one")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, organization: str, month: int | None, **options: Any) -> None:
        organization_id, problems = _find(organization)
        found, problems = _balance(organization_id, month, problems)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(organization_id, found, problems), indent=2))
        else:
            self.stdout.write("\n".join(_page(organization_id, found, problems)))
        if problems:
            sys.exit(UNKNOWN)
        if found.differs:
            sys.exit(DIFFERENT)


def _month(text: str) -> int:
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", text, re.ASCII):
        raise ArgumentTypeError(f"a month is written like 2026-11, not {text!r}")
    return int(text.replace("-", ""))


def _find(text: str) -> tuple[uuid.UUID, list[str]]:
    """The organization, and what stands in the way of seeing all of it. An id needs no PostgreSQL."""
    try:
        known = _id_of(text)
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout TO '10s'")
        if known is not None:
            if not Organization.objects.filter(id=known).exists():
                raise _unknown(f"There is no organization {text}.")
            return known, []
        return _search(text).id, []
    except DatabaseError as error:
        problem = f"PostgreSQL does not answer: {first_line(error)}"
        if known is None:
            raise _unknown(problem, "Give the organization's id (org-… or UUID) to see what Redis has.") from None
        return known, [problem]


def _id_of(text: str) -> uuid.UUID | None:
    try:
        return ids.parse_public_id(ids.ORGANIZATION, text)
    except ValueError:
        pass
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _search(text: str) -> Organization:
    """By name or member; by part of a name if nothing has it whole."""
    member = Q(memberships__user__email__iexact=text) | Q(memberships__user__username__iexact=text)
    for condition in (Q(name__iexact=text) | member, Q(name__icontains=text)):
        found = list(Organization.objects.filter(condition).distinct().order_by("id")[: MOST_FOUND + 1])
        if len(found) == 1:
            return found[0]
        if found:
            lines = [f"  {each.public_id}  {each.name}" for each in found[:MOST_FOUND]]
            lines += ["  … and more"] if len(found) > MOST_FOUND else []
            raise _unknown("Several organizations match; give one's id:", *lines)
    raise _unknown(f"There is no organization with the id, name or member {text!r}.")


def _balance(organization_id: uuid.UUID, month: int | None, problems: list[str]) -> tuple[Balance, list[str]]:
    """As much of it as can be had."""
    if not problems:
        try:
            return balance.draw(organization_id, month), []
        except DatabaseError as error:
            problems = [f"PostgreSQL does not answer: {first_line(error)}"]
        except redis.RedisError as error:
            problems = [f"Redis does not answer: {first_line(error)}"]
            month = month or months.of(time.time())
            try:
                return balance.of_ledger(organization_id, month), problems
            except DatabaseError as second:
                raise _unknown(problems[0], f"PostgreSQL does not answer: {first_line(second)}") from None
    try:
        return balance.of_redis(organization_id, month), problems
    except redis.RedisError as error:
        raise _unknown(problems[0], f"Redis does not answer: {first_line(error)}") from None


def _unknown(*lines: str) -> CommandError:
    return CommandError("\n".join(lines), returncode=UNKNOWN)


def _page(organization_id: uuid.UUID, found: Balance, problems: list[str]) -> list[str]:
    has_ledger = not any(problem.startswith("PostgreSQL") for problem in problems)
    organization = Organization.objects.get(id=organization_id) if has_ledger else None
    names = _key_names(organization_id) if has_ledger else {}
    lines = [f"⚠ {problem}" for problem in problems]
    lines += [
        f"{organization.name if organization else 'Organization'}  {ids.public_id(ids.ORGANIZATION, organization_id)}"
    ]
    lines += _now(found, plans.in_force(organization) if organization else None)
    lines += ["", f"{months.first_day(found.month):%B %Y}".ljust(WIDTH) + "units".rjust(48) + "money".rjust(34)]
    lines += ["".ljust(WIDTH) + "".join(column.rjust(12) for column in COLUMNS)]
    for key, line in found.lines.items():
        name = "all keys" if key is None else names.get(key, ids.public_id(ids.API_KEY, key))
        lines.append(name[: WIDTH - 1].ljust(WIDTH) + _cells(line, has_ledger=has_ledger))
    return [*lines, "", *_meaning(organization_id, found, complete=not problems)]


def _now(found: Balance, plan: plans.PlanInForce | None) -> list[str]:
    counters = found.counters
    per_minute, per_month = (plan.requests_per_minute, plan.requests_per_month) if plan else ("?", "?")
    limits = f"{plan.name if plan else 'Plan unknown'}: {per_minute} requests a minute, {per_month} a month"
    if counters is None:
        return [limits]
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(counters.now))
    minute = f"this minute {counters.minute_used} used, {counters.minute_resets_at - counters.now} s left"
    return [limits, f"{minute}; {counters.parallel} leases of parallel requests; Redis's clock says {clock} UTC"]


def _cells(line: Line, *, has_ledger: bool) -> str:
    unknown = "?"
    difference = f"{line.surplus:+d}" if line.surplus else "–"
    cells = (
        "–" if line.counted is None else line.counted,
        line.recorded if has_ledger else unknown,
        line.unmetered if has_ledger else unknown,
        line.in_flight if has_ledger else unknown,
        difference if has_ledger else unknown,
        "–" if line.told is None else money.text(line.told),
        money.text(line.cost) if has_ledger else unknown,
    )
    return "".join(str(cell).rjust(12) for cell in cells)


def _meaning(organization_id: uuid.UUID, found: Balance, *, complete: bool) -> list[str]:
    """What an operator should make of it."""
    if not complete:
        return ["Only one side could be read, so nothing is compared."]
    if found.lines[None].counted is None:
        return ["Redis has no counter of this month. The organization's next request in it seeds one from the ledger."]
    if not found.differs:
        return ["Redis and the ledger agree: Redis = ledger + stream + under way."]
    said = []
    total = found.lines[None]
    if total.surplus > 0:
        said.append(
            f"Redis holds {total.surplus} units that nothing accounts for: it would refuse that many too early."
        )
    elif total.surplus < 0:
        said.append(f"Redis misses {-total.surplus} units: it would admit that many beyond the quota.")
    elif any(line.surplus for line in found.lines.values()):
        said.append("In all they agree, but units are counted for another key: its own limits are held wrongly.")
    if any(line.untold for line in found.lines.values()):
        said.append("Budgets go by another amount than was spent. The next request that is metered mends a lower one.")
    if not found.steady:
        said.append("Requests kept coming while this was read, so the difference may be theirs. Run it again.")
    said.append("Should it stay, delete the counter; the organization's next request counts the month anew, exactly:")
    said.append(f"  redis-cli DEL '{balance.counter_key(organization_id, found.month)}'")
    return said


def _as_json(organization_id: uuid.UUID, found: Balance, problems: list[str]) -> dict[str, Any]:
    counters = found.counters
    return {
        "organization_id": ids.public_id(ids.ORGANIZATION, organization_id),
        "month": f"{months.first_day(found.month):%Y-%m}",
        "problems": problems,
        "differs": found.differs if not problems else None,
        "steady": found.steady,
        "now": counters.now if counters else None,
        "minute_used": counters.minute_used if counters else None,
        "parallel": counters.parallel if counters else None,
        "lines": [
            {
                "api_key_id": None if key is None else ids.public_id(ids.API_KEY, key),
                "counted": line.counted,
                "ledger": line.recorded,
                "stream": line.unmetered,
                "under_way": line.in_flight,
                "difference": line.surplus,
                "told": money.text_or_none(line.told),
                "spent": money.text(line.cost),
            }
            for key, line in found.lines.items()
        ],
    }


def _key_names(organization_id: uuid.UUID) -> dict[uuid.UUID, str]:
    return {key.id: f"{key.name} {key.hint}" for key in ApiKey.objects.filter(organization_id=organization_id)}
