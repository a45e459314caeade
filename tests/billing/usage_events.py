"""Usage events and their way into the ledger, for tests."""

import random
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing import events
from billing.metering import ledger, partitions, rollups
from billing.models import UsageMonth, UsageRecord
from billing.prices import Cost, PriceBook
from billing.rollup_models import UsageHour
from helixflow.lib import ids

PRICE_ID = uuid.UUID(int=7)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


class FlatPrice(PriceBook):
    """A thousandth of a dollar per token of any class."""

    def cost(self, *, model, tokens, at):
        return Cost(PRICE_ID, "USD", (tokens.input + tokens.output) * Decimal("0.001"))


def id_at(moment):
    """A UUIDv7 made at ``moment``."""
    return uuid.UUID(int=ids.first_at(moment).int | (uuid.uuid4().int & ((1 << 62) - 1)))


def usage(*, at=NOON, **fields):
    given: dict[str, Any] = {
        "id": id_at(at),
        "organization_id": uuid.UUID(int=1),
        "api_key_id": uuid.UUID(int=2),
        "month": at.year * 100 + at.month,
        "units": 1,
        "status": 200,
        "duration_ms": 120.0,
        "model": "gpt-4",
        "deployment": "first",
        "attempts": [events.Attempt("first", "ok", 100.0)],
        "usage_source": events.PROVIDER,
        "tokens": events.Tokens(input=10, output=5),
        "first_token_ms": 30.0,
    }
    return events.Usage(**given | fields)


def reaped(event):
    """What the reaper says of a request that ``event`` knows better."""
    return events.Usage(
        id=event.id,
        organization_id=event.organization_id,
        api_key_id=event.api_key_id,
        month=event.month,
        units=1,
        status=500,
        error_code="server_error",
        duration_ms=60_000.0,
        model=event.model,
        settled_by=events.REAPER,
    )


def refused(**fields):
    given: dict[str, Any] = {
        "id": uuid.uuid4(),
        "organization_id": uuid.UUID(int=1),
        "api_key_id": uuid.UUID(int=2),
        "minute": int(NOON.timestamp()) // 60,
        "reason": "minute",
        "count": 3,
        "limit": 10,
    }
    return events.Refused(**given | fields)


def write(*given, late=False, book=None):
    ledger.write([ledger.Entry(event, late) for event in given], book=book or FlatPrice())


def random_usage(dice: random.Random, *, organizations=2):
    """Any admitted request's end, over three hours of two months."""
    failed = dice.random() < 0.3
    at = datetime(2026, 10, 31, 22, tzinfo=UTC) + timedelta(minutes=dice.randrange(180))
    return usage(
        at=at,
        id=uuid.UUID(int=ids.first_at(at).int | dice.getrandbits(62)),
        organization_id=uuid.UUID(int=dice.randint(1, organizations)),
        api_key_id=uuid.UUID(int=dice.randint(1, 3)),
        units=dice.choice([0, 1]),
        status=503 if failed else 200,
        error_code=dice.choice(["timeout", "service_unavailable"]) if failed else "",
        model=dice.choice(["gpt-4", "gpt-3.5-turbo", ""]),
        deployment=dice.choice(["first", "second"]),
        duration_ms=dice.choice([0.0, 2.5, 90.0, 4_000.0, 2_000_000.0]),
        first_token_ms=dice.choice([None, 1.0, 700.0]),
        tokens=events.Tokens(*(dice.randrange(50) for _ in range(7))),
    )


def sums():
    """The rollups as they stand, comparable: {key: sums}."""
    hours = {
        rollups.HourKey(row.organization_id, row.hour, row.api_key_id, row.model, row.deployment): (
            *(row.requests, row.units, row.failures, row.prompt_tokens, row.cached_tokens, row.completion_tokens),
            *(row.cost, trimmed(row.duration_histogram), trimmed(row.first_token_histogram)),
        )
        for row in UsageHour.objects.all()
    }
    months = {
        rollups.MonthKey(row.organization_id, row.month, row.api_key_id): (row.requests, row.units, row.cost)
        for row in UsageMonth.objects.all()
    }
    return hours, months


def drop_partitions():
    """All but the default. Tests that commit leave theirs behind: truncating keeps tables."""
    partitions.drop_before(date(2999, 1, 1))


def trimmed(histogram):
    while histogram and not histogram[-1]:
        histogram = histogram[:-1]
    return histogram


def ledger_state():
    """Everything that must not change when something comes a second time."""
    return sorted(UsageRecord.objects.values_list("id", "settled_by", "cost", "status", "recorded_at")), sums()
