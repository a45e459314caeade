"""Open pages of the dashboard while Redis is stopped, starts anew, or does not answer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from accounts.models import Organization, User
from helixflow.lib import live
from tests.faults.world import environment
from tests.helixflow.sockets import NUDGE, cookie_of, hear_all, opened
from tests.stack import wait_for
from tests.web import Web, running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def web(valkey: Any, transactional_db: None, data_dir: Path) -> Iterator[Web]:
    with running_web(environment=environment(data_dir)) as running:
        yield running


def is_refused(web: Web, cookie: str) -> bool:
    try:
        with opened(web.url, cookie):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 503


def hears(socket: ClientConnection, url: str, organization: Organization) -> bool:
    live.Publisher(url).nudge([organization.id])
    return NUDGE in hear_all(socket, silence_s=0.5)


def test_pages_that_stayed_and_pages_that_come_back_hear_again(
    web: Web, valkey: Any, owner: User, organization: Organization
) -> None:
    cookie = cookie_of(owner)
    with opened(web.url, cookie) as stayed:
        assert hears(stayed, valkey.url, organization)
        valkey.kill()
        wait_for(lambda: is_refused(web, cookie))
        assert not live.Publisher(valkey.url).nudge([organization.id])
        valkey.start()
        wait_for(lambda: hears(stayed, valkey.url, organization))
        wait_for(lambda: not is_refused(web, cookie))
        with opened(web.url, cookie) as came_back:
            assert hears(came_back, valkey.url, organization)


def test_a_redis_that_does_not_answer_holds_up_nobody_who_publishes(valkey: Any, organization: Organization) -> None:
    publisher = live.Publisher(valkey.url)
    assert publisher.nudge([organization.id])
    valkey.pause()
    began = time.monotonic()
    for _ in range(1_000):
        assert not publisher.nudge([organization.id])
    assert time.monotonic() - began < live.SILENT_S
