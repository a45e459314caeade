"""What goes away by itself, and what a scrape says of the rest."""

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import ApiKey
from helixflow.lib import ids
from helixflow.server import metrics
from inference import tasks
from inference.batch import retention
from inference.batch_models import Batch, BatchItem, BatchLane, StoredFile
from tests.billing.admitting import Account
from tests.inference.batch import rows


@pytest.fixture
def key(transactional_db) -> ApiKey:
    row: ApiKey = Account.make().key.row
    return row


def made(key: ApiKey, *, ago: timedelta) -> Batch:
    with time_machine.travel(timezone.now() - ago):
        return rows.batch(key, [200, "batch_expired"], id=ids.uuid7(), input_file_id=rows.file(key).id)


def test_old_requests_and_files_are_dropped_and_counts_stay(key, monkeypatch):
    monkeypatch.setattr(retention, "PIECE", 1)
    old = made(key, ago=retention.KEPT + timedelta(hours=1))
    young = made(key, ago=retention.KEPT - timedelta(hours=1))
    kept = rows.file(key)
    tasks.drop_old_batches()
    assert set(BatchItem.objects.values_list("batch_id", flat=True)) == {young.id}
    assert young.items.count() == 2
    assert list(StoredFile.objects.values_list("id", flat=True)) == [kept.id]
    old.refresh_from_db()
    assert (old.total, old.completed, old.failed) == (2, 1, 1)


def test_a_scrape_counts_batches_and_how_long_a_turn_is_due(key, settings):
    server, _, _ = settings.DATABASE_URL.rpartition("/")
    settings.DATABASE_URL = f"{server}/{connection.settings_dict['NAME']}"  # where the test's rows are
    made(key, ago=timedelta(days=3))
    rows.batch(key, [200, 200, "timeout", None, None])
    rows.batch(key, [None], waits_for="rate_limit")
    BatchLane.objects.create(
        organization_id=key.organization_id, due_at=timezone.now() - timedelta(seconds=30), lease=None
    )
    found = metrics_of_batches()
    assert 30 <= found.pop("helixflow_batch_lag_seconds") < 90
    assert found == {
        "helixflow_batches_open": 2,
        "helixflow_batches_paused": 1,
        "helixflow_batch_requests_waiting": 3,
        "helixflow_batch_requests_last_day completed": 2,
        "helixflow_batch_requests_last_day failed": 1,
    }


def metrics_of_batches() -> dict[str, float]:
    body, _ = metrics.exposition("")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("helixflow_batch")
    }
