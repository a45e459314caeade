"""Limits and the ledger on a Redis Cluster of three nodes: as exact as on one server, wherever an organization lies."""

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from redis.crc import key_slot

from accounts import api_keys, generation
from billing.admission import limits, quota, redis_keys, unsettled
from billing.admission.breaker import Breaker
from billing.admission.limits import ADMITTED, MINUTE, MONTH, PARALLEL
from billing.metering.meter import Meter
from billing.reports import live
from billing.settling.reaper import Reaper
from helixflow.lib import errors, ids, redis
from tests.billing.admitting import PROCESS, Account, forget_snapshots
from tests.cluster import Cluster
from tests.factories import MODEL, deploy
from tests.web import running_web

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPTS = (limits._sync_script, quota._script, quota._registered, live._read_script, unsettled._page_of)


@pytest.fixture(autouse=True)
def cluster(on_cluster: Cluster, settings, monkeypatch):
    """At the begin of a minute, so that none ends within a test. Scripts are registered with the client of now."""
    monkeypatch.setattr(limits, "breaker", Breaker())
    monkeypatch.setattr(limits, "_ledger_failed_at", float("-inf"))
    now, _ = on_cluster.primaries[0].client.time()
    monkeypatch.setattr(limits, "clock_offset_s", -now % 60)
    for script in SCRIPTS:
        script.cache_clear()
    forget_snapshots()
    yield on_cluster
    for script in SCRIPTS:
        script.cache_clear()


def account_a_node(cluster: Cluster, **terms) -> list[Account]:
    """Organizations whose shards lie on different nodes."""
    found: dict[int, Account] = {}
    for number in range(100):
        account = Account.make(f"org-{number}", **terms)
        found.setdefault(cluster.owner(account.tag).port, account)
        if len(found) == len(cluster.primaries):
            return list(found.values())
    raise AssertionError("a hundred organizations on fewer nodes than there are")


def admit_shuffled(accounts: list[Account], count: int) -> dict[str, list[limits.Verdict]]:
    """``count`` requests of each, all at once and in no order, through one event loop."""
    tokens = [account.key.token for account in accounts for _ in range(count)]
    random.Random(0).shuffle(tokens)

    async def run() -> list[limits.Verdict]:
        return await asyncio.gather(*(limits.admit(token, ids.uuid7(), PROCESS) for token in tokens))

    verdicts: dict[str, list[limits.Verdict]] = {}
    for token, verdict in zip(tokens, asyncio.run(run()), strict=True):
        verdicts.setdefault(token, []).append(verdict)
    return verdicts


def test_100_parallel_at_a_limit_of_10_admit_exactly_10_on_each_node(cluster):
    accounts = account_a_node(cluster, requests_per_minute=10)
    for verdicts in admit_shuffled(accounts, 100).values():
        assert sorted(v.outcome for v in verdicts) == [ADMITTED] * 10 + [MINUTE] * 90
        assert not any(v.local for v in verdicts)
    assert [account.used() for account in accounts] == [10, 10, 10]


def test_the_month_and_parallel_requests_are_as_exact(cluster):
    accounts = account_a_node(cluster, requests_per_month=5)
    for verdicts in admit_shuffled(accounts, 20).values():
        assert sorted(v.outcome for v in verdicts) == [ADMITTED] * 5 + [MONTH] * 15
    for account in accounts:
        account.limit(max_parallel=7)
    for verdicts in admit_shuffled(accounts, 20).values():
        assert sorted(v.outcome for v in verdicts) == [ADMITTED] * 7 + [PARALLEL] * 13


def test_nodes_that_forgot_their_scripts_count_on(cluster):
    accounts = account_a_node(cluster, requests_per_minute=4)
    admit_shuffled(accounts, 2)
    for account in accounts:
        assert limits.admit_other(account.key.token).admitted
    cluster.primaries[0].client.script_flush()
    cluster.primaries[1].client.script_flush()
    for verdicts in admit_shuffled(accounts, 4).values():
        assert sorted(v.outcome for v in verdicts) == [ADMITTED] * 2 + [MINUTE] * 2
    for account in accounts:
        assert limits.admit_other(account.key.token).admitted


def test_a_shard_that_moves_while_requests_run_is_counted_once(cluster):
    account = Account.make("mover", requests_per_minute=100)
    source = cluster.owner(account.tag)
    target = cluster.other_than(source)
    slot, name = key_slot(account.tag.encode()), target.client.execute_command("CLUSTER", "MYID")

    async def run():
        verdicts = [await limits.admit(account.key.token, ids.uuid7(), PROCESS)]
        source.client.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
        while cluster.owner(account.tag) is source or len(verdicts) < 120:
            verdicts += await asyncio.gather(
                *(limits.admit(account.key.token, ids.uuid7(), PROCESS) for _ in range(10))
            )
        return verdicts

    try:
        verdicts = asyncio.run(run())
        assert [v.outcome for v in verdicts].count(ADMITTED) == 100
        assert not any(v.local for v in verdicts)
        assert account.used() == 100
    finally:
        cluster.move(account.tag, source)


def test_a_shard_that_moved_key_by_key_counts_on(cluster):
    """Between the first key and the last this process serves its share, as without Redis."""
    account = Account.make("mover", requests_per_minute=10)
    source = cluster.owner(account.tag)
    target = cluster.other_than(source)
    assert account.outcomes(4) == [ADMITTED] * 4
    cluster.begin_move(account.tag, target)
    try:
        assert all(verdict.local for verdict in account.admit_many(2))
    finally:
        cluster.move_keys(account.tag, target)
        cluster.finish_move(account.tag, target)
    try:
        assert sorted(account.outcomes(10)) == [ADMITTED] * 6 + [MINUTE] * 4
    finally:
        cluster.move(account.tag, source)


def test_a_changed_plan_and_a_revoked_key_count_on_the_next_request(cluster):
    for account in account_a_node(cluster, requests_per_minute=10):
        assert account.admit().limit == 10
        account.limit(requests_per_minute=1000)
        assert account.admit().limit == 1000
        assert redis.sync_client().get(generation.redis_key(account.id)) is not None
        api_keys.revoke(key=account.key.row, user=account.owner)
        with pytest.raises(errors.InvalidApiKey, match="revoked"):
            account.admit()


def test_calls_that_are_not_inference_are_counted_from_threads(cluster):
    accounts = account_a_node(cluster, requests_per_minute=10)
    tokens = [account.key.token for account in accounts] * 30
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(limits.admit_other, tokens))
    for account in accounts:
        mine = [v.outcome for v in verdicts if v.snapshot.organization_id == account.id]
        assert sorted(mine) == [ADMITTED] * 10 + [MINUTE] * 20


def test_what_is_admitted_is_settled_and_metered_on_each_node(cluster):
    accounts = account_a_node(cluster, max_parallel=5)
    for account in accounts:
        for units in (1, 0):
            request_id = ids.uuid7()
            account.settle(account.admit(request_id), request_id, units=units)
        assert (account.notes(), account.leases(), account.used()) == ({}, 0, 1)
    Meter().drain()
    for account in accounts:
        assert sorted(record.units for record in account.records()) == [0, 1]
        assert account.stream() == []


def test_a_lost_month_is_seeded_from_notes_stream_and_ledger_on_each_node(cluster):
    for account in account_a_node(cluster):
        in_ledger, in_stream = ids.uuid7(), ids.uuid7()
        account.settle(account.admit(in_ledger), in_ledger)
        Meter().drain()
        account.settle(account.admit(in_stream), in_stream)
        under_way = account.admit()
        redis.sync_client().delete(redis_keys.month(account.id, under_way.month))
        assert account.admit().month_used == 4


def test_what_a_dead_gateway_left_is_reaped_on_each_node(cluster):
    accounts = account_a_node(cluster, max_parallel=5)
    for account in accounts:
        assert account.admit(process="gone").admitted
    assert Reaper(grace_s=0).run_once() == 3
    assert [(account.notes(), account.leases(), account.used()) for account in accounts] == [({}, 0, 0)] * 3
    Meter().drain()
    assert [account.records()[0].status for account in accounts] == [500, 500, 500]


def test_two_web_processes_on_a_cluster_admit_exactly_ten(cluster, upstream):
    """The whole way, with Celery and the cache on a server of their own."""
    deploy(upstream)
    single = os.environ["REDIS_URL"]
    account = Account.make("web", requests_per_minute=10)
    environment = {
        "REDIS_URL": cluster.url,
        "CELERY_BROKER_URL": single,
        "CACHE_URL": single,
        "HELIXFLOW_CLOCK_OFFSET_S": str(limits.clock_offset_s),
    }
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {account.key.token}", "Connection": "close"}
    with running_web(workers=2, environment=environment) as web:

        def chat(_: int) -> int:
            return requests.post(f"{web.url}/v1/chat/completions", json=body, headers=headers, timeout=20).status_code

        with ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(chat, range(100)))
        assert requests.get(f"{web.url}/v1/health", timeout=20).status_code == 200
    assert (codes.count(200), codes.count(429)) == (10, 90)
    Meter().drain()
    assert (len(account.records()), account.used(), account.notes()) == (10, 10, {})
