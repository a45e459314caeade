"""Batches in the export of an organization's data, in its deletion, and in the admin."""

import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.storage import default_storage
from django.test import Client

from accounts import api_keys, exporting
from accounts.models import ApiKey, Organization
from inference import exports
from inference.batch import files, reading
from inference.batch_models import Batch, BatchItem, BatchLane, BatchStatus, StoredFile
from tests import factories
from tests.inference.batch import rows


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def operator(db) -> Client:
    staff = factories.user("operator")
    staff.is_staff = staff.is_superuser = True
    staff.save()
    browser = Client()
    browser.force_login(staff)
    return browser


def exported(organization: Organization, name: str) -> list[dict[str, Any]]:
    return list(exporting._sources[name](organization))


def test_an_export_has_batches_what_they_asked_and_what_came_of_it(organization, key, monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK", 2)
    batch = rows.batch(key, [200, 400, None], input_file_id=rows.file(key).id)
    assert exported(organization, "batches")[0]["requests"] == {"total": 3, "completed": 1, "failed": 1}
    first, second, third = exported(organization, "batch_results")
    assert first["batch"] == batch.public_id
    assert first["request"]["messages"] == [{"role": "user", "content": "What is a batch?"}]
    assert (first["response"]["status_code"], second["error"]["code"]) == (200, "invalid_request")
    assert (third["custom_id"], "response" in third) == ("request-3", False)
    assert exported(organization, "files")[0]["filename"] == "requests.jsonl"


def test_an_export_has_large_requests_whole(organization, key, monkeypatch):
    monkeypatch.setattr(reading, "MOST_SHOWN", 20)
    rows.batch(key, [200])
    assert exported(organization, "batch_results")[0]["request"] == rows.CHAT | {"seed": 0}


def test_what_no_key_opens_keeps_nobody_from_the_rest(organization, key):
    lost = rows.batch(key, [200])
    Batch.objects.filter(id=lost.id).update(sealed_key="lost")
    rows.batch(key, [200, 200])
    assert len(exported(organization, "batch_results")) == 2


@pytest.mark.django_db(transaction=True)
def test_with_an_organization_its_batches_and_files_go(organization, key, outsider):
    theirs = api_keys.create(organization=outsider.memberships.get().organization, user=outsider, name="Theirs")[0]
    for each in (key, theirs):
        rows.batch(each, [200, 400], input_file_id=rows.file(each).id)
        BatchLane.objects.create(organization_id=each.organization_id)
    name = StoredFile.objects.get(organization=organization).name
    for eraser in (exports._erase_items, exports._erase_batches, files.erase, exports._erase_lane):
        while eraser(organization.id, 1):
            pass
    assert not default_storage.exists(name)
    for model in (Batch, StoredFile, BatchLane):
        assert set(model.objects.values_list("organization_id", flat=True)) == {theirs.organization_id}
    assert BatchItem.objects.count() == 2


def test_operators_see_how_batches_do_and_never_what_they_hold(operator, key):
    batch = rows.batch(key, [200, None], metadata={"run": "secret plans"}, input_file_id=rows.file(key).id)
    listed = operator.get("/admin/inference/batch/?open=yes").content.decode()
    assert batch.public_id in listed
    assert "1 of 2" in listed
    assert batch.public_id not in operator.get("/admin/inference/batch/?open=no").content.decode()
    assert batch.public_id in operator.get(f"/admin/inference/batch/?q={batch.public_id}").content.decode()
    page = operator.get(f"/admin/inference/batch/{batch.pk}/change/").content.decode()
    file = StoredFile.objects.get()
    assert file.public_id in page
    assert file.public_id in operator.get(f"/admin/inference/storedfile/?q={file.public_id}").content.decode()
    beside = operator.get(f"/admin/inference/storedfile/{file.pk}/change/").content.decode()
    for hidden in ("secret plans", "What is a batch?", batch.sealed_key, file.sealed_key):
        assert hidden not in page + beside


def test_operators_cancel(operator, key):
    running, ended = rows.batch(key, [None]), rows.batch(key, [200])
    sent = {"action": "cancel", "_selected_action": [str(running.pk), str(ended.pk)]}
    answer = operator.post("/admin/inference/batch/", sent, follow=True)
    assert "1 cancelled" in answer.content.decode()
    assert Batch.objects.get(pk=running.pk).status == BatchStatus.CANCELLING
    assert LogEntry.objects.get().object_id == str(running.pk)
    assert uuid.UUID(LogEntry.objects.get().object_id) != ended.pk
