"""/v1/files: OpenAI's objects and paging, for an organization's keys only."""

from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts import api_keys, jwt, sessions
from accounts.models import Organization, User
from billing.admission import snapshots
from helixflow.lib import ids
from inference.batch import files
from inference.batch_models import Purpose, StoredFile
from tests.inference.batch.test_uploads import line

URL = "/v1/files"
Shown = dict[str, Any]


@pytest.fixture(autouse=True)
def _world(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path
    snapshots.cache.clear()


def caller(user: User) -> Client:
    organization = user.memberships.get().organization
    _, key = api_keys.create(organization=organization, user=user, name="CI")
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def api(organization: Organization, owner: User) -> Client:
    return caller(owner)


def upload(api: Client, contents: bytes = line(), name: str = "a.jsonl", **fields: Any) -> Any:
    return api.post(URL, {"purpose": "batch", "file": SimpleUploadedFile(name, contents)} | fields)


def test_the_life_of_a_file(api: Client, organization: Organization) -> None:
    contents = line() + b"\r\n" + line("b")
    answer = upload(api, contents, 'été "1".jsonl')
    file = answer.json()
    row = StoredFile.objects.get()
    assert (answer.status_code, answer["X-RateLimit-Remaining"]) == (200, "100")
    assert file == {
        "id": row.public_id,
        "object": "file",
        "bytes": len(contents),
        "created_at": int(row.created_at.timestamp()),
        "expires_at": int(row.created_at.timestamp()) + 30 * 24 * 3600,
        "filename": 'été "1".jsonl',
        "purpose": "batch",
        "status": "processed",
    }
    assert row.organization == organization
    assert row.lines == 2
    assert api.get(f"{URL}/{file['id']}").json() == file
    assert api.get(URL).json() == {
        "object": "list",
        "data": [file],
        "first_id": file["id"],
        "last_id": file["id"],
        "has_more": False,
    }

    content = api.get(f"{URL}/{file['id']}/content")
    assert content.getvalue() == contents
    assert content["Content-Length"] == str(len(contents))
    assert content["Content-Type"] == "application/jsonl"
    assert content["Content-Disposition"] == "attachment; filename*=utf-8''%C3%A9t%C3%A9%20%221%22.jsonl"

    gone = api.delete(f"{URL}/{file['id']}")
    assert (gone.status_code, gone.json()) == (200, {"id": file["id"], "object": "file", "deleted": True})
    assert api.get(f"{URL}/{file['id']}").status_code == 404


def test_another_organization_finds_nothing(api: Client, outsider: User) -> None:
    file = upload(api).json()
    stranger = caller(outsider)
    assert stranger.get(URL).json()["data"] == []
    for path in (file["id"], f"{file['id']}/content"):
        assert stranger.get(f"{URL}/{path}").status_code == 404
    assert stranger.delete(f"{URL}/{file['id']}").status_code == 404
    assert api.get(f"{URL}/{file['id']}").status_code == 200


def test_credentials_are_required_and_a_login_is_none(api: Client, owner: User) -> None:
    file_id = upload(api).json()["id"]
    token = jwt.access_token(sessions.start(user=owner, address="127.0.0.1", user_agent="tests"))
    for client in (Client(), Client(headers={"Authorization": f"Bearer {token}"})):
        answers = [client.get(f"{URL}{path}") for path in ("", f"/{file_id}", f"/{file_id}/content")]
        answers += [upload(client), client.delete(f"{URL}/{file_id}")]
        assert {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("path", ["file-nonsense", "file-" + "0" * 22, "batch_x", "%00", "file-é"])
def test_what_is_no_file_is_not_found(api: Client, path: str) -> None:
    for whole in (path, f"{path}/content"):
        answer = api.get(f"{URL}/{whole}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_request")


def test_bad_lines_are_named_and_nothing_is_kept(api: Client, tmp_path: Path) -> None:
    answer = upload(api, line() + b"\n{\n" + line("c") + b"\n" + line("a"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_request")
    assert error["message"].startswith("2 lines are not right. The first is line 2: ")
    assert list(error["details"]) == ["line 2", "line 4"]
    assert not StoredFile.objects.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{}", "application/json", 415),
        ("purpose=batch", "application/x-www-form-urlencoded", 415),
        ("", "multipart/form-data; boundary=x", 400),
        ("--x", "multipart/form-data", 400),
    ],
)
def test_other_bodies_are_refused(api: Client, body: str, content_type: str, status: int) -> None:
    answer = api.generic("POST", URL, body, content_type)
    assert answer.status_code == status
    assert "multipart" in answer.json()["error"]["message"]


def make(organization: Organization, count: int, purpose: Purpose = Purpose.BATCH) -> list[str]:
    """Rows only, oldest first."""
    rows = [
        StoredFile(
            organization=organization,
            purpose=purpose,
            filename="x",
            size_bytes=1,
            lines=1,
            name=str(ids.uuid7()),
            expires_at=timezone.now() + files.LIFETIME,
        )
        for _ in range(count)
    ]
    return sorted(row.public_id for row in StoredFile.objects.bulk_create(rows))


def listed(api: Client, **query: Any) -> Shown:
    answer: Shown = api.get(URL, query).json()
    answer["data"] = [file["id"] for file in answer["data"]]
    return answer


def test_pages(api: Client, organization: Organization) -> None:
    made = make(organization, 5)
    first = listed(api, limit=2)
    assert first["data"] == [made[4], made[3]] == [first["first_id"], first["last_id"]]
    assert first["has_more"] is True
    last = listed(api, limit=3, after=first["last_id"])
    assert (last["data"], last["has_more"]) == ([made[2], made[1], made[0]], False)
    assert listed(api, order="asc", after=made[2])["data"] == made[3:]
    assert listed(api, after=made[0]) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_a_page_has_a_thousand_whatever_is_asked(api: Client, organization: Organization) -> None:
    make(organization, 1001)
    for query in ({}, {"limit": 10_000}):
        page = listed(api, **query)
        assert (len(page["data"]), page["has_more"]) == (1000, True)


def test_files_are_listed_by_purpose_until_they_expire(api: Client, organization: Organization) -> None:
    [output] = make(organization, 1, Purpose.BATCH_OUTPUT)
    make(organization, 1)
    assert listed(api, purpose="batch_output")["data"] == [output]
    assert listed(api, purpose="fine-tune")["data"] == []
    with time_machine.travel(timezone.now() + files.LIFETIME):
        assert listed(api)["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "10001"},
        {"limit": "many"},
        {"limit": "9" * 5000},
        {"after": "x"},
        {"order": "up"},
        {"purpose": "nul\0"},
        {"page": "2"},
    ],
)
def test_bad_queries_are_refused_by_name(api: Client, query: dict[str, str]) -> None:
    answer = api.get(URL, query)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["details"]) == list(query)


def test_contents_that_are_lost_are_told(api: Client) -> None:
    file = upload(api).json()
    default_storage.delete(StoredFile.objects.get().name)
    answer = api.get(f"{URL}/{file['id']}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_request")


def test_a_storage_that_is_away_is_503(api: Client, settings: Any, tmp_path: Path) -> None:
    (tmp_path / files.FOLDER).write_text("no folder")
    answer = upload(api)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert not StoredFile.objects.exists()
