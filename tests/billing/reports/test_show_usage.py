"""``manage.py show_usage`` and the balance it shows."""

import json
import uuid
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from billing import events, months
from billing.admission import notes, redis_keys, unsettled
from billing.reports import balance, live
from helixflow.lib import ids, redis
from tests import factories
from tests.billing import usage_events
from tests.billing.readers import meter, new_key

pytestmark = pytest.mark.django_db

MONTH = 202611
NOON = usage_events.NOON


@pytest.fixture
def key(organization, owner):
    return new_key(organization, owner)[0]


@pytest.fixture
def client() -> Any:
    return redis.sync_client()


def count(key, used, *, spent=0, by_key=None):
    """The month's counter, as admission and the meter leave it."""
    fields: dict[Any, Any] = {"used": used, "spent": spent}
    fields |= {f"k:{key.id.hex}": used if by_key is None else by_key, f"s:{key.id.hex}": spent}
    redis.sync_client().hset(redis_keys.month(key.organization_id, MONTH), mapping=fields)


def send(key, *, late=False, **fields):
    """A settled request on its way to the meter."""
    event = usage_events.usage(organization_id=key.organization_id, api_key_id=key.id, **fields)
    entry: dict[Any, Any] = {"o": key.organization_id.hex, "e": events.encode(event)} | ({"late": "1"} if late else {})
    redis.sync_client().xadd(redis_keys.usage_stream(redis.shard_tag(key.organization_id)), entry)
    return event


def note(key, request_id=None):
    """A request under way."""
    head = notes.head("process", key.organization_id, key.id, None, MONTH, leased=False)
    name = redis_keys.notes(redis.shard_tag(key.organization_id))
    redis.sync_client().hset(name, (request_id or ids.uuid7()).hex, f"{head}1700000000")


def show(*arguments, code=None):
    """What it printed; ``code`` is how it must end."""
    output = StringIO()
    if code is None:
        call_command("show_usage", *arguments, "--month=2026-11", stdout=output)
    else:
        with pytest.raises(SystemExit) as ended:
            call_command("show_usage", *arguments, "--month=2026-11", stdout=output)
        assert ended.value.code == code
    return output.getvalue()


def postgresql_is_down(monkeypatch):
    def refuse(*_, **__):
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr("django.db.backends.utils.CursorWrapper.execute", refuse)


def redis_is_down(monkeypatch):
    def refuse(*_, **__):
        raise redis.RedisError("Connection refused")

    monkeypatch.setattr(live, "read", refuse)


def test_ledger_stream_and_what_is_under_way_make_up_the_counter(key):
    meter(key, at=NOON)
    meter(key, at=NOON, units=0)
    send(key)
    send(key, units=0)
    note(key)
    note(key)
    count(key, 4, spent=30_000)
    drawn = balance.draw(key.organization_id, MONTH)
    for line in drawn.lines.values():
        assert (line.counted, line.recorded, line.unmetered, line.in_flight, line.expected) == (4, 1, 1, 2, 4)
        assert (line.told, line.cost, line.untold) == (Decimal("0.03"), Decimal("0.03"), Decimal(0))
    assert set(drawn.lines) == {None, key.id}
    assert drawn.steady
    assert not drawn.differs


def test_a_request_seen_on_its_way_counts_once(key):
    event = meter(key, at=NOON)
    note(key, event.id)
    event = send(key)
    note(key, event.id)
    count(key, 2)
    assert balance.draw(key.organization_id, MONTH).lines[None].surplus == 0


def test_what_the_meter_has_written_and_not_yet_removed_counts_once(key):
    event = send(key)
    usage_events.write(event)
    count(key, 1, spent=15_000)
    assert not balance.draw(key.organization_id, MONTH).differs


def test_a_late_event_is_the_difference_to_the_reaper_s_record(key):
    event = send(key, late=True, units=0)
    usage_events.write(usage_events.reaped(event))
    line = balance.draw(key.organization_id, MONTH).lines[None]
    assert (line.recorded, line.unmetered, line.expected) == (1, -1, 0)
    usage_events.write(event, late=True)
    line = balance.draw(key.organization_id, MONTH).lines[None]
    assert (line.recorded, line.unmetered, line.expected) == (0, 0, 0)


def test_other_months_and_organizations_are_left_out(key, outsider):
    other = new_key(outsider.memberships.get().organization, outsider)[0]
    for each in (other, key):
        meter(each, at=NOON.replace(month=10))
        send(each, at=NOON.replace(month=10))
    meter(other, at=NOON)
    send(other)
    note(other)
    count(key, 0)
    assert balance.draw(key.organization_id, MONTH).lines[None] == balance.Line(counted=0, told=Decimal(0))


def test_a_counter_that_moves_meanwhile_is_read_again_and_then_said(key, monkeypatch):
    count(key, 0)
    readings = []
    really = unsettled.unmetered

    def busy(organization_id):
        readings.append(1)
        count(key, len(readings))
        return really(organization_id)

    monkeypatch.setattr(unsettled, "unmetered", busy)
    assert not balance.draw(key.organization_id, MONTH).steady
    assert len(readings) == balance.TRIES
    assert "Run it again" in show(key.organization.public_id, code=1)


def test_agreement_is_shown_and_ends_with_0(key):
    meter(key, at=NOON)
    count(key, 1, spent=15_000)
    shown = show(key.organization.public_id)
    assert "Redis and the ledger agree" in shown
    assert "November 2026" in shown
    assert f"CI {key.hint}" in shown
    assert "Starter: 100 requests a minute, 10000 a month" in shown


@pytest.mark.parametrize(("used", "said"), [(3, "holds 2 units"), (0, "misses 1 units")])
def test_a_difference_is_explained_with_its_remedy_and_ends_with_1(key, client, used, said):
    meter(key, at=NOON)
    count(key, used, spent=15_000)
    shown = show(key.organization.public_id, code=1)
    assert said in shown
    name = redis_keys.month(key.organization_id, MONTH)
    assert f"redis-cli DEL '{name}'" in shown
    client.delete(name)
    assert "has no counter" in show(key.organization.public_id)


def test_units_of_the_wrong_key_and_money_not_told_are_differences(key):
    meter(key, at=NOON)
    count(key, 1, spent=15_000, by_key=0)
    assert "counted for another key" in show(key.organization.public_id, code=1)
    count(key, 1, spent=14_000)
    assert "Budgets go by another amount" in show(key.organization.public_id, code=1)


def test_json_for_programs(key):
    meter(key, at=NOON)
    note(key)
    count(key, 3, spent=15_000)
    found = json.loads(show(key.organization.public_id, "--json", code=1))
    assert (found["organization_id"], found["month"]) == (key.organization.public_id, "2026-11")
    assert (found["differs"], found["steady"], found["problems"]) == (True, True, [])
    assert found["lines"][0] == {
        "api_key_id": None,
        "counted": 3,
        "ledger": 1,
        "stream": 0,
        "under_way": 1,
        "difference": 1,
        "told": "0.015",
        "spent": "0.015",
    }
    assert found["lines"][1]["api_key_id"] == key.public_id


def test_the_month_is_the_current_one_unless_named(key):
    output = StringIO()
    call_command("show_usage", key.organization.public_id, "--json", stdout=output)
    now = redis.sync_client().time()[0]
    assert json.loads(output.getvalue())["month"].replace("-", "") in {str(months.of(now)), str(months.of(now - 60))}


@pytest.mark.parametrize("month", ["november", "2026-13", "2026-1", "202611"])
def test_what_is_no_month_is_refused(key, month):
    with pytest.raises(CommandError, match="like 2026-11"):
        call_command("show_usage", key.organization.public_id, f"--month={month}")


def test_an_organization_is_found_by_id_name_part_of_it_or_member(key, owner, organization):
    for text in (
        organization.public_id,
        str(organization.id),
        organization.id.hex,
        "acme",
        "Acm",
        owner.email.upper(),
        owner.username,
    ):
        assert organization.public_id in show(text)


def test_several_that_match_are_listed_for_the_operator_to_choose(organization, owner):
    second = factories.organization(owner=owner, name="Acme Labs")
    assert second.public_id in show("acme labs")  # the whole name wins over a part
    with pytest.raises(CommandError) as several:
        show("acm")
    assert organization.public_id in str(several.value)
    assert second.public_id in str(several.value)


@pytest.mark.parametrize("text", ["nobody", "org-0352bXSNB68I1khTsSra65", str(uuid.UUID(int=5))])
def test_an_unknown_organization_is_one_clear_line(organization, text):
    with pytest.raises(CommandError, match="There is no organization"):
        show(text)


def test_without_redis_the_ledger_is_shown_and_it_ends_with_2(key, monkeypatch):
    meter(key, at=NOON)
    redis_is_down(monkeypatch)
    shown = show(key.organization.public_id, code=2)
    assert "Redis does not answer: Connection refused" in shown
    assert "0.015" in shown
    assert "nothing is compared" in shown
    assert json.loads(show(key.organization.public_id, "--json", code=2))["differs"] is None


def test_without_postgresql_the_counters_are_shown_for_an_id(key, monkeypatch):
    count(key, 7)
    public_id = key.organization.public_id
    postgresql_is_down(monkeypatch)
    shown = show(public_id, code=2)
    assert "PostgreSQL does not answer: connection refused\n" in shown
    assert key.public_id in shown
    assert " 7" in shown
    with pytest.raises(CommandError, match="Give the organization's id"):
        show("Acme")


def test_without_both_it_says_so(key, monkeypatch):
    public_id = key.organization.public_id
    postgresql_is_down(monkeypatch)
    redis_is_down(monkeypatch)
    with pytest.raises(CommandError) as neither:
        show(public_id)
    assert neither.value.returncode == 2  # 1 would say that they differ
    assert "PostgreSQL does not answer" in str(neither.value)
    assert "Redis does not answer" in str(neither.value)
