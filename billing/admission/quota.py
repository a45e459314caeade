"""The counter of a month in Redis: seeded from what is true, told what was spent.

The counter is a cache. The truth is notes (admitted, not settled), then the usage stream (settled, not metered), then
the ledger. A request moves through them in this order, so reading them in this order misses none, and ids keep one
that moved meanwhile from counting twice. While its counter is missing the organization waits for it, and whatever else
could make the reading wrong, requests that go on without it above all, drops its token: see the scripts.
"""

import logging
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any, Final

import msgspec
from django.db import connection

from billing import events, months
from billing.admission import lua, redis_keys, unsettled
from billing.admission.snapshots import Snapshot
from helixflow.lib import redis

logger = logging.getLogger(__name__)

MILLION: Final = 1_000_000
TRIES: Final = 3
KEEP_S: Final = 7 * 86_400  # after the month: late settlements may still ask for it

# Never lower what was told: two meters may arrive in either order. Told is a counter that is there, or is being seeded:
# who seeds it may have read the ledger a moment before.
TELL_SPENT: Final = """
local month = redis.call('HMGET', KEYS[1], 'used', 'seeding')
if not month[1] and not month[2] then return end
for i = 1, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i])) or 0
  if tonumber(ARGV[i + 1]) > known then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
"""

# One statement, so that totals and records are of one instant.
LEDGER: Final = """
SELECT api_key_id, units, cost, NULL::uuid, NULL FROM billing_usagemonth
WHERE organization_id = %(org)s AND month = %(month)s
UNION ALL
SELECT api_key_id, units, 0, id, settled_by FROM billing_usagerecord WHERE id = ANY(%(ids)s)
"""


class _Unsettled(msgspec.Struct):
    """What notes and stream say of one request. ``corrects``: the meter lets it replace the reaper's record."""

    api_key_id: uuid.UUID
    units: int
    corrects: bool = False


def millionths(amount: Decimal) -> int:
    return int(amount * MILLION)


def seed(snapshot: Snapshot, month: int) -> bool:
    """Makes the month's counter, if it has none. False if what was read was out of date each time: lately settled
    requests are being sent again, and the month has to wait. Raises RedisError, django.db.Error.
    """
    organization_id = snapshot.organization_id
    if any(_seed_once(organization_id, month, exclusive=False) for _ in range(TRIES - 1)):
        return True
    try:
        return _seed_once(organization_id, month, exclusive=True)
    finally:  # whoever was kept out need not wait for it to expire
        redis.sync_client().hdel(redis_keys.month(organization_id, month), "exclusive")


def _seed_once(organization_id: uuid.UUID, month: int, *, exclusive: bool) -> bool:
    key = redis_keys.month(organization_id, month)
    token = _script("begin_seed")(keys=[key], args=[uuid.uuid4().hex, int(exclusive)])
    if not token:
        return True
    noted = dict(_noted(organization_id, month))
    streamed = dict(_streamed(organization_id, month))
    still_unsettled = noted | streamed
    used, spent = _totals(organization_id, month, still_unsettled)
    keys = [
        part
        for api_key in used | spent
        if api_key
        for part in (api_key.hex, used.get(api_key, 0), millionths(spent.get(api_key, Decimal(0))))
    ]
    until = max(months.bounds(month)[1], int(time.time())) + KEEP_S
    total = millionths(spent.get(None, Decimal(0)))
    held = [each.hex for each in noted if each in still_unsettled and each not in streamed]
    arguments = [token, until, used.get(None, 0), total, len(keys) // 3, *keys, *held]
    return bool(_script("finish_seed")(keys=[key], args=arguments))


def tell_spent(*, organization_id: uuid.UUID, month: int, spent: dict[uuid.UUID | None, Decimal]) -> None:
    """What the ledger's month has come to, by API key and (None) in all: budgets compare it. Raises RedisError."""
    arguments: list[str | int] = []
    for api_key_id, amount in spent.items():
        arguments += ["spent" if api_key_id is None else f"s:{api_key_id.hex}", millionths(amount)]
    _registered(TELL_SPENT)(keys=[redis_keys.month(organization_id, month)], args=arguments)


def _noted(organization_id: uuid.UUID, month: int) -> Iterator[tuple[uuid.UUID, _Unsettled]]:
    """Requests of this month that are under way: each holds its unit."""
    for request_id, note in unsettled.under_way(organization_id).items():
        if note.month == month:
            yield request_id, _Unsettled(note.api_key_id, 1)


def _streamed(organization_id: uuid.UUID, month: int) -> Iterator[tuple[uuid.UUID, _Unsettled]]:
    """Requests of this month that are settled and not metered, the oldest first."""
    for event, late in unsettled.unmetered(organization_id):
        if event.month == month:
            yield event.id, _Unsettled(event.api_key_id, event.units, late and event.settled_by != events.REAPER)


def _totals(
    organization_id: uuid.UUID, month: int, requests: dict[uuid.UUID, _Unsettled]
) -> tuple[dict[uuid.UUID | None, int], dict[uuid.UUID | None, Decimal]]:
    """Units and money by API key, and in all under None. Takes out of ``requests`` what the ledger has for good."""
    used: dict[uuid.UUID | None, int] = {None: 0}
    spent: dict[uuid.UUID | None, Decimal] = {None: Decimal(0)}

    def add(api_key_id: uuid.UUID, units: int, cost: Decimal = Decimal(0)) -> None:
        for name in (None, api_key_id):
            used[name] = used.get(name, 0) + units
            spent[name] = spent.get(name, Decimal(0)) + cost

    recorded: dict[uuid.UUID, int] = {}
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {"org": organization_id, "month": months.first_day(month), "ids": list(requests)}
        cursor.execute(LEDGER, parameters)
        for api_key_id, units, cost, request_id, settled_by in cursor.fetchall():
            if request_id is None:
                add(api_key_id, units, cost)
            elif not (settled_by == events.REAPER and requests[request_id].corrects):
                del requests[request_id]
            else:
                recorded[request_id] = units  # the meter will correct it by the difference
    for request_id, request in requests.items():
        add(request.api_key_id, request.units - recorded.get(request_id, 0))
    return used, spent


@cache
def _script(name: str) -> Any:
    return _registered(lua.source(name))


@cache
def _registered(source: str) -> Any:
    return redis.sync_client().register_script(source)
