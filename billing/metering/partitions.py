"""Monthly partitions of the records, made ahead of time and dropped when they are old (docs/ledger.md).

A record whose month has no partition goes to the default one, so none is ever refused for its time; making the
partition moves it. Names say the month, the bounds are what counts: the ids that can have been made in it.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from django.db import connection, transaction

from helixflow.lib import clock, ids

TABLE: Final = "billing_usagerecord"
LOCK: Final = 0x5041_5254

# Longer than any batch takes, shorter than anybody should wait behind us if something holds the table for long.
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '5s'"
KNOWN: Final = """
SELECT child.relname, pg_get_expr(child.relpartbound, child.oid),
    greatest(child.reltuples, pg_stat_get_live_tuples(child.oid), 0)::bigint, pg_total_relation_size(child.oid)
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = %s::regclass
"""
# Attached when it is filled, which locks the default partition only; made in place it would lock the whole table.
MAKE: Final = """
LOCK TABLE ONLY billing_usagerecord IN SHARE UPDATE EXCLUSIVE MODE;
LOCK TABLE billing_usagerecord_default IN ACCESS EXCLUSIVE MODE;
CREATE TABLE {name} (LIKE billing_usagerecord INCLUDING ALL);
WITH moved AS (DELETE FROM billing_usagerecord_default WHERE id >= '{start}' AND id < '{end}' RETURNING *)
    INSERT INTO {name} SELECT * FROM moved;
ALTER TABLE billing_usagerecord ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}');
"""
STRAY: Final = "SELECT id FROM billing_usagerecord_default WHERE id >= %s AND id < %s ORDER BY id LIMIT 1"
DROP_STRAYS: Final = "DELETE FROM billing_usagerecord_default WHERE id < %s"
_BOUNDS: Final = re.compile(r"FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """From ``starts_on`` to the day before ``ends_on``. Rows and bytes are PostgreSQL's estimates."""

    name: str
    starts_on: date
    ends_on: date
    rows: int
    size: int


def known() -> list[Partition]:
    """The oldest first, without the default."""
    with connection.cursor() as cursor:
        cursor.execute(KNOWN, [TABLE])
        rows = cursor.fetchall()
    found = []
    for name, expression, count, size in rows:
        if bounds := _BOUNDS.search(expression):
            starts_on, ends_on = (ids.time_of(uuid.UUID(bound)).date() for bound in bounds.groups())
            found.append(Partition(name, starts_on, ends_on, count, size))
    return sorted(found, key=lambda partition: partition.starts_on)


def ensure(months_ahead: int = 3) -> list[str]:
    """One for this month, some ahead, and every month since the first that has records in the default one.

    None before the first: it may have been dropped, and what comes so late is a wrong clock's. Idempotent; two at once
    wait for each other. Returns the names of those that were made.
    """
    this = clock.now().date().replace(day=1)
    wanted = [this]
    while len(wanted) <= months_ahead:
        wanted.append(_following(wanted[-1]))
    there = [partition.starts_on for partition in known()]
    since = there[0] if there else date.min
    made = [name for month in wanted if month not in there and (name := _make(month))]
    while (stray := _stray_month(since=since, before=_following(wanted[-1]))) and (name := _make(stray)):
        made.append(name)
    return made


def drop_before(day: date, *, dry_run: bool = False) -> list[Partition]:
    """Those whose records are all of requests before ``day``, and such records in the default one. Sums stay."""
    old = [partition for partition in known() if partition.ends_on <= day]
    if dry_run:
        return old
    for partition in old:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(LOCK_TIMEOUT)
            cursor.execute(f"DROP TABLE IF EXISTS {partition.name}")
    with connection.cursor() as cursor:
        cursor.execute(DROP_STRAYS, [ids.first_at(_midnight(day))])
    return old


def _make(month: date) -> str:
    """Its name, or nothing if somebody else made it. Records of its month move out of the default partition."""
    name = f"{TABLE}_{month:%Y%m}"
    start, end = (ids.first_at(_midnight(day)) for day in (month, _following(month)))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        if any(partition.starts_on == month for partition in known()):
            return ""
        cursor.execute(LOCK_TIMEOUT)
        cursor.execute(MAKE.format(name=name, start=start, end=end))
    return name


def _stray_month(*, since: date, before: date) -> date | None:
    """The month of the oldest record in the default partition, of those from ``since`` to before ``before``."""
    low = uuid.UUID(int=0) if since == date.min else ids.first_at(_midnight(since))
    with connection.cursor() as cursor:
        cursor.execute(STRAY, [low, ids.first_at(_midnight(before))])
        row = cursor.fetchone()
    return ids.time_of(row[0]).date().replace(day=1) if row else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
