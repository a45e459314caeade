"""What one organization can't do to the platform, or to others, with its batches."""

import json

import pytest
import time_machine
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey
from helixflow.lib import errors
from inference import batch_forms
from inference.batch import batches, files, inline, pieces, preparing, reading, retention, sealing, uploads
from inference.batch.lines import Line
from inference.batch.sending import Errand
from inference.batch_models import Batch, BatchItem, Operation, StoredFile
from tests import factories
from tests.inference.batch import rows


@pytest.fixture
def key(organization, owner, settings, tmp_path) -> ApiKey:
    settings.MEDIA_ROOT = tmp_path
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def begin(key: ApiKey, file: StoredFile) -> Batch:
    return batches.create(
        organization_id=key.organization_id, api_key_id=key.id, file=file, operation=Operation.CHAT, metadata=None
    )


def test_of_one_file_not_any_number_of_copies_is_kept(key, settings):
    settings.FILES_MB = 1
    file = rows.file(key, b"x" * 600_000)
    batch = begin(key, file)
    Batch.objects.update(status="cancelled")  # its requests are kept all the same
    with pytest.raises(errors.InvalidRequest, match=r"0\.4 MB are free"):
        begin(key, file)
    preparing.drop_items(batch)  # as of one that failed, or was cancelled before it began
    begin(key, file)
    with time_machine.travel(timezone.now() + retention.KEPT):
        begin(key, file)


def test_a_batch_that_is_refused_leaves_no_file(key, settings):
    settings.FILES_MB = 1
    requests = [Line("a", "m", json.dumps({"input": "x" * 600_000}).encode())]
    batch = batches.create_inline(
        organization_id=key.organization_id, api_key_id=key.id, requests=requests, operation=Operation.EMBEDDINGS
    )
    StoredFile.objects.all().delete()  # there would be room for another
    with pytest.raises(errors.InvalidRequest, match="are free"):
        batches.create_inline(
            organization_id=key.organization_id, api_key_id=key.id, requests=requests, operation=Operation.EMBEDDINGS
        )
    assert Batch.objects.get() == batch
    assert not StoredFile.objects.exists()
    assert len(default_storage.listdir(files.FOLDER)[1]) == 1  # the first one's


@pytest.mark.parametrize("entry", [b"0", b"{}", b"[]"])
def test_a_list_of_millions_is_refused_before_it_is_read(entry):
    many = b",".join([entry] * batches.MOST_INLINE)
    assert len(inline.parse(b'{"requests":[%b]}' % many).entries) == batches.MOST_INLINE
    with pytest.raises(errors.InvalidRequest, match="At most 1,000") as refused:
        inline.parse(b'{"requests":[%b,%b' % (many, entry))  # what follows is not even looked at
    assert refused.value.param == "requests"


def test_large_items_are_read_few_at_a_time(key, monkeypatch):
    monkeypatch.setattr(pieces, "MOST_BYTES", 250)
    batch = rows.batch(key, [200] * 5)
    for position, size in enumerate((100, 100, 100, 1_000, 0)):
        BatchItem.objects.filter(batch=batch, position=position).update(answer=b"x" * size)
    found = [[item.position for item in piece] for piece in pieces.of(batch.items.all(), "answer")]
    assert found == [[0, 1], [2], [3], [4]]
    assert len(list(pieces.of(batch.items.all(), "request", "answer"))) == 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":%b%b%b}' % (b"[" * 60, b",".join([b"0"] * 100_000), b"]" * 60),  # spaces would make it 60 times as large
        b'{"a":"%b"}' % (b"x" * 3_000_000),
        b"[" * 100_000,
    ],
)
def test_the_page_of_a_huge_request_is_not_huge(key, body):
    batch = rows.batch(key, [200])
    item = batch.items.get()
    item.request = sealing.Box(batch.sealed_key).close(body, sealing.request_label(0))
    shown = reading.exchange(item)
    assert shown is not None
    assert shown.request.startswith(body[:1_000].decode())
    assert len(shown.request) <= 2 * reading.MOST_SHOWN
    assert reading.request_of(item, sealing.Box(batch.sealed_key)) == body  # whole for exports


def test_a_file_whose_time_is_over_is_not_fetched_from_the_dashboard(key, owner):
    batch = rows.batch(key, [200], input_file_id=rows.file(key).id)
    browser = Client()
    browser.force_login(owner)
    url = f"/dashboard/batches/{batch.public_id}"
    assert browser.get(f"{url}/files/input").getvalue() == rows.LINE
    StoredFile.objects.update(expires_at=timezone.now())
    assert browser.get(f"{url}/files/input").status_code == 404
    assert "files/input" not in browser.get(url).content.decode()


def test_a_file_of_empty_lines_is_not_read_to_its_end():
    check = uploads.LineCheck()
    with pytest.raises(errors.InvalidRequest, match="1,000 empty lines"):
        check.feed(b" \r\n" * (uploads.MAX_BLANK + 1))


def test_a_form_of_wrong_lines_is_not_read_to_its_end(organization, key, monkeypatch):
    monkeypatch.setattr(batch_forms, "ENOUGH", 3)
    sent = {"key": key.public_id, "operation": Operation.CHAT, "lines": "x\n" * 5, "once": "1"}
    form = batch_forms.NewBatchForm(organization, sent)
    assert form.errors["lines"] == ["3 lines are not valid: see below."]
    assert [where for where, _ in form.problems] == ["Line 1", "Line 2", "Line 3"]


def test_support_sees_that_there_is_a_request_and_not_what_it_asks(key, organization):
    desk = Client()
    desk.force_login(factories.superuser("operator"))
    desk.post(f"/admin/accounts/organization/{organization.id}/act/view-as/", {"reason": "Ticket 7"})
    batch = rows.batch(key, [200], input_file_id=rows.file(key).id)
    url = f"/dashboard/batches/{batch.public_id}"
    shown = desk.get(f"{url}/requests/0").content.decode()
    assert "not shown to support" in shown
    assert "What is a batch?" not in shown
    assert desk.get(f"{url}/files/input").status_code == 403
    assert desk.post(f"{url}/cancel").status_code == desk.post(f"{url}/retry").status_code == 403


def test_a_pass_is_not_told_with_what_it_is_for():
    assert "hpass_secret" not in repr(
        Errand("/v1/embeddings", "batch_1", "hpass_secret", sealing.Box(sealing.new_key()))
    )
