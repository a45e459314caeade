"""Sums of the ledger per hour and per month, kept beside the records and in their transactions (docs/ledger.md).

Whoever writes records or sums of an organization first takes the lock of its shard, for the transaction. So meters on
overlapping batches wait for each other and cannot deadlock, and a rebuild counts while nothing moves.
"""

import uuid
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from django.db import connection

from billing.metering import histograms
from billing.models import UsageRecord
from helixflow.lib import redis

LOCKS: Final = 0x4C45_4447  # the space of advisory locks that the shards' are in

# The rows travel as one JSON text: a tenth of the cost of 14 arrays. Sums are added by PostgreSQL, so nothing is read
# before it is written; rows are taken in one order.
ADD_HOURS: Final = """
INSERT INTO billing_usagehour AS kept (
    organization_id, hour, api_key_id, model, deployment, requests, units, failures, prompt_tokens, cached_tokens,
    completion_tokens, cost, duration_histogram, first_token_histogram)
SELECT organization_id, hour, api_key_id, model, deployment, requests, units, failures, prompt_tokens, cached_tokens,
    completion_tokens, cost, duration_histogram, first_token_histogram
FROM json_populate_recordset(NULL::billing_usagehour, %s)
ORDER BY organization_id, hour, api_key_id, model, deployment
ON CONFLICT (organization_id, hour, api_key_id, model, deployment) DO UPDATE SET
    requests = kept.requests + excluded.requests,
    units = kept.units + excluded.units,
    failures = CASE WHEN excluded.failures = '{}' THEN kept.failures ELSE (
        SELECT coalesce(jsonb_object_agg(code, times), '{}')
        FROM (
            SELECT key AS code, sum(value::bigint) AS times
            FROM (
                SELECT * FROM jsonb_each_text(kept.failures)
                UNION ALL SELECT * FROM jsonb_each_text(excluded.failures)
            ) AS both_sides
            GROUP BY key HAVING sum(value::bigint) <> 0
        ) AS summed) END,
    prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = kept.cached_tokens + excluded.cached_tokens,
    completion_tokens = kept.completion_tokens + excluded.completion_tokens,
    cost = kept.cost + excluded.cost,
    duration_histogram = ARRAY(
        SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(kept.duration_histogram, excluded.duration_histogram) WITH ORDINALITY AS pair(a, b, bucket)
        ORDER BY bucket),
    first_token_histogram = ARRAY(
        SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(kept.first_token_histogram, excluded.first_token_histogram) WITH ORDINALITY AS pair(a, b, bucket)
        ORDER BY bucket)
"""

ADD_MONTHS: Final = """
INSERT INTO billing_usagemonth AS kept (organization_id, month, api_key_id, requests, units, cost)
SELECT organization_id, month, api_key_id, requests, units, cost
FROM json_populate_recordset(NULL::billing_usagemonth, %s)
ORDER BY organization_id, month, api_key_id
ON CONFLICT (organization_id, month, api_key_id) DO UPDATE SET
    requests = kept.requests + excluded.requests,
    units = kept.units + excluded.units,
    cost = kept.cost + excluded.cost
RETURNING organization_id, month, api_key_id, cost
"""

# Where a correction took the last request away.
DROP_EMPTY: Final = """
DELETE FROM {table} WHERE requests = 0
AND (organization_id, {period}) IN (SELECT * FROM unnest(%s::uuid[], %s::{type}[]))
"""


class HourKey(NamedTuple):
    organization_id: uuid.UUID
    hour: datetime
    api_key_id: uuid.UUID
    model: str
    deployment: str


class MonthKey(NamedTuple):
    organization_id: uuid.UUID
    month: date
    api_key_id: uuid.UUID


class HourSums(msgspec.Struct):
    """As a row of UsageHour has them."""

    requests: int = 0
    units: int = 0
    failures: dict[str, int] = {}
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    duration_histogram: list[int] = []
    first_token_histogram: list[int] = []

    def add(self, record: UsageRecord, times: int) -> None:
        self.requests += times
        self.units += times * record.units
        if record.error_code:
            self.failures[record.error_code] = self.failures.get(record.error_code, 0) + times
            if not self.failures[record.error_code]:
                del self.failures[record.error_code]
        self.prompt_tokens += times * record.prompt_tokens
        self.cached_tokens += times * record.cached_input_tokens
        self.completion_tokens += times * record.completion_tokens
        self.cost += times * record.cost
        histograms.add(self.duration_histogram, record.duration_ms, times)
        if record.first_token_ms is not None:
            histograms.add(self.first_token_histogram, record.first_token_ms, times)


class MonthSums(msgspec.Struct):
    """As a row of UsageMonth has them."""

    requests: int = 0
    units: int = 0
    cost: Decimal = Decimal(0)

    def add(self, record: UsageRecord, times: int) -> None:
        self.requests += times
        self.units += times * record.units
        self.cost += times * record.cost


class Rollup:
    """What some records sum up to."""

    def __init__(self) -> None:
        self.hours: dict[HourKey, HourSums] = {}
        self.months: dict[MonthKey, MonthSums] = {}
        self._corrects = False

    def add(self, record: UsageRecord, times: int = 1) -> None:
        """``times`` -1 takes a record away again."""
        self._corrects |= times < 0
        self.hours.setdefault(hour_key(record), HourSums()).add(record, times)
        self.months.setdefault(month_key(record), MonthSums()).add(record, times)

    def apply(self) -> dict[MonthKey, Decimal]:
        """Add to the rows, under the organizations' lock. The cost that each month has come to."""
        if not self.months:
            return {}
        with connection.cursor() as cursor:
            cursor.execute(ADD_HOURS, [_rows(self.hours)])
            cursor.execute(ADD_MONTHS, [_rows(self.months)])
            costs = {MonthKey(*key): cost for *key, cost in cursor.fetchall()}
            if self._corrects:
                hours, months = list(self.hours), list(self.months)
                for statement, keys in ((_DROP_EMPTY_HOURS, hours), (_DROP_EMPTY_MONTHS, months)):
                    cursor.execute(statement, [[key[0] for key in keys], [key[1] for key in keys]])
        return costs


_DROP_EMPTY_HOURS: Final = DROP_EMPTY.format(table="billing_usagehour", period="hour", type="timestamptz")
_DROP_EMPTY_MONTHS: Final = DROP_EMPTY.format(table="billing_usagemonth", period="month", type="date")


def hour_key(record: UsageRecord) -> HourKey:
    """A model that nobody was asked for has no row of its own: callers would make up as many as they like."""
    hour = record.started_at.replace(minute=0, second=0, microsecond=0)
    model = record.model if record.attempts else ""
    return HourKey(record.organization_id, hour, record.api_key_id, model, record.deployment)


def month_key(record: UsageRecord) -> MonthKey:
    return MonthKey(record.organization_id, record.month, record.api_key_id)


def lock(organization_ids: Iterable[uuid.UUID]) -> None:
    """Until the transaction ends nobody else writes records or sums of these organizations, nor of their shards."""
    shards = sorted({int(redis.shard_tag(each).strip("{s}")) for each in organization_ids})
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, shard) FROM unnest(%s::int[]) AS shard", [LOCKS, shards])


def _rows(sums: dict[HourKey, HourSums] | dict[MonthKey, MonthSums]) -> str:
    return msgspec.json.encode([key._asdict() | msgspec.structs.asdict(total) for key, total in sums.items()]).decode()
