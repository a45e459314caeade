"""Exports: who may, what is in them, workers that die, and the end of their days."""

import json
import secrets
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from accounts import api_keys, exporting, exports, organizations, tasks
from accounts.models import AuditEvent, Export, Role
from helixflow.lib import errors
from tests import factories
from tests.accounts.team import membership, signed_in, text_of

pytestmark = pytest.mark.django_db

URL = "/dashboard/settings/exports"


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path) -> None:
    settings.MEDIA_ROOT = tmp_path


def made(organization) -> Export:
    return Export.objects.get(organization=organization)


def archive_of(response) -> zipfile.ZipFile:
    return zipfile.ZipFile(BytesIO(b"".join(response.streaming_content)))


def rows_in(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()]


def test_the_pages_say_whether_stored_contents_are_in_an_export(owner, organization):
    client = signed_in(owner)
    assert "none are stored" in text_of(client.get(URL))
    assert "prompts and answers included" not in text_of(client.get("/dashboard/settings"))
    organizations.update(organization=organization, user=owner, contents_days=30)
    assert "those of the last 30 days" in text_of(client.get(URL))
    assert "prompts and answers included" in text_of(client.get("/dashboard/settings"))


def test_an_owner_asks_is_told_and_downloads(owner, member, organization, inbox):
    client = signed_in(owner)
    assert "No export yet" in text_of(client.get(URL))
    assert client.post(URL)["Location"] == URL
    export = made(organization)
    assert export.state == Export.State.READY
    assert inbox[0].to == ["owner@example.com"]
    page = client.get(URL).content.decode()
    assert f'href="{URL}/{export.public_id}"' in page
    assert "data-live" not in page
    response = client.get(f"{URL}/{export.public_id}")
    assert response["Content-Disposition"].startswith('attachment; filename="acme-')
    assert response["Content-Type"] == "application/zip"
    assert response["X-Content-Type-Options"] == "nosniff"
    archive = archive_of(response)
    assert {row["email"] for row in rows_in(archive, "members")} == {"owner@example.com", "member@example.com"}
    assert "2 rows" in archive.read("README.txt").decode()
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"export.requested", "export.downloaded"} <= actions


def test_it_holds_what_every_app_keeps_and_no_secret(owner, organization, inbox):
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    delivery = factories.delivery(factories.endpoint(organization))
    client = signed_in(owner)
    client.post(URL)
    archive = archive_of(client.get(f"{URL}/{made(organization).public_id}"))
    assert {name.removesuffix(".jsonl") for name in archive.namelist()} >= {
        *("organization", "members", "invitations", "api_keys", "audit_log", "usage_records", "usage_months"),
        *(
            "plan_history",
            "quota_grants",
            "upgrade_requests",
            "webhook_endpoints",
            "events",
            "webhook_deliveries",
            "stored_contents",
        ),
    }
    assert [row["name"] for row in rows_in(archive, "api_keys")] == ["CI"]
    assert [row["id"] for row in rows_in(archive, "webhook_deliveries")] == [delivery.public_id]
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    for hidden in (secret, secret[8:-4], factories.SECRET, "sealed", "digest", owner.password):
        assert hidden not in everything


def test_only_owners_of_the_organization_get_it(owner, member, outsider, organization, inbox):
    signed_in(owner).post(URL)
    one = f"{URL}/{made(organization).public_id}"
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    for user in (member, admin):
        client = signed_in(user)
        assert {client.get(URL).status_code, client.post(URL).status_code, client.get(one).status_code} == {403}
    assert signed_in(outsider).get(one).status_code == 404
    assert Export.objects.count() == 1


def test_strangers_log_in_first(client):
    for url in (URL, f"{URL}/rows", f"{URL}/exp_1"):
        assert client.get(url)["Location"].startswith("/login?next=")


def test_one_at_a_time_and_the_page_watches_it(owner, organization):
    by = membership(owner, organization)
    first = exports.request(by=by)
    assert exports.request(by=by) == first
    client = signed_in(owner)
    page = client.get(URL).content.decode()
    assert f'hx-get="{URL}/rows"' in page
    assert "Export all data" not in page
    assert "Waiting" in text_of(client.get(f"{URL}/rows", headers={"HX-Request": "true"}))
    assert client.get(f"{URL}/rows")["Location"] == URL  # not a part without its page
    assert client.get(f"{URL}/{first.public_id}").status_code == 400


def test_the_oldest_make_room(owner, organization, inbox):
    for _ in range(exports.MAX_KEPT + 2):
        exports.request(by=membership(owner, organization))
    assert Export.objects.count() == exports.MAX_KEPT
    assert len(default_storage.listdir("exports")[1]) == exports.MAX_KEPT


def test_what_a_killed_worker_left_is_begun_again_and_finished_once(owner, organization, monkeypatch):
    export = exports.request(by=membership(owner, organization))
    monkeypatch.setattr(exporting, "TOUCH_EVERY", 1)
    left = exporting._claim(export.id)
    assert left is not None
    assert not exporting.write(export.id)  # somebody is at it
    with time_machine.travel(timezone.now() + exporting.STALE + timedelta(seconds=1)):
        assert exporting.write(export.id)
    with pytest.raises(exporting.Taken):
        exporting._fill(BytesIO(), left)  # it wasn't dead, only slow
    assert made(organization).state == Export.State.READY
    assert not exporting.write(export.id)


@pytest.mark.parametrize("place", ["rows", "file"])
def test_a_worker_that_is_slow_says_that_it_is_there(owner, organization, monkeypatch, place):
    """Else another begins anew after a minute, and what takes longer never gets done."""
    export = exports.request(by=membership(owner, organization))
    with time_machine.travel(timezone.now(), tick=False) as clock:

        def rows(_: object) -> Iterator[dict[str, Any]]:
            for _ in range(8):
                if place == "rows":
                    clock.shift(timedelta(seconds=10))
                    assert not exporting.claimable().exists()
                yield {"long": secrets.token_hex(40_000)}

        def save(name: str, content: Any) -> str:
            for _ in content.chunks():
                clock.shift(timedelta(seconds=50))
                assert not exporting.claimable().exists()
            return name

        monkeypatch.setattr(exporting, "_sources", {"rows": rows})
        if place == "file":
            monkeypatch.setattr(exporting, "default_storage", SimpleNamespace(save=save))
        assert exporting.write(export.id)


def test_one_that_no_worker_gets_done_is_given_up(owner, organization):
    export = exports.request(by=membership(owner, organization))
    with time_machine.travel(timezone.now() + exports.GIVE_UP + timedelta(seconds=1)):
        exports.sweep()
        assert made(organization).state == Export.State.FAILED
        assert exports.request(by=membership(owner, organization)) != export


def test_files_that_no_row_names_go(owner, organization, inbox):
    assert exporting.drop_litter() == 0
    exports.request(by=membership(owner, organization))
    default_storage.save("exports/of-a-killed-worker.zip", ContentFile(b"PK"))
    tasks.drop_export_litter()  # it may still be written
    assert len(default_storage.listdir("exports")[1]) == 2
    with time_machine.travel(timezone.now() + exporting.LITTER + timedelta(minutes=1)):
        tasks.drop_export_litter()
    assert [f"exports/{name}" for name in default_storage.listdir("exports")[1]] == [made(organization).file]


def test_the_sweeper_hands_out_what_waits(owner, organization, monkeypatch):
    export = exports.request(by=membership(owner, organization))
    told = []
    monkeypatch.setattr("helixflow.lib.tasks.nudge", lambda task, *args: told.append(args))
    exports.sweep()
    assert told == [(str(export.id),)]


def test_a_fault_is_said_on_the_page(owner, organization, monkeypatch):
    export = exports.request(by=membership(owner, organization))
    monkeypatch.setattr(default_storage, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.make_export(str(export.id))
    assert "Failed" in text_of(signed_in(owner).get(URL))
    monkeypatch.undo()
    assert exports.request(by=membership(owner, organization)) != export


def test_after_seven_days_it_is_gone_with_its_file(owner, organization, inbox):
    exports.request(by=membership(owner, organization))
    export = made(organization)
    with time_machine.travel(timezone.now() + timedelta(days=7, seconds=1)):
        with pytest.raises(errors.NotFound):
            exports.open_file(by=membership(owner, organization), export=export)
        exports.sweep()
    assert not Export.objects.exists()
    assert default_storage.listdir("exports")[1] == []


def test_long_tables_are_read_in_pieces(organization, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(exporting, "CHUNK", 2)
    for number in range(5):
        factories.user(f"person{number}", organization=organization)
    rows = organization.memberships.all()
    known = sorted(rows.values_list("id", flat=True))
    with django_assert_num_queries(4):
        assert [row.id for row in exporting.rows_of(rows)] == known
