"""What REDIS_URL may say, what start-up says to it, and the control plane's client on a cluster."""

import asyncio
import subprocess
import sys
import uuid

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.exceptions import ImproperlyConfigured

from accounts import generation
from helixflow.lib import redis, redis_address
from helixflow.server import health
from helixflow.stack import up
from helixflow.stack.embedded import EmbeddedError
from tests import tree
from tests.checks import clean_environment
from tests.cluster import Cluster

CLUSTER = "redis+cluster://user:p%40ss@one.example:7001,two.example,[::1]:7003"
ONE_TAG_A_SHARD = [f"{{s{number:02d}}}:test" for number in range(redis.SHARDS)]


def test_a_server_is_read_from_its_url():
    address = redis_address.parse("rediss://:p%2Fw@redis.example:6380/2?ssl_ca_certs=%2Fetc%2Fca.pem")
    assert address == redis_address.Address(
        (("redis.example", 6380),), "", "p/w", 2, is_cluster=False, tls=True, ca_file="/etc/ca.pem"
    )


def test_a_cluster_is_read_from_its_url():
    address = redis_address.parse(CLUSTER)
    assert address.nodes == (("one.example", 7001), ("two.example", 6379), ("::1", 7003))
    assert (address.user, address.password, address.is_cluster, address.tls) == ("user", "p@ss", True, False)
    assert redis_address.parse("rediss+cluster://one.example").tls


def test_what_knows_no_clusters_gets_a_url_for_each_node():
    assert redis_address.servers(CLUSTER) == [
        "redis://user:p%40ss@one.example:7001/0",
        "redis://user:p%40ss@two.example/0",
        "redis://user:p%40ss@[::1]:7003/0",
    ]
    assert redis_address.servers("redis://one.example/3") == ["redis://one.example/3"]


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@redis.example",
        "redis://:secret@redis.example:port/0",
        "redis://:secret@redis.example/first",
        "redis+cluster://:secret@redis.example:7001,redis.example:port",
        "redis+cluster://:secret@redis.example:7001/1",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL ") as refused:
        redis_address.parse(url)
    assert "secret" not in str(refused.value)


def start(tmp_path, **environment: str) -> str:
    """The last line of a start with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", "from helixflow import settings; print(settings.CHANNEL_LAYERS)"],
        cwd=tree.ROOT,
        env=clean_environment(str(tmp_path)) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1]


def test_a_cluster_needs_other_servers_for_the_queue_and_the_cache(tmp_path):
    said = start(tmp_path, REDIS_URL=CLUSTER)
    assert "CELERY_BROKER_URL and CACHE_URL must name a server that is no cluster" in said
    said = start(tmp_path, REDIS_URL=CLUSTER, CELERY_BROKER_URL="amqp://rabbit.example")
    assert "CACHE_URL must" in said
    assert "CELERY_BROKER_URL" not in said


def test_a_cluster_with_them_starts_and_carries_the_dashboards_messages(tmp_path):
    single = "redis://single.example/0"
    said = start(tmp_path, REDIS_URL=CLUSTER, CELERY_BROKER_URL=single, CACHE_URL=single)
    assert all(url in said for url in redis_address.servers(CLUSTER))


def test_the_control_plane_s_client_reaches_every_shard(on_cluster: Cluster):
    client = redis.sync_client()
    for key in ONE_TAG_A_SHARD:
        client.set(key, key)
    assert [client.get(key) for key in ONE_TAG_A_SHARD] == [key.encode() for key in ONE_TAG_A_SHARD]
    assert len({on_cluster.owner(key).port for key in ONE_TAG_A_SHARD}) == 3


def test_a_registered_script_survives_a_flush_of_scripts(on_cluster: Cluster):
    script = redis.sync_client().register_script("return redis.call('INCR', KEYS[1])")
    assert {script(keys=[key]) for key in ONE_TAG_A_SHARD} == {1}
    on_cluster.owner(ONE_TAG_A_SHARD[0]).client.script_flush()
    assert {script(keys=[key]) for key in ONE_TAG_A_SHARD} == {2}


def test_a_generation_is_published_to_its_shard(on_cluster: Cluster):
    organizations = [uuid.uuid4() for _ in range(20)]
    for organization in organizations:
        generation.publish(organization, 7)
        generation.publish(organization, 5)
    assert {redis.sync_client().get(generation.redis_key(each)) for each in organizations} == {b"7"}


def test_a_cluster_that_cannot_be_reached_is_a_redis_error(settings):
    settings.REDIS_URL = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(redis.RedisError):
        redis.sync_client()
    with pytest.raises(redis.RedisError):
        asyncio.run(redis.ping())


def test_an_answer_of_the_cluster_client_s_own_is_a_redis_error(on_cluster: Cluster):
    with pytest.raises(redis.RedisError, match="same key slot"):
        redis.sync_client().eval("return 1", 2, "{s00}:a", "{s01}:a")


def test_health_asks_every_node(on_cluster: Cluster):
    async def state():
        return await health.Services({"redis": health._redis}).status(wait_s=10)

    assert asyncio.run(state()) == {"redis": "healthy"}


def test_a_start_refuses_a_node_that_is_not_called_a_cluster(on_cluster: Cluster, settings):
    up._require_redis(on_cluster.url)
    settings.REDIS_URL = redis_address.servers(on_cluster.url)[0]
    with pytest.raises(EmbeddedError, match="belongs to a cluster"):
        up._require_redis(settings.REDIS_URL)


def test_messages_to_dashboards_cross_a_cluster(on_cluster: Cluster):
    hosts = [{"address": url, "socket_timeout": 15} for url in redis_address.servers(on_cluster.url)]

    async def run():
        here, there = RedisPubSubChannelLayer(hosts=hosts), RedisPubSubChannelLayer(hosts=hosts)
        received = []
        for number in range(6):  # names that fall on different nodes
            channel = await here.new_channel()
            await here.group_add(f"group-{number}", channel)
            await there.group_send(f"group-{number}", {"type": "test", "number": number})
            message = await asyncio.wait_for(here.receive(channel), 10)
            received.append(message["number"])
        await here.flush()
        await there.flush()
        return received

    assert asyncio.run(run()) == list(range(6))


def test_the_client_follows_a_shard_that_moved(on_cluster: Cluster):
    client, key = redis.sync_client(), ONE_TAG_A_SHARD[0]
    client.set(key, "here")
    source = on_cluster.owner(key)
    target = on_cluster.other_than(source)
    try:
        on_cluster.move(key, target)
        assert client.get(key) == b"here"
    finally:
        on_cluster.move(key, source)
