"""What Redis tells of an organization, written by the platform's own scripts or as they would."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing import events, months
from billing.admission import limits, notes, redis_keys, unsettled
from billing.reports import live
from helixflow.lib import redis
from tests.billing import usage_events

ORGANIZATION = uuid.UUID(int=1)
KEY = uuid.UUID(int=2)


@pytest.fixture
def client():
    return redis.sync_client()


@pytest.fixture
def now(client):
    return client.time()[0]


def at_clock(monkeypatch, now, moment):
    """Moves the limiter's clock to ``moment``."""
    monkeypatch.setattr(limits, "clock_offset_s", int(moment.timestamp()) - now)


def test_nothing_there_is_zero_and_a_month_without_a_counter(now):
    counters = live.read(ORGANIZATION)
    assert (counters.minute_used, counters.minute_used_by_key, counters.parallel) == (0, {}, 0)
    assert counters.counted is None
    assert counters.month == months.of(counters.now)


def test_the_minute_is_read_by_key(client, now):
    # The next one, lest it end before it is read; a clock that stepped back counts in it just so.
    counting = {"minute": now // 60 + 1, "inference": 7, "other": 3, f"k:{KEY.hex}": 5}
    client.hset(redis_keys.window(ORGANIZATION), mapping=counting)
    counters = live.read(ORGANIZATION)
    assert (counters.minute_used, counters.minute_used_by_key) == (7, {KEY: 5})


def test_a_minute_that_is_over_counts_nothing(client, now, monkeypatch):
    client.hset(redis_keys.window(ORGANIZATION), mapping={"minute": now // 60, "inference": 7})
    monkeypatch.setattr(limits, "clock_offset_s", 60)
    assert live.read(ORGANIZATION).minute_used == 0


def test_the_month_is_read_by_key_and_money_in_millionths(client, now):
    month = {"used": 12, "spent": 1_500_000, f"k:{KEY.hex}": 9, f"s:{KEY.hex}": 250}
    client.hset(redis_keys.month(ORGANIZATION, 202610), mapping=month)
    counted = live.read(ORGANIZATION, 202610).counted
    assert counted == live.Month(12, Decimal("1.5"), {KEY: 9}, {KEY: Decimal("0.00025")})


def test_a_month_that_is_only_being_seeded_has_no_counter(client, now):
    client.hset(redis_keys.month(ORGANIZATION, 202610), mapping={"seeding": "token", "returned:ab": KEY.hex})
    assert live.read(ORGANIZATION, 202610).counted is None


def test_the_month_is_the_limiter_s_even_where_the_process_s_clock_differs(client, now, monkeypatch):
    """The process believes in one month, Redis's clock says another."""
    client.hset(redis_keys.month(ORGANIZATION, 202701), mapping={"used": 3})
    at_clock(monkeypatch, now, datetime(2027, 1, 1, tzinfo=UTC))
    monkeypatch.setattr("billing.reports.live.time.time", lambda: 0.0)
    counters = live.read(ORGANIZATION)
    assert counters.month == 202701
    assert counters.counted is not None
    assert counters.counted.used == 3


def test_leases_that_expired_are_not_under_way(client, now):
    client.zadd(redis_keys.parallel(ORGANIZATION), {"a": now - 10, "b": now + 600, "c": now + 600})
    assert live.read(ORGANIZATION).parallel == 2


def test_requests_under_way_are_its_organization_s_alone(client):
    name = redis_keys.notes(redis.shard_tag(ORGANIZATION))
    mine, other = uuid.uuid4(), uuid.uuid4()
    for request_id, organization_id in ((mine, ORGANIZATION), (other, uuid.UUID(int=9))):
        head = notes.head("process", organization_id, KEY, None, 202611, leased=False)
        client.hset(name, request_id.hex, f"{head}1700000000")
    found = unsettled.under_way(ORGANIZATION)
    assert list(found) == [mine]
    assert (found[mine].api_key_id, found[mine].month) == (KEY, 202611)


def test_what_waits_in_the_stream_is_its_organization_s_alone(client):
    stream = redis_keys.usage_stream(redis.shard_tag(ORGANIZATION))
    mine, late = (usage_events.usage(organization_id=ORGANIZATION) for _ in range(2))
    client.xadd(stream, {"o": uuid.UUID(int=9).hex, "e": events.encode(usage_events.usage())})
    client.xadd(stream, {"o": ORGANIZATION.hex, "e": events.encode(mine)})
    client.xadd(stream, {"o": ORGANIZATION.hex, "e": b"not an event"})
    client.xadd(stream, {"o": ORGANIZATION.hex})
    client.xadd(stream, {"o": ORGANIZATION.hex, "e": events.encode(usage_events.refused())})
    client.xadd(stream, {"o": ORGANIZATION.hex, "e": events.encode(late), "late": "1"})
    expected = [unsettled.Unmetered(mine, late=False), unsettled.Unmetered(late, late=True)]
    assert list(unsettled.unmetered(ORGANIZATION)) == expected


def test_a_long_stream_is_read_page_by_page(client, monkeypatch):
    monkeypatch.setattr(unsettled, "PAGE", 2)
    stream = redis_keys.usage_stream(redis.shard_tag(ORGANIZATION))
    given = [usage_events.usage(organization_id=ORGANIZATION) for _ in range(5)]
    for event in given:
        client.xadd(stream, {"o": ORGANIZATION.hex, "e": events.encode(event)})
    assert [each.event for each in unsettled.unmetered(ORGANIZATION)] == given
