"""Admission against real PostgreSQL and Valkey: exact counting, and snapshots that notice every change."""

import asyncio
import threading
import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from accounts import api_keys, generation, keys
from billing.admission import breaker, limits, snapshots
from billing.admission.local_limits import LocalLimiter
from billing.models import Plan, Subscription
from helixflow.lib import errors, ids, redis

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="test")[1]


@pytest.fixture(autouse=True)
def _cold_cache():
    snapshots.cache.clear()


def limit_to(organization, minute):
    plan, _ = Plan.objects.get_or_create(slug="enterprise", defaults={"name": "Enterprise"})
    with transaction.atomic():
        Subscription.objects.update_or_create(
            organization=organization, defaults={"plan": plan, "requests_per_minute": minute}
        )
        generation.bump(organization.id)


def admit(token):
    return limits.admit(token, ids.uuid7(), "test")


def admit_many(token, count):
    async def run():
        return await asyncio.gather(*(admit(token) for _ in range(count)))

    return asyncio.run(run())


def test_an_organization_without_subscription_has_starter_limits(token):
    verdict = asyncio.run(admit(token))
    snapshot = verdict.snapshot
    assert (verdict.limit, verdict.remaining) == (100, 99)
    assert snapshot.requests_per_month == 10_000


def test_starter_limits_are_those_of_the_plan_row_if_there_is_one(token):
    Plan.objects.create(slug="starter", name="Starter", requests_per_minute=7, requests_per_month=70)
    verdict = asyncio.run(admit(token))
    snapshot = verdict.snapshot
    assert (verdict.limit, snapshot.requests_per_month) == (7, 70)


def test_a_subscription_s_own_numbers_win_over_its_plan_s(organization, token):
    plan = Plan.objects.create(slug="pro", name="Pro", requests_per_minute=1000, requests_per_month=100_000)
    Subscription.objects.create(organization=organization, plan=plan, requests_per_minute=5)
    verdict = asyncio.run(admit(token))
    snapshot = verdict.snapshot
    assert (verdict.limit, snapshot.requests_per_month) == (5, 100_000)


def test_100_parallel_at_a_limit_of_10_admit_exactly_10(organization, token):
    limit_to(organization, 10)
    verdicts = admit_many(token, 100)
    assert sorted(v.outcome for v in verdicts) == [limits.ADMITTED] * 10 + [limits.MINUTE] * 90
    assert sorted(v.remaining for v in verdicts if v.outcome == limits.ADMITTED) == list(range(10))
    assert {v.remaining for v in verdicts if v.outcome == limits.MINUTE} == {0}


def test_a_new_calendar_minute_starts_anew(organization, token, monkeypatch):
    limit_to(organization, 3)
    assert [v.outcome for v in admit_many(token, 4)].count(limits.ADMITTED) == 3
    monkeypatch.setattr(limits, "clock_offset_s", 60)
    assert [v.outcome for v in admit_many(token, 4)].count(limits.ADMITTED) == 3


def test_a_clock_that_steps_back_does_not_start_the_minute_anew(organization, token, monkeypatch):
    limit_to(organization, 3)
    admit_many(token, 3)
    monkeypatch.setattr(limits, "clock_offset_s", -60)
    assert admit_many(token, 1)[0].outcome == limits.MINUTE


def test_a_clock_that_had_jumped_far_ahead_does_not_hold_up_everybody_until_then(organization, token, monkeypatch):
    limit_to(organization, 3)
    monkeypatch.setattr(limits, "clock_offset_s", 3600)
    admit_many(token, 3)
    monkeypatch.setattr(limits, "clock_offset_s", 0)
    assert admit_many(token, 1)[0].outcome == limits.ADMITTED


def test_reset_is_the_next_full_minute_and_retry_after_the_time_to_it(organization, token):
    limit_to(organization, 0)
    verdict = admit_many(token, 1)[0]
    assert verdict.reset_at % 60 == 0
    assert 0 < verdict.reset_at - verdict.now <= 60
    assert verdict.error().retry_after == verdict.reset_at - verdict.now


def test_other_calls_have_a_counter_of_their_own(organization, token):
    limit_to(organization, 2)
    outcomes = [limits.admit_other(token) for _ in range(3)]
    assert [v.outcome for v in outcomes] == [limits.ADMITTED, limits.ADMITTED, limits.MINUTE]
    assert [v.remaining for v in outcomes] == [2, 2, 2]
    assert admit_many(token, 1)[0].outcome == limits.ADMITTED


def test_repeats_count_as_other_calls(organization, token):
    limit_to(organization, 2)

    async def repeat():
        return [await limits.admit_repeat(token) for _ in range(3)]

    outcomes = asyncio.run(repeat())
    assert [v.outcome for v in outcomes] == [limits.ADMITTED, limits.ADMITTED, limits.MINUTE]
    assert [v.remaining for v in outcomes] == [2, 2, 2]
    assert admit_many(token, 1)[0].outcome == limits.ADMITTED


def test_two_organizations_do_not_share_a_counter(organization, token, outsider):
    limit_to(organization, 1)
    other = api_keys.create(organization=outsider.memberships.get().organization, user=outsider, name="other")[1]
    admit_many(token, 1)
    assert admit_many(other, 1)[0].outcome == limits.ADMITTED


def test_a_revoked_key_is_refused_on_the_next_request(organization, owner, token):
    admit_many(token, 1)
    key = organization.api_keys.get()
    api_keys.revoke(key=key, user=owner)
    with pytest.raises(errors.InvalidApiKey, match="revoked"):
        admit_many(token, 1)


def test_a_changed_plan_counts_on_the_next_request(organization, token):
    assert admit_many(token, 1)[0].limit == 100
    limit_to(organization, 1000)
    assert admit_many(token, 1)[0].limit == 1000


def test_a_refused_or_stale_request_changes_nothing(organization, token):
    limit_to(organization, 1)
    admit_many(token, 1)
    window = redis.sync_client().keys("*:window:*")
    before = redis.sync_client().hgetall(window[0])
    admit_many(token, 5)
    assert redis.sync_client().hgetall(window[0]) == before


def test_a_flushed_redis_counts_as_stale_and_is_told_the_generation_again(token):
    snapshot = asyncio.run(admit(token)).snapshot
    redis.sync_client().flushdb()
    asyncio.run(admit(token))
    assert int(redis.sync_client().get(generation.redis_key(snapshot.organization_id)) or 0) == snapshot.generation


def test_a_key_with_a_wrong_checksum_never_reaches_the_database(django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(errors.InvalidApiKey):
        limits.admit_other("hflow_" + "a" * 49)


def test_an_unknown_key_is_asked_for_once(django_assert_num_queries):
    unknown = keys.generate()
    with pytest.raises(errors.InvalidApiKey):
        limits.admit_other(unknown)
    with django_assert_num_queries(0), pytest.raises(errors.InvalidApiKey):
        limits.admit_other(unknown)


def test_an_expired_key_is_refused_although_its_snapshot_is_warm(organization, owner):
    _, token = api_keys.create(
        organization=organization, user=owner, name="short", expires_at=timezone.now() + timedelta(seconds=0.3)
    )
    admit_many(token, 1)

    async def until_refused():
        while True:
            await admit(token)
            await asyncio.sleep(0.05)

    with pytest.raises(errors.InvalidApiKey, match="expired"):
        asyncio.run(asyncio.wait_for(until_refused(), 5))


def test_a_warm_key_goes_on_while_postgresql_is_down_and_a_cold_one_gets_503(token, monkeypatch):
    admit_many(token, 1)
    known = snapshots.cache._known[token]
    monkeypatch.setattr(snapshots, "load", _down)
    monkeypatch.setattr(snapshots, "MAX_AGE_S", -1)
    monkeypatch.setattr(snapshots, "REFRESH_AFTER_S", -1)
    assert admit_many(token, 1)[0].outcome == limits.ADMITTED
    snapshots.cache.clear()
    with pytest.raises(errors.ServiceUnavailable) as refused:
        admit_many(token, 1)
    assert refused.value.retry_after == 5
    assert known.generation


def _down(token):
    raise OperationalError("no")


def test_a_warm_key_does_not_wait_for_a_postgresql_that_hangs(token, monkeypatch, hung_postgresql):
    admit_many(token, 1)
    monkeypatch.setattr(snapshots, "REFRESH_AFTER_S", -1)
    monkeypatch.setattr(snapshots, "MAX_AGE_S", -1)
    monkeypatch.setattr(snapshots, "AGED_WAIT_S", 0.01)
    monkeypatch.setattr(snapshots, "LOAD_TIMEOUT_S", 3600)
    monkeypatch.setattr(snapshots, "load", hung_postgresql)
    assert [verdict.outcome for verdict in admit_many(token, 5)] == [limits.ADMITTED] * 5


def test_a_stale_key_is_not_served_while_postgresql_hangs(token, organization, monkeypatch, hung_postgresql):
    admit_many(token, 1)
    with transaction.atomic():
        generation.bump(organization.id)
    monkeypatch.setattr(snapshots, "LOAD_TIMEOUT_S", 0.01)
    monkeypatch.setattr(snapshots, "load", hung_postgresql)
    with pytest.raises(errors.ServiceUnavailable):
        admit_many(token, 1)


def test_made_up_keys_do_not_queue_without_end(token, organization, monkeypatch, hung_postgresql):
    admit_many(token, 1)
    monkeypatch.setattr(snapshots.cache, "_loading", {})
    monkeypatch.setattr(snapshots, "MAX_COLD", 20)
    monkeypatch.setattr(snapshots, "LOAD_TIMEOUT_S", 3600)
    monkeypatch.setattr(snapshots, "load", hung_postgresql)

    async def flood():
        waiting = [asyncio.create_task(admit(keys.generate())) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(errors.ServiceUnavailable):
            await admit(keys.generate())
        assert len(snapshots.cache._loading) == 20
        verdict = await admit(token)
        for task in waiting:
            task.cancel()
        return verdict.outcome

    assert asyncio.run(flood()) == limits.ADMITTED


@pytest.fixture
def hung_postgresql():
    """Hangs until the test ends."""
    released = threading.Event()

    def load(token):
        released.wait()
        raise OperationalError("the connection was closed")

    yield load
    released.set()


# Redis away


@pytest.fixture
def no_redis(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"


def test_without_redis_each_process_serves_its_share(organization, token, no_redis, monkeypatch):
    monkeypatch.setattr(limits, "_here", LocalLimiter(processes=4))
    limit_to(organization, 8)
    verdicts = admit_many(token, 5)
    assert [verdict.outcome for verdict in verdicts] == [limits.ADMITTED] * 2 + [limits.MINUTE] * 3
    assert all(verdict.local for verdict in verdicts)
    assert (verdicts[0].limit, verdicts[0].remaining, verdicts[2].remaining) == (8, 1, 0)


def test_without_redis_the_month_is_not_told(token, no_redis):
    assert not any(b"month" in name for name, _ in admit_many(token, 1)[0].headers())


def test_after_five_failures_redis_is_not_asked_for_a_while(token, no_redis, monkeypatch):
    monkeypatch.setattr(breaker, "ONE_S", 0)
    admit_many(token, 5)
    assert limits.breaker.is_open
    assert not admit_many(token, 1)[0].uncertain


def test_without_redis_a_snapshot_older_than_30_s_is_read_again(organization, owner, token, no_redis, monkeypatch):
    admit_many(token, 1)
    monkeypatch.setattr(generation, "publish", lambda *_: None)
    api_keys.revoke(key=organization.api_keys.get(), user=owner)
    assert admit_many(token, 1)[0].admitted
    monkeypatch.setattr(limits, "MAX_AGE_S", -1)
    with pytest.raises(limits.Unheard) as unheard:
        admit_many(token, 1)
    assert isinstance(unheard.value.refusal, errors.InvalidApiKey)


def test_the_lua_and_python_sides_agree_on_keys_of_one_slot(token):
    snapshot = asyncio.run(admit(token)).snapshot
    tags = {key[: key.index("}") + 1] for key in snapshot.admission(202611, "test")[0]}
    assert tags == {redis.shard_tag(snapshot.organization_id)}


def test_shard_tags_are_spread():
    tags = {redis.shard_tag(uuid.UUID(int=number << 64)) for number in range(500)}
    assert len(tags) == redis.SHARDS
