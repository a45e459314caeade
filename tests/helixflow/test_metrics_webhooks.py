"""How far webhooks are behind, as Prometheus sees it; and that a scrape survives a PostgreSQL that is away or hangs."""

import socket
import time
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from helixflow.server import metrics, metrics_webhooks
from tests import factories
from tests.webhooks.rows import attempt, days_ago, delivery, event, lease
from webhooks import backlog
from webhooks.models import Delivery, DeliveryState, Endpoint

NAMES = ("helixflow_webhook_", "helixflow_postgresql_up")


def scraped() -> dict[str, float]:
    """Of webhooks, by name and outcome."""
    body, _ = metrics.exposition("")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith(NAMES)
    }


@pytest.fixture
def _test_database(transactional_db, settings) -> None:
    """The one that the test's rows are in."""
    server, _, _ = django_settings.DATABASE_URL.rpartition("/")
    settings.DATABASE_URL = f"{server}/{connection.settings_dict['NAME']}"


@pytest.fixture
def hook(_test_database, organization) -> Endpoint:
    return factories.endpoint(organization)


def due(to: Endpoint, *, seconds_ago: float, **fields: Any) -> Delivery:
    return delivery(to, next_attempt_at=timezone.now() - timedelta(seconds=seconds_ago), **fields)


def test_without_anything_to_do_all_is_zero(hook):
    assert scraped() == {
        "helixflow_postgresql_up": 1,
        "helixflow_webhook_pending": 0,
        "helixflow_webhook_lag_seconds": 0,
        "helixflow_webhook_attempts_last_minute succeeded": 0,
        "helixflow_webhook_attempts_last_minute failed": 0,
    }


def test_what_is_due_and_in_nobodys_hands_is_counted(hook, organization):
    for seconds in (30, 600, 5):
        due(hook, seconds_ago=seconds)
    due(hook, seconds_ago=-60)  # in a minute
    due(hook, seconds_ago=4000, state=DeliveryState.SUCCEEDED)
    dead = due(factories.endpoint(organization), seconds_ago=20)
    lease(dead, seconds=-1)  # whoever had it is gone
    found = scraped()
    assert found["helixflow_webhook_pending"] == 4
    assert 600 <= found["helixflow_webhook_lag_seconds"] < 700


def test_what_waits_for_a_slow_receiver_is_no_lag_of_ours(hook, organization):
    lease(due(hook, seconds_ago=900), seconds=60)
    due(hook, seconds_ago=800)
    due(factories.endpoint(organization), seconds_ago=30)
    found = scraped()
    assert found["helixflow_webhook_pending"] == 2
    assert 30 <= found["helixflow_webhook_lag_seconds"] < 100


@pytest.mark.parametrize("column", ["disabled_at", "deleted_at"])
def test_what_waits_for_its_owner_does_not_count(hook, column):
    due(hook, seconds_ago=900)
    Endpoint.objects.update(**{column: timezone.now()})
    found = scraped()
    assert (found["helixflow_webhook_pending"], found["helixflow_webhook_lag_seconds"]) == (0, 0)


def test_attempts_of_the_last_minute_are_counted_by_their_outcome(hook):
    sent = delivery(hook)
    for succeeded in (True, True, False):
        attempt(sent, succeeded=succeeded)
    attempt(sent, at=days_ago(0.01))
    found = scraped()
    assert found["helixflow_webhook_attempts_last_minute succeeded"] == 2
    assert found["helixflow_webhook_attempts_last_minute failed"] == 1


def test_counting_ends_somewhere(hook, monkeypatch):
    monkeypatch.setattr(backlog, "MOST", 2)
    for _ in range(3):
        due(hook, seconds_ago=5)
    assert scraped()["helixflow_webhook_pending"] == 2


def test_no_table_is_read_as_a_whole(hook):
    """But the endpoints', which are few."""
    lease(due(hook, seconds_ago=5), seconds=60)
    values: dict[str, Any] = {
        "now": timezone.now(),
        "most": 10,
        "lately": event(hook.organization, at=timezone.now()).id,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # so that it is used where nothing else would do
        for statement in (backlog.PENDING, backlog.OLDEST, backlog.ATTEMPTS):
            cursor.execute(f"EXPLAIN {statement}", values)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            read = [line for line in plan.splitlines() if "Seq Scan on" in line and "webhooks_endpoint" not in line]
            assert not read, plan
        cursor.execute("RESET enable_seqscan")


def test_with_postgresql_down_the_rest_is_there(settings):
    settings.DATABASE_URL = "postgresql://app:app@127.0.0.1:1/app"
    assert scraped() == {"helixflow_postgresql_up": 0}
    assert "helixflow_redis_up 1" in metrics.exposition("")[0].decode()


def test_a_postgresql_that_hangs_holds_up_one_scrape_a_little_and_no_other(settings, monkeypatch):
    monkeypatch.setattr(metrics_webhooks, "WAIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        settings.DATABASE_URL = f"postgresql://app:app@127.0.0.1:{silent.getsockname()[1]}/app"
        for _ in range(2):
            assert scraped() == {"helixflow_postgresql_up": 0}
        silent.settimeout(5)
        first, _ = silent.accept()
        silent.settimeout(0.2)
        with first, pytest.raises(TimeoutError):  # the second scrape asked nobody
            silent.accept()
    wait_until_nobody_asks()


def wait_until_nobody_asks() -> None:
    deadline = time.monotonic() + 20
    while metrics_webhooks._asking.locked():
        assert time.monotonic() < deadline
        time.sleep(0.05)
