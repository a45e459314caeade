"""Scripts find their nodes: on a cluster that is whole, that moves its shards about, and that loses a node."""

import asyncio

import pytest
import redis
from redis.crc import key_slot

from helixflow.lib import pipelined_redis
from helixflow.lib.redis import SHARD_TAGS
from helixflow.lib.redis_connection import Reply
from tests.cluster import Cluster, running_cluster, wait_until

KEYS = [f"{tag}:count" for tag in SHARD_TAGS]
COUNT = "return redis.call('INCR', KEYS[1])"


def count() -> pipelined_redis.Script:
    return pipelined_redis.Script(COUNT)


async def count_on_all(script: pipelined_redis.Script) -> set[Reply]:
    return set(await asyncio.gather(*(script.run((key,)) for key in KEYS)))


def test_every_shard_is_found_over_one_connection_a_node(on_cluster: Cluster):
    async def run():
        script = count()
        first = await count_on_all(script)
        return first, await count_on_all(script), len(pipelined_redis.run_ids()), pipelined_redis.epoch()

    assert asyncio.run(run()) == ({1}, {2}, 3, 0)
    assert {on_cluster.owner(key).client.get(key) for key in KEYS} == {b"2"}


def test_one_node_that_answers_is_enough_to_find_the_others(on_cluster: Cluster, settings):
    credentials, _, nodes = settings.REDIS_URL.rpartition("@")
    settings.REDIS_URL = f"{credentials}@127.0.0.1:1,{nodes.split(',')[2]}"
    assert asyncio.run(count_on_all(count())) == {1}


def test_no_node_that_answers_is_a_redis_error_in_time(settings):
    settings.REDIS_URL = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(redis.RedisError, match="no node"):
        asyncio.run(count().run((KEYS[0],)))


def test_a_node_that_forgot_its_scripts_is_told_again(on_cluster: Cluster):
    async def run():
        script = count()
        await count_on_all(script)
        on_cluster.owner(KEYS[0]).client.script_flush()
        return await count_on_all(script)

    assert asyncio.run(run()) == {2}


def test_a_shard_that_moved_is_followed_and_changes_the_epoch(on_cluster: Cluster):
    source = on_cluster.owner(KEYS[0])
    target = on_cluster.other_than(source)

    async def run():
        script = count()
        await count_on_all(script)
        on_cluster.move(KEYS[0], target)
        return await count_on_all(script), pipelined_redis.epoch()

    try:
        assert asyncio.run(run()) == ({2}, 1)
        assert on_cluster.owner(KEYS[0]) is target
    finally:
        on_cluster.move(KEYS[0], source)


def test_a_shard_on_its_way_is_asked_for_where_its_keys_are(on_cluster: Cluster):
    """Both with a script that the target has never seen: two redirections and one script sent whole."""
    source = on_cluster.owner(KEYS[0])
    target = on_cluster.other_than(source)

    async def run():
        script = count()
        await script.run((KEYS[0],))
        on_cluster.begin_move(KEYS[0], target)
        still_here = await script.run((KEYS[0],))
        on_cluster.move_keys(KEYS[0], target)
        target.client.script_flush()
        there = await asyncio.gather(script.run((KEYS[0],)), script.run((KEYS[0],)))
        on_cluster.finish_move(KEYS[0], target)
        return [still_here, *there, await script.run((KEYS[0],))]

    try:
        assert asyncio.run(run()) == [2, 3, 4, 5]
    finally:
        on_cluster.move(KEYS[0], source)


def test_keys_that_a_move_tears_apart_are_as_good_as_no_redis(on_cluster: Cluster):
    source = on_cluster.owner(KEYS[0])
    target = on_cluster.other_than(source)
    script = pipelined_redis.Script("return redis.call('MGET', KEYS[1], KEYS[2])")
    source.client.set(KEYS[0], "here")
    on_cluster.begin_move(KEYS[0], target)
    try:
        with pytest.raises(redis.ConnectionError, match="TRYAGAIN"):
            asyncio.run(script.run((KEYS[0], f"{SHARD_TAGS[0]}:nowhere")))
    finally:
        on_cluster.move_keys(KEYS[0], target)
        on_cluster.finish_move(KEYS[0], target)
        on_cluster.move(KEYS[0], source)


def test_a_whole_slot_that_moves_at_once_costs_no_call(on_cluster: Cluster):
    """Valkey's atomic migration, while calls go on: each is counted once."""
    source = on_cluster.owner(KEYS[0])
    target = on_cluster.other_than(source)
    slot = key_slot(KEYS[0].encode())
    name = target.client.execute_command("CLUSTER", "MYID")

    async def run():
        script, answers = count(), [await count().run((KEYS[0],))]
        source.client.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
        while on_cluster.owner(KEYS[0]) is source or len(answers) < 100:
            answers += await asyncio.gather(*(script.run((KEYS[0],)) for _ in range(10)))
        answers += await asyncio.gather(*(script.run((KEYS[0],)) for _ in range(10)))
        return answers

    try:
        answers = asyncio.run(run())
        assert sorted(answers) == list(range(1, len(answers) + 1))
    finally:
        on_cluster.move(KEYS[0], source)


def test_a_node_that_died_is_replaced_by_its_replica_and_changes_the_epoch(settings):
    async def run(cluster):
        script = count()
        await count_on_all(script)
        assert pipelined_redis.epoch() == 0
        wait_until(lambda: cluster.replicas[0].client.dbsize() == cluster.primaries[0].client.dbsize())
        dead = [key for key in KEYS if cluster.owner(key) is cluster.primaries[0]]
        cluster.primaries[0].kill()
        results = await asyncio.gather(*(script.run((key,)) for key in KEYS), return_exceptions=True)
        failed = [key for key, result in zip(KEYS, results, strict=True) if isinstance(result, redis.RedisError)]
        assert failed == dead  # the other nodes go on
        while not await pipelined_redis.reach_all():
            await asyncio.sleep(0.05)
        seen = pipelined_redis.epoch()
        return seen, await count_on_all(script)

    with running_cluster(replica=True) as cluster:
        settings.REDIS_URL = cluster.url
        epoch, counts = asyncio.run(run(cluster))
        assert epoch > 0
        assert counts == {2, 3}


def test_a_node_that_was_restarted_changes_the_epoch_although_nobody_calls(on_cluster: Cluster):
    node = on_cluster.owner(KEYS[0])

    async def run():
        await count_on_all(count())
        node.kill()
        while await pipelined_redis.reach_all():
            await asyncio.sleep(0.02)
        before = pipelined_redis.epoch()
        node.start()
        while not await pipelined_redis.reach_all():
            await asyncio.sleep(0.02)
        return before, pipelined_redis.epoch()

    assert asyncio.run(run()) == (0, 1)
