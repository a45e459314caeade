"""Compares three logs when all is over: what clients sent, what the upstream saw, and what the ledger says.

A gateway that is killed can tell nothing of its last moments. The reaper settles what was under way from notes, which
are up to 100 ms old, so of its records (``settled_by`` reaper) three things are tolerated: an attempt that began
within the last 100 ms is missing; a request that began within them is not known by its model and user; an answer that
was complete is told as failed. Of a gateway's own records nothing is tolerated, but that an attempt whose caller left,
or whose connection turned out to be closed, may not have reached the upstream.
"""

import json
import uuid
from collections import Counter
from collections.abc import Iterator

from billing.models import Settler, UsageRecord
from helixflow.lib import ids
from inference.relay import REPEATED
from tests.billing.admitting import Account
from tests.fakes.behaviours import Received
from tests.faults.world import check_sums
from tests.soak.clients import ONCE, Entry
from tests.soak.world import Tenant


class Books:
    def __init__(self, log: list[Entry], received: list[Received], tenants: list[Tenant]) -> None:
        self._log = log
        self._tenants = tenants
        organizations = [tenant.organization.id for tenant in tenants]
        self.records = {row.id: row for row in UsageRecord.objects.filter(organization__in=organizations)}
        self._by_user = {row.end_user: row for row in self.records.values() if row.end_user}
        self.seen = Counter(_user(request) for request in received if request.method == "POST")

    def problems(self) -> list[str]:
        found: Counter[str] = Counter()
        example: dict[str, str] = {}
        for problem, about in (*self._of_entries(), *self._of_records(), *self._of_sums()):
            found[problem] += 1
            example.setdefault(problem, about)
        return [f"{count} × {problem}: {example[problem]}" for problem, count in found.items()]

    def _of_entries(self) -> Iterator[tuple[str, str]]:
        for entry in self._log:
            answer = entry.answer
            if not entry.tenant or "x-ratelimit-remaining" not in answer.headers or answer.repeated:
                continue
            record = self.records.get(_id(entry))
            if answer.status == 429:
                if record is not None:
                    yield "a record of a refused request", _shown(record)
            elif record is None:
                yield "no record of an admitted request", f"{entry.kind} {entry.model} {_id(entry)} {answer.status}"
            elif problem := _contradiction(entry, record):
                yield problem, f"{entry.kind} {entry.model}: {_shown(record)}"

    def _of_records(self) -> Iterator[tuple[str, str]]:
        users = Counter(row.end_user for row in self.records.values() if row.end_user)
        sent = {entry.user for entry in self._log}
        for record in self.records.values():
            if record.end_user and users[record.end_user] > 1 and not _sent_again(record):
                yield "two records of one request", _shown(record)
            if record.end_user and record.end_user not in sent:
                yield "a record of what nobody sent", _shown(record)
            if record.end_user and not _sent_again(record) and not _attempts_agree(record, self.seen[record.end_user]):
                yield f"the upstream saw {self.seen[record.end_user]} attempts", _shown(record)
        unmarked = [row for row in self.records.values() if _is_reaped(row) and not row.end_user]
        again = {row.end_user for row in self.records.values() if _sent_again(row)}
        for user in again:
            of_it = [row for row in self.records.values() if row.end_user == user]
            whole = [row for row in of_it if not _is_reaped(row)]
            if len(whole) > 1:
                yield "a key was billed twice", _shown(whole[1])
            if len(of_it) == 1 and not unmarked and not _attempts_agree(of_it[0], self.seen[user]):
                yield f"the upstream saw {self.seen[user]} attempts", _shown(of_it[0])
        unknown = [user for user in self.seen if user and user not in self._by_user]
        if len(unknown) > len(unmarked):
            yield (
                f"the upstream saw {len(unknown)} requests without a record, {len(unmarked)} may be theirs",
                unknown[0],
            )

    def _of_sums(self) -> Iterator[tuple[str, str]]:
        for tenant in self._tenants:
            account = Account(tenant.organization, tenant.owner)
            units = sum(row.units for row in self.records.values() if row.organization_id == account.id)
            if account.used() not in {None, units}:  # a late word may just have made it be counted anew
                yield "a counter is not the sum of the records", f"{tenant.organization}: {account.used()}, {units}"
            if account.notes():
                yield "a note is left", str(account.notes())
        try:
            check_sums()
        except AssertionError as error:
            yield "the rollups are not the sums of the records", str(error)[:500]


def _contradiction(entry: Entry, record: UsageRecord) -> str:
    answer = entry.answer
    if _is_reaped(record) or answer.left or not answer.complete:
        return ""
    if not answer.is_stream:
        told = "" if answer.status == 200 else answer.json()["error"]["code"]
        if (record.status, record.error_code) != (answer.status, told):
            return f"{answer.status} {told} was told and {record.status} {record.error_code} recorded"
    elif (record.status == 200) != answer.body.endswith(b"data: [DONE]\n\n"):
        return f"a stream that is recorded as {record.status}"
    if record.units != (answer.status == 200):
        return f"{answer.status} for {record.units} units"
    return ""


def _attempts_agree(record: UsageRecord, seen: int) -> bool:
    outcomes = [attempt["outcome"] for attempt in record.attempts]
    least, most = len(outcomes) - outcomes.count("left") - outcomes.count(REPEATED), len(outcomes)
    if _is_reaped(record):
        least, most = least - outcomes.count("under way"), most + 1
    return least <= seen <= most


def _is_reaped(record: UsageRecord) -> bool:
    return record.settled_by == Settler.REAPER


def _sent_again(record: UsageRecord) -> bool:
    """Under a key: what a killed gateway began is begun again."""
    return record.end_user.startswith(ONCE)


def _id(entry: Entry) -> uuid.UUID:
    return ids.parse_public_id(ids.REQUEST, entry.answer.headers["x-request-id"])


def _user(request: Received) -> str:
    user: str = json.loads(request.body).get("user", "")
    return user


def _shown(record: UsageRecord) -> str:
    outcomes = [attempt["outcome"] for attempt in record.attempts]
    return (
        f"{record.id} {record.end_user} {record.model} {record.status} {record.error_code} units {record.units} "
        f"{outcomes} by {record.settled_by}"
    )
