"""From a file to rows: all or nothing, and on from where a killed worker was."""

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from accounts.models import ApiKey
from inference.batch import files, lanes, preparing
from inference.batch_models import Batch, BatchItem, BatchLane, BatchStatus
from tests.billing.admitting import Account
from tests.inference.batch import engine
from webhooks.models import Event


@pytest.fixture
def key(transactional_db) -> ApiKey:
    row: ApiKey = Account.make().key.row
    return row


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch) -> None:
    monkeypatch.setattr(preparing, "PIECE", 10)


def prepare(batch: Batch) -> Batch:
    """By whoever gets the lane, as if it had always been free."""
    BatchLane.objects.update(due_at=timezone.now(), lease=None, leased_until=None)
    lane = lanes.claim(batch.organization_id)
    assert lane is not None
    preparing.prepare(batch, lane)
    lane.release(None)
    batch.refresh_from_db()
    return batch


def test_each_line_becomes_a_row_in_order(key):
    batch = prepare(engine.make(key, 25))
    assert (batch.status, batch.total) == (BatchStatus.IN_PROGRESS, 25)
    assert [item.custom_id for item in engine.items(batch)] == [f"request-{number}" for number in range(25)]


def test_who_comes_after_a_killed_worker_goes_on_where_it_was(key, monkeypatch):
    batch = engine.make(key, 35)
    with monkeypatch.context() as patch:
        write = preparing._Reading._write

        def killed(self) -> None:
            write(self)
            if BatchItem.objects.count() >= 20:
                raise SystemExit

        patch.setattr(preparing._Reading, "_write", killed)
        with pytest.raises(SystemExit):
            prepare(batch)
    before = {item.position: item.id for item in engine.items(batch)}
    assert len(before) == 20
    batch = prepare(batch)
    assert (batch.status, batch.total) == (BatchStatus.IN_PROGRESS, 35)
    assert [item.position for item in engine.items(batch)] == list(range(35))
    assert {item.position: item.id for item in engine.items(batch)[:20]} == before


def test_bad_lines_are_named_and_nothing_is_kept(key):
    bad = [engine.line(0), b"{", engine.line(0), engine.line(3, temperature=7), *[b"[]"] * 120]
    batch = prepare(engine.make(key, [*[engine.line(number) for number in range(100, 130)], *bad]))
    assert (batch.status, batch.total) == (BatchStatus.FAILED, 0)
    assert batch.failed_at is not None
    assert not engine.items(batch)
    assert [(each["line"], each["code"]) for each in batch.errors[:3]] == [
        (32, "invalid_json_line"),
        (33, "duplicate_custom_id"),
        (34, "invalid_request"),
    ]
    assert len(batch.errors) == 101
    assert "23" in batch.errors[-1]["message"]
    assert Event.objects.get().data["status"] == "failed"


@pytest.mark.parametrize("what", ["deleted", "lost"])
def test_without_its_file_a_batch_fails_and_says_so(key, what):
    batch = engine.make(key, 2)
    file = files.of(key.organization_id).get()
    if what == "deleted":
        file.delete()
    else:
        default_storage.delete(file.name)
    batch = prepare(batch)
    assert batch.status == BatchStatus.FAILED
    assert batch.errors[0]["code"] == "file_not_found"
    assert "Upload it again" in batch.errors[0]["message"]


def test_cancelled_meanwhile_it_stops(key):
    batch = engine.make(key, 30)
    Batch.objects.update(status=BatchStatus.CANCELLING, cancelling_at=timezone.now())
    assert prepare(batch).status == BatchStatus.CANCELLING
    batch = engine.work_on(batch)
    assert (batch.status, batch.total, batch.settled) == (BatchStatus.CANCELLED, 0, 0)
    assert not engine.items(batch)
