"""A worker's turn at a batch, with the gateway on a real socket and the fake upstream behind it."""

import asyncio
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import api_keys, passes
from billing.admission import limits, snapshots
from helixflow.lib import redis
from inference.batch import batches, files, lanes, outcomes, pace, rounds, turn
from inference.batch_models import Batch, BatchItem, BatchLane, BatchStatus, ItemState, StoredFile
from inference.keeping import room
from tests.fakes.behaviours import Call, status
from tests.fakes.upstream import refused_url
from tests.inference.batch import engine
from tests.stack import wait_for


def lines_of(file_id: uuid.UUID | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in files.lines(StoredFile.objects.get(id=file_id))]


def test_requests_are_asked_in_the_keys_name_and_their_answers_are_in_order(gateway, account, key, upstream):
    batch = engine.work(engine.make(key, 20))
    assert (batch.status, batch.total, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 20, 20, 0)
    assert len(upstream.requests) == 20
    assert [line["custom_id"] for line in lines_of(batch.output_file_id)] == [f"request-{n}" for n in range(20)]
    assert batch.error_file_id is None
    assert batch.completion_tokens == sum(item.completion_tokens for item in engine.items(batch)) > 0
    wait_for(lambda: account.used() == 20)
    assert {entry.event.api_key_id for entry in account.stream()} == {key.id}
    assert engine.told() == ["completed"]
    assert BatchLane.objects.get().due_at is None


def test_the_answers_kept_for_a_workers_death_are_dropped_once_they_are_written_down(gateway, key):
    batch = engine.work(engine.make(key, 5))
    books = room.books(batch.organization_id)
    client: Any = redis.sync_client()
    assert client.hget(books[0], "total") in {None, b"0"}
    marks = [name for name in client.keys(f"{books[0]}:*") if client.type(name) == b"string"]
    assert len(marks) == 5
    assert all(client.get(name)[:1] == b"M" and 0 < client.ttl(name) <= 60 for name in marks)


def test_what_was_answered_before_a_worker_died_is_not_billed_again(gateway, key, upstream, monkeypatch):
    batch = engine.make(key, 5)
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            turn.work(key.organization_id)
    asked = len(upstream.requests)
    BatchLane.objects.update(leased_until=timezone.now())
    batch = engine.work(batch)
    assert (batch.status, batch.completed) == (BatchStatus.COMPLETED, 5)
    assert 0 < asked <= len(upstream.requests) == 5


def test_a_quota_that_is_spent_stops_the_batch_exactly_there(gateway, account, key, upstream):
    account.limit(requests_per_minute=engine.MINUTE, requests_per_month=12)
    upstream.script(*["normal"] * 11, "status-400")  # gives its unit back
    batch = engine.work(engine.make(key, 30))
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 12, 18)
    assert len(upstream.requests) == 13
    assert account.used() == 12
    codes = [line["error"]["code"] for line in lines_of(batch.error_file_id)]
    assert sorted(set(codes)) == ["insufficient_quota", "invalid_request"]
    assert codes.count("insufficient_quota") == 17


def test_failures_that_may_pass_are_tried_again_and_others_are_outcomes(gateway, key, upstream, settings):
    settings.BATCH_PARALLEL = 1
    upstream.script("status-500", "status-400", "normal")
    batch = engine.work_on(engine.make(key, 3))
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 2, 1)
    assert [item.error_code for item in engine.items(batch)] == ["", "invalid_request", ""]
    assert [item.tries for item in engine.items(batch)] == [1, 0, 0]


def test_a_request_fails_after_its_last_try(gateway, key, upstream):
    upstream.script(*[status(503)] * 50)
    batch = engine.work_on(engine.make(key, 1))
    assert (batch.status, batch.failed) == (BatchStatus.COMPLETED, 1)
    (item,) = engine.items(batch)
    assert (item.tries, item.status_code, item.error_code) == (2, 503, "service_unavailable")


def test_with_its_upstreams_down_a_batch_waits_instead_of_failing_request_by_request(gateway, key, upstream, settings):
    settings.BATCH_DELAYS_S = (60, 60)
    upstream.script(*[status(503)] * 500)
    batch = engine.work(engine.make(key, 100))
    assert (batch.status, batch.failed, batch.waits_for) == (BatchStatus.IN_PROGRESS, 0, "upstream")
    assert batch.waits_until is not None
    assert batch.waits_until > timezone.now() + timedelta(seconds=30)
    assert BatchItem.objects.filter(tries=1).count() < 40
    assert BatchLane.objects.get().due_at == batch.waits_until


def test_without_a_gateway_a_batch_waits_and_no_try_is_counted(key, settings):
    settings.BATCH_URL = refused_url().removesuffix("/v1")
    batch = engine.work(engine.make(key, 10))
    assert (batch.status, batch.settled, batch.waits_for) == (BatchStatus.IN_PROGRESS, 0, "service")
    assert {item.tries for item in engine.items(batch)} == {0}


def test_cancelled_on_the_way_the_rest_is_marked(gateway, account, key, upstream):
    batch = engine.make(key, 40)

    async def cancel(call: Call) -> bool:
        if len(upstream.requests) > 10 and call.request is upstream.requests[10]:
            await asyncio.to_thread(_cancel, batch)
        await asyncio.sleep(0.02)
        return False

    upstream.trouble = cancel
    batch = engine.work(batch)
    assert batch.status == BatchStatus.CANCELLED
    assert 10 <= batch.completed < 40
    assert batch.settled == batch.total == 40
    assert {line["error"]["code"] for line in lines_of(batch.error_file_id)} == {"batch_cancelled"}
    assert engine.told() == ["cancelled"]


def _cancel(batch: Batch) -> None:
    batches.cancel(organization_id=batch.organization_id, public_id=batch.public_id)
    connection.close()


def test_after_its_day_the_rest_has_expired(gateway, key, upstream):
    batch = engine.make(key, 3)
    Batch.objects.update(expires_at=timezone.now())
    batch = engine.work(batch)
    assert (batch.status, batch.total, batch.failed) == (BatchStatus.EXPIRED, 3, 3)
    assert batch.expired_at is not None
    assert not upstream.requests


def test_a_key_that_was_rotated_is_followed_and_a_revoked_one_ends_it(gateway, account, key, upstream):
    successor, _ = api_keys.rotate(key=key, user=account.owner, grace=timedelta(0))
    assert engine.work(engine.make(key, 2)).completed == 2
    wait_for(lambda: account.used() == 2)
    assert {entry.event.api_key_id for entry in account.stream()} == {successor.id}
    api_keys.revoke(key=successor, user=account.owner)
    batch = engine.work(engine.make(key, 2))
    assert (batch.status, batch.failed) == (BatchStatus.COMPLETED, 2)
    assert {item.error_code for item in engine.items(batch)} == {"invalid_api_key"}
    assert len(upstream.requests) == 2


def test_a_disabled_organization_waits(gateway, account, key, upstream):
    batch = engine.make(key, 2)
    type(account.organization).objects.update(disabled_at=timezone.now())
    batch = engine.work(batch)
    assert (batch.status, batch.waits_for, batch.settled) == (BatchStatus.IN_PROGRESS, "organization", 0)
    assert not upstream.requests


def test_half_of_the_minute_is_left_to_others(gateway, account, key, upstream):
    account.limit(requests_per_minute=10)
    batch = engine.work(engine.make(key, 30))
    assert (batch.completed, batch.waits_for) == (5, "rate_limit")
    assert [gateway.chat(account.key.token).status_code for _ in range(6)] == [200] * 5 + [429]
    limits.clock_offset_s += 60
    try:
        Batch.objects.update(waits_until=None)
        lanes.wake(batch.organization_id)
        assert engine.work(batch).completed == 10
    finally:
        limits.clock_offset_s -= 60


def test_one_slow_request_keeps_no_other_from_the_next_minute(gateway, key, upstream, monkeypatch):
    minutes = iter([pace.Taken(3, 60), pace.Taken(0, 1), pace.Taken(2, 60)])
    monkeypatch.setattr(pace, "take", lambda snapshot, wanted: next(minutes))
    batch = engine.make(key, 5)
    stands: set[str] = set()

    async def last_of_all(call: Call) -> bool:
        while call.body["messages"][0]["content"] == "Question 1" and len(upstream.requests) < 5:
            row = await Batch.objects.aget(id=batch.id)
            stands.add(row.waits_for)
            await asyncio.sleep(0.05)
        return False

    upstream.trouble = last_of_all
    batch = engine.work(batch)
    assert (batch.completed, batch.waits_for, batch.waits_until) == (5, "", None)
    assert "rate_limit" in stands


def test_at_most_half_of_what_may_be_under_way_at_once(gateway, account, key, upstream):
    account.limit(requests_per_minute=engine.MINUTE, max_parallel=4)
    at_once, most = 0, 0

    async def count(call: Call) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return False

    upstream.trouble = count
    assert engine.work(engine.make(key, 20)).completed == 20
    assert most == 2


def test_an_organizations_batches_take_turns(gateway, key, upstream, settings):
    settings.BATCH_TURN_S, settings.BATCH_PARALLEL = 0.2, 1

    async def slow(call: Call) -> bool:
        await asyncio.sleep(0.02)
        return False

    upstream.trouble = slow
    first, second = engine.make(key, 400), engine.make(key, 2)
    for _ in range(10):
        if not engine.work(second).is_open:
            break
    first.refresh_from_db()
    assert second.status == BatchStatus.COMPLETED
    assert first.is_open
    assert first.settled > 0


def test_a_worker_that_lost_its_lane_sends_nothing_more(gateway, key, upstream, settings):
    settings.BATCH_LEASE_S = 0
    batch = engine.work(engine.make(key, 5))
    assert not upstream.requests
    assert batch.is_open


def test_outcomes_count_once_whoever_writes_them(key):
    batch = engine.make(key, 2)
    BatchItem.objects.bulk_create(
        BatchItem(batch=batch, position=n, custom_id=str(n), model="m", request=b"") for n in range(2)
    )
    outcome = outcomes.Outcome(
        position=0,
        state=ItemState.COMPLETED,
        prompt_tokens=3,
        cached_tokens=1,
        completion_tokens=2,
        reasoning_tokens=1,
    )
    late = outcomes.Outcome(position=0, state=ItemState.FAILED, error_code="timeout")
    assert outcomes.write(batch.id, [outcome]) == 1
    assert outcomes.write(batch.id, [late, outcome]) == 0
    outcomes.settle_rest(batch.id, "batch_cancelled")
    batch.refresh_from_db()
    assert (batch.completed, batch.failed, batch.prompt_tokens, batch.completion_tokens) == (1, 1, 3, 2)
    assert (batch.cached_tokens, batch.reasoning_tokens) == (1, 1)
    assert engine.states(batch) == ["completed", "failed"]


def test_the_share_of_the_minute_is_counted_by_organization_and_by_key(account):
    account.limit(requests_per_minute=20)
    narrow = account.new_key(requests_per_minute=5).row
    wide = snapshots.load(passes.pass_for(account.key.row))
    tight = snapshots.load(passes.pass_for(narrow))
    assert pace.take(tight, 4).granted == 2
    assert [pace.take(wide, 6).granted for _ in range(3)] == [6, 2, 0]
    assert 0 < pace.take(wide, 1).renewed_in_s <= 60


def test_a_lane_is_one_workers_until_its_lease_ends(account):
    lanes.wake(account.id)
    lane = lanes.claim(account.id)
    assert lane is not None
    assert lanes.claim(account.id) is None
    lanes.wake(account.id)  # meanwhile
    lane.release(None)
    again = lanes.claim(account.id)
    assert again is not None
    BatchLane.objects.update(leased_until=timezone.now())  # its worker died
    assert lanes.somebody_waits()
    assert lanes.sweep() == 1
    assert lanes.claim(account.id) is not None
    again.renew()
    assert not again.held
    again.release(timezone.now())
    assert not lanes.somebody_waits()


def test_told_to_end_a_worker_gives_the_lane_back(gateway, key, upstream):
    rounds.stopping.set()
    try:
        batch = engine.work(engine.make(key, 5))
    finally:
        rounds.stopping.clear()
    assert batch.is_open
    assert lanes.somebody_waits()
    assert engine.work(batch).status == BatchStatus.COMPLETED
