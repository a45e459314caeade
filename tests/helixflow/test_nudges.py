"""Telling open pages that something changed: never a burden, and never a failure, to who tells."""

import asyncio
import logging
import time
import uuid
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer

from helixflow.lib import live, redis_address
from helixflow.stack import embedded
from tests.cluster import Cluster


def heard_through(layer: Any, publish: Any) -> Any:
    """What a consumer that joined one organization's group hears of ``publish(organization_id)``."""
    organization_id = uuid.uuid4()

    async def listen():
        channel = await layer.new_channel()
        await layer.group_add(live.group(organization_id), channel)
        await asyncio.to_thread(publish, [uuid.uuid4(), organization_id])
        try:
            return await asyncio.wait_for(layer.receive(channel), 10)
        finally:
            await layer.flush()

    return asyncio.run(listen())


def test_the_channel_layer_hears_it():
    assert heard_through(get_channel_layer(), live.nudge) == {"type": "usage"}


def test_every_node_of_a_cluster_hears_it(on_cluster: Cluster):
    for turn in range(3):
        publisher = live.Publisher(on_cluster.url)
        publisher._turn = turn
        hosts = [{"address": url, "socket_timeout": 15} for url in redis_address.servers(on_cluster.url)]
        assert heard_through(RedisPubSubChannelLayer(hosts=hosts), publisher.nudge) == {"type": "usage"}


def test_a_redis_that_is_away_is_said_once_and_left_alone(caplog, monkeypatch):
    publisher = live.Publisher(f"redis://127.0.0.1:{embedded.free_port()}/0")
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            assert not publisher.nudge([uuid.uuid4()])
    assert len(caplog.records) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + live.SILENT_S)
    assert not publisher.nudge([uuid.uuid4()])
    assert len(caplog.records) == 2


def test_it_is_published_again_once_redis_is_back(monkeypatch, settings):
    publisher = live.Publisher(settings.CHANNELS_REDIS_URL)
    monkeypatch.setattr(publisher, "_silent_until", time.monotonic() + 60)
    assert not publisher.nudge([uuid.uuid4()])
    monkeypatch.setattr(publisher, "_silent_until", 0.0)
    assert publisher.nudge([uuid.uuid4()])


@pytest.mark.parametrize("organizations", [[], set()])
def test_without_a_change_nobody_is_told(organizations):
    publisher = live.Publisher("redis://127.0.0.1:1/0")
    assert not publisher.nudge(organizations)
    assert publisher._client is None
