"""What a turn does where something stands in its way: the minute, the storage, the gateway, what is before that."""

import asyncio
import errno
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from billing.admission import limits
from helixflow.lib import ids
from inference.batch import batches, files, outcomes, pace, rounds, turn, verdicts
from inference.batch.sending import Answer, Sent
from inference.batch.verdicts import Verdict
from inference.batch_models import Batch, BatchItem, BatchLane, BatchStatus
from tests.fakes.behaviours import Call
from tests.fakes.upstream import refused_url
from tests.inference.batch import engine
from tests.stack import wait_for

COUNTED = {"x-ratelimit-limit-month": "10"}
OURS = COUNTED | {"x-request-id": "req_1"}


@pytest.fixture
def next_minute():
    """Calling it turns the minute."""

    def turn_it() -> None:
        limits.clock_offset_s += 60
        Batch.objects.update(waits_until=None)
        BatchLane.objects.update(due_at=timezone.now())

    yield turn_it
    limits.clock_offset_s = 0


def test_at_the_minutes_limit_an_organizations_batches_take_turns_too(gateway, account, key, next_minute):
    account.limit(requests_per_minute=10)
    first, second = engine.make(key, 30), engine.make(key, 30)
    settled = []
    for _ in range(4):
        for _ in range(2):
            turn.work(key.organization_id)
        first.refresh_from_db()
        second.refresh_from_db()
        settled.append((first.settled, second.settled))
        next_minute()
    assert settled == [(5, 0), (5, 5), (10, 5), (10, 10)]


def test_what_one_minute_granted_is_not_sent_in_the_next(gateway, account, key, upstream, next_minute):
    account.limit(requests_per_minute=40)

    async def turn_the_minute(call: Call) -> bool:
        limits.clock_offset_s = 60
        return False

    upstream.trouble = turn_the_minute
    batch = engine.work(engine.make(key, 60))
    assert batch.waits_for == "rate_limit"
    assert batch.settled <= 8 + 20  # those under way at once, and half of the new minute


@pytest.mark.parametrize("per_minute", [1, 2, 3])
def test_of_a_small_minute_a_batch_has_one(account, per_minute):
    assert pace.share(per_minute) == 1


@pytest.fixture
def full_disk(monkeypatch):
    """Calling it fills the disk, or makes room again."""
    keep = files.new

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    def fill(*, full: bool) -> None:
        monkeypatch.setattr(files, "new", refuse if full else keep)

    return fill


def test_a_batch_whose_files_cannot_be_kept_waits_and_the_others_go_on(gateway, key, full_disk):
    stuck, other = engine.make(key, 1), engine.make(key, 1)
    full_disk(full=True)
    for _ in range(3):  # requests of either, and then the first one's end
        stuck = engine.work(stuck)
    assert (stuck.status, stuck.waits_for, stuck.settled) == (BatchStatus.FINALIZING, "service", 1)
    full_disk(full=False)
    other = engine.work(other)
    assert other.status == BatchStatus.COMPLETED
    assert engine.work_on(stuck).status == BatchStatus.COMPLETED
    assert engine.told() == ["completed"] * 2


def test_a_batch_that_fails_beyond_its_day_keeps_no_worker_busy(gateway, key, full_disk):
    batch = engine.make(key, 1)
    full_disk(full=True)
    Batch.objects.update(expires_at=timezone.now())
    batch = engine.work(batch)
    assert batch.is_open
    due_at = BatchLane.objects.get().due_at
    assert due_at is not None
    assert due_at == batch.waits_until
    assert due_at > timezone.now() + timedelta(seconds=20)


def test_the_end_of_its_day_and_its_cancellation_come_before_what_a_batch_waits_for(key, settings):
    settings.BATCH_URL = refused_url().removesuffix("/v1")
    batch = engine.make(key, 3)
    soon = timezone.now() + timedelta(seconds=1)
    Batch.objects.update(expires_at=soon)
    batch = engine.work(batch)
    assert (batch.waits_for, batch.waits_until) == ("service", soon)
    batches.cancel(organization_id=key.organization_id, public_id=batch.public_id)
    assert engine.work(batch).status == BatchStatus.CANCELLED


def test_once_the_gateway_is_back_a_batch_goes_on_from_where_it_was(gateway, key, settings, upstream):
    there, settings.BATCH_URL = settings.BATCH_URL, refused_url().removesuffix("/v1")
    batch = engine.make(key, 5)
    for _ in range(3):
        batch = engine.work(batch)
        assert (batch.settled, batch.waits_for) == (0, "service")
        engine.wake(batch)
    settings.BATCH_URL = there
    batch = engine.work(batch)
    assert (batch.status, batch.completed) == (BatchStatus.COMPLETED, 5)
    assert {item.tries for item in engine.items(batch)} == {0}


def test_a_cancelled_batch_sends_nothing_of_what_it_had_fetched(gateway, key, upstream, settings, monkeypatch):
    settings.BATCH_PARALLEL = 1
    monkeypatch.setattr(rounds, "LOOK_EVERY_S", 0)
    batch = engine.make(key, 3)

    async def cancel(call: Call) -> bool:
        await asyncio.to_thread(_cancel, batch)
        return False

    upstream.trouble = cancel
    batch = engine.work(batch)
    assert (batch.status, batch.completed) == (BatchStatus.CANCELLED, 1)


def _cancel(batch: Batch) -> None:
    batches.cancel(organization_id=batch.organization_id, public_id=batch.public_id)
    connection.close()


def test_a_repeated_answer_from_the_cache_costs_nothing_and_has_the_first_ones_receipt(
    gateway, account, key, monkeypatch
):
    type(account.organization).objects.update(cache_ttl_s=60)
    assert engine.work(engine.make(key, [engine.line(0, temperature=0)])).completion_tokens > 0
    batch = engine.make(key, [engine.line(0, temperature=0)])
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            turn.work(key.organization_id)
    BatchLane.objects.update(leased_until=timezone.now())
    batch = engine.work(batch)
    assert (batch.completed, batch.prompt_tokens, batch.completion_tokens) == (1, 0, 0)
    wait_for(lambda: len(account.stream()) == 2)
    receipts = [ids.public_id(ids.REQUEST, entry.event.id) for entry in account.stream()]
    assert engine.items(batch)[0].request_id in receipts


ANSWERS = {
    "a page of a proxy's": (Answer(200, {}, b"<html>"), Verdict.SERVICE),
    "a redirect to https": (Answer(301, {}, b""), Verdict.SERVICE),
    "a proxy's own refusal": (Answer(429, {}, b"slow down"), Verdict.SERVICE),
    "an answer under a proxy's id": (Answer(200, COUNTED | {"x-request-id": "Root=1-2"}, b"{}"), Verdict.COMPLETED),
    "not a model of this key's": (
        Answer(403, OURS, b'{"error": {"code": "authorization_failed", "param": "model"}}'),
        Verdict.FAILED,
    ),
    "a disabled organization": (
        Answer(403, OURS, b'{"error": {"code": "authorization_failed", "param": null}}'),
        Verdict.DISABLED,
    ),
    "an upstream that failed": (Answer(503, OURS, b"{}"), Verdict.AGAIN),
    "a gateway that could not count": (Answer(503, {"x-request-id": "req_1"}, b"{}"), Verdict.SERVICE),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_an_answer_means(name):
    answer, verdict = ANSWERS[name]
    assert verdicts.judge(Sent(BatchItem(position=0), answer)) is verdict


def test_an_id_that_a_proxy_has_written_is_not_taken_for_ours():
    assert Answer(200, {"x-request-id": "x" * 300}, b"{}").request_id == ""


def test_a_value_that_postgresql_refuses_stalls_its_batch_alone(gateway, key, monkeypatch):
    stuck, other = engine.make(key, 1), engine.make(key, 1)
    seal = outcomes.of

    def of(*given, **options):
        outcome = seal(*given, **options)
        return replace(outcome, request_id="x" * 41)

    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "of", of)
        stuck = engine.work(stuck)
    assert (stuck.waits_for, stuck.settled) == ("service", 0)
    assert engine.work(other).status == BatchStatus.COMPLETED
    assert engine.work_on(stuck).completed == 1
