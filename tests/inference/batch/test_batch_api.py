"""``/v1/batches``: what may be asked for, who may, and what is answered. Nobody works on the batches here."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from billing.admission import snapshots
from inference import catalogue
from inference.batch import batches, files, lines, pieces
from inference.batch_models import Batch, BatchLane, Operation, Purpose, StoredFile
from tests import factories
from tests.inference.batch import rows

URL = "/v1/batches"
CHAT = rows.CHAT


@pytest.fixture(autouse=True)
def _platform(settings, tmp_path, db):
    """A model that nobody asks, and files that are gone afterwards."""
    settings.MEDIA_ROOT = tmp_path
    snapshots.cache.clear()
    factories.deploy("http://127.0.0.1:9/v1")
    yield
    snapshots.cache.clear()
    catalogue.keeper.forget()


def credentials(user):
    """One key of the user's, and a client that has it."""
    organization = user.memberships.get().organization
    key, token = api_keys.create(organization=organization, user=user, name="CI")
    return key, Client(headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def key_and_caller(organization, owner):
    return credentials(owner)


@pytest.fixture
def key(key_and_caller):
    return key_and_caller[0]


@pytest.fixture
def caller(key_and_caller):
    return key_and_caller[1]


def post(caller, body, url=URL, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return caller.post(url, raw, content_type="application/json", headers=headers)


def error_of(answer, status=400):
    assert answer.status_code == status, answer.content
    return answer.json()["error"]


def test_a_list_of_requests_becomes_a_file_and_a_batch_of_it(caller, key):
    first, second = CHAT | {"custom_id": "mine", "temperature": 0.5}, CHAT
    answer = post(caller, {"requests": [first, second], "metadata": {"for": "tests"}})
    made = answer.json()
    batch = Batch.objects.get()
    file = files.get(key.organization_id, made["input_file_id"])
    assert [lines.parse(line, 1, Operation.CHAT) for line in files.lines(file)] == [
        lines.Line("mine", CHAT["model"], json.dumps(CHAT | {"temperature": 0.5}, separators=(",", ":")).encode()),
        lines.Line("request-2", CHAT["model"], json.dumps(CHAT, separators=(",", ":")).encode()),
    ]
    created = int(batch.created_at.timestamp())
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    assert made == {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": file.public_id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": created,
        "expires_at": created + 24 * 3600,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": {"for": "tests"},
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        "cost": "0.00",
        "currency": "USD",
        "retry_of": None,
        "waits_for": None,
        "waits_until": None,
    } | {f"{name}_at": None for name in times}
    assert batch.api_key == key
    assert BatchLane.objects.get().due_at is not None  # somebody is to work on it
    assert "X-RateLimit-Limit" in answer.headers


def test_a_file_becomes_a_batch(caller, key):
    file = rows.file(key)
    body = {"input_file_id": file.public_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    made = post(caller, body).json()
    assert (made["input_file_id"], made["endpoint"], made["metadata"]) == (file.public_id, "/v1/embeddings", None)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"", None, "is empty"),
        (b"[]", None, "must be a JSON object"),
        (b'{"requests": [', None, "not valid JSON"),
        (b"[" * 100_000, None, ""),
        ({}, "requests", "input_file_id"),
        ({"requests": None}, "requests", "input_file_id"),
        ({"requests": []}, "requests", "give at least one"),
        ({"requests": {}}, "requests", "must be an array"),
        ({"requests": [CHAT] * 1_001}, "requests", "/v1/files"),
        ({"requests": [CHAT], "input_file_id": "file-x"}, "input_file_id", "not both"),
        ({"requests": [CHAT], "endpoint": "/v1/models"}, "endpoint", "must be one of /v1/chat/completions"),
        ({"requests": [CHAT], "endpoint": "/v1/embeddings"}, "requests[0].messages", "Unknown parameter"),
        ({"requests": [CHAT], "completion_window": "1h"}, "completion_window", "24h"),
        ({"requests": [CHAT], "api_key_id": "key_x"}, "api_key_id", "Unknown parameter"),
        ({"requests": [CHAT], "metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
        ({"requests": [CHAT], "metadata": {"k" * 65: ""}}, "metadata", "at most 64"),
        ({"requests": [CHAT], "metadata": {"k": "v" * 513}}, "metadata", "at most 512"),
        ({"requests": [CHAT], "metadata": {"k": "\0"}}, "metadata", "not allowed"),
        ({"requests": [CHAT], "metadata": {"k": 1}}, "metadata", "Each value in metadata must be a string, not an"),
        ({"input_file_id": "file-x"}, "endpoint", "is required"),
        ({"requests": [CHAT | {"model": "gpt-99"}]}, "requests[0].model", "does not exist"),
        ({"requests": [CHAT, CHAT | {"stream": True}]}, "requests[1].stream", "not streamed"),
        ({"requests": [CHAT | {"custom_id": "request-2"}, CHAT]}, "requests[1].custom_id", "requests[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",  # some bodies are long
)
def test_a_bad_body_is_refused_with_what_to_do(caller, body, param, says):
    error = error_of(post(caller, body))
    assert error["param"] == param
    assert says in error["message"]
    assert not Batch.objects.exists()
    assert not StoredFile.objects.exists()


def test_every_bad_request_is_named(caller):
    bad = [CHAT | {"temperature": 3}, CHAT, 7, CHAT | {"model": "gpt-99"}]
    error = error_of(post(caller, {"requests": bad}))
    assert set(error["details"]) == {"requests[0].temperature", "requests[2]", "requests[3].model"}
    assert "2 more are wrong" in error["message"]
    error = error_of(post(caller, {"requests": [7] * 1_000}))
    assert len(error["details"]) == 100
    assert "999 more" in error["message"]


def test_a_model_that_the_key_may_not_use_is_refused(organization, owner):
    _, token = api_keys.create(organization=organization, user=owner, name="limited", models=["gpt-4"])
    limited = Client(headers={"Authorization": f"Bearer {token}"})
    error = error_of(post(limited, {"requests": [CHAT]}))
    assert "may not use this model" in error["details"]["requests[0].model"]


def test_a_model_that_does_not_do_what_the_batch_asks_is_refused(caller):
    factories.deploy("http://127.0.0.1:9/v1", name="second", model="claude", kind="anthropic")
    body = {"requests": [{"model": "claude", "input": "x"}], "endpoint": "/v1/embeddings"}
    assert "does not do embeddings" in error_of(post(caller, body))["message"]


def test_a_file_that_is_not_there_is_not_found(caller, key, outsider):
    foreign = rows.file(credentials(outsider)[0])
    expired = rows.file(key)
    StoredFile.objects.filter(id=expired.id).update(expires_at=timezone.now())
    for file_id in (foreign.public_id, expired.public_id, "file-x", "batch_x"):
        error = error_of(post(caller, {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}), 404)
        assert error["param"] == "input_file_id"
    output = rows.file(key, purpose=Purpose.BATCH_OUTPUT)
    error = error_of(post(caller, {"input_file_id": output.public_id, "endpoint": "/v1/chat/completions"}))
    assert "purpose" in error["message"]


def test_an_organization_has_so_many_open_batches_at_most(caller, key, monkeypatch):
    monkeypatch.setattr(batches, "MOST_OPEN", 2)
    rows.batch(key, [200])
    rows.batch(key, [None])
    assert post(caller, {"requests": [CHAT]}).status_code == 200
    assert "wait for one of them" in error_of(post(caller, {"requests": [CHAT]}))["message"]
    assert StoredFile.objects.count() == 1


def test_the_same_idempotency_key_makes_one_batch(caller, owner):
    body = {"requests": [CHAT]}
    first = post(caller, body, **{"Idempotency-Key": "auto-1"}).json()
    assert post(caller, body, **{"Idempotency-Key": "auto-1"}).json() == first
    error = error_of(post(caller, {"requests": [CHAT, CHAT]}, **{"Idempotency-Key": "auto-1"}))
    assert error["param"] == "Idempotency-Key"
    error_of(post(caller, body, **{"Idempotency-Key": "x" * 256}))
    assert StoredFile.objects.count() == 1
    others = [post(caller, body, **{"Idempotency-Key": "auto-2"}), post(credentials(owner)[1], body)]
    assert len({first["id"], *(other.json()["id"] for other in others)}) == 3


@pytest.mark.django_db(transaction=True)
def test_the_same_idempotency_key_at_once_makes_one_batch(caller):
    def make(_):
        try:
            return post(caller, {"requests": [CHAT]}, **{"Idempotency-Key": "auto-1"}).json()["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        made = set(threads.map(make, range(4)))
    assert len(made) == Batch.objects.count() == StoredFile.objects.count() == 1


def test_a_batch_of_one_organization_is_nobody_elses(key, owner, outsider):
    batch = rows.batch(key, [None])
    _, foreign = credentials(outsider)
    _, second_key = credentials(owner)
    for path in ("", "/results"):
        assert error_of(foreign.get(f"{URL}/{batch.public_id}{path}"), 404)["code"] == "invalid_request"
        assert second_key.get(f"{URL}/{batch.public_id}{path}").status_code == 200  # another key of the organization
    for path in ("cancel", "retry"):
        error_of(post(foreign, b"", f"{URL}/{batch.public_id}/{path}"), 404)
    assert foreign.get(URL).json()["data"] == []
    for wrong in ("batch_x", batch.public_id[:-1], key.public_id, str(batch.id)):
        error_of(second_key.get(f"{URL}/{wrong}"), 404)
    assert Client().get(f"{URL}/{batch.public_id}").status_code == 401


def test_a_disabled_organization_makes_no_batches(caller, organization):
    organization.disabled_at = timezone.now()
    organization.save()
    error_of(post(caller, {"requests": [CHAT]}), 403)


def test_lists_are_paged_as_openai_pages_them(caller, key):
    made = [rows.batch(key, [200]).public_id for _ in range(3)]
    page = caller.get(URL, {"limit": 2}).json()
    assert [each["id"] for each in page["data"]] == made[:0:-1]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", made[2], made[1], True)
    rest = caller.get(URL, {"limit": "2", "after": page["last_id"]}).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (made[:1], False)
    empty = caller.get(URL, {"after": made[0]}).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for query in ("limit=0", "limit=101", "limit=x", "limit=-1", "after=x", "page=2", "limit=1&limit=2"):
        assert error_of(caller.get(f"{URL}?{query}"))["param"] in {"limit", "after", "page"}


def test_asking_how_far_a_batch_is_reads_one_row(caller, key, django_assert_num_queries):
    file = rows.file(key)
    now = timezone.now()
    batch = rows.batch(
        key,
        [200, 400, None],
        prompt_tokens=20,
        completion_tokens=7,
        cost=Decimal("0.00125"),
        waits_for="rate_limit",
        waits_until=now,
        in_progress_at=now,
        input_file_id=file.id,
        retry_of=rows.batch(key, [400]),
    )
    caller.get(f"{URL}/{batch.public_id}")
    with django_assert_num_queries(1):
        told = caller.get(f"{URL}/{batch.public_id}").json()
    assert told["status"] == "in_progress"
    assert told["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"], told["usage"]["total_tokens"]) == (20, 7, 27)
    assert (told["cost"], told["retry_of"]) == ("0.00125", Batch.objects.earliest("id").public_id)
    assert (told["waits_for"], told["waits_until"], told["in_progress_at"]) == (
        "rate_limit",
        *[int(now.timestamp())] * 2,
    )


def test_the_errors_of_its_file_are_listed_as_openai_lists_them(caller, key):
    error = {"code": "invalid_line", "message": "method must be POST.", "param": "method", "line": 3}
    batch = rows.batch(key, status="failed", errors=[error])
    assert caller.get(f"{URL}/{batch.public_id}").json()["errors"] == {"object": "list", "data": [error]}
    assert caller.get(f"{URL}/{batch.public_id}/results").json()["data"] == []


def test_results_come_in_the_order_of_the_requests(caller, key):
    batch = rows.batch(key, [200, None, 400, "insufficient_quota", 200])
    url = f"{URL}/{batch.public_id}/results"
    page = caller.get(url).json()
    assert [each["custom_id"] for each in page["data"]] == ["request-1", "request-3", "request-4", "request-5"]
    head = f"batch_req_{batch.public_id.removeprefix('batch_')}_"
    good, refused, never = page["data"][:3]
    answer = {"status_code": 200, "request_id": "req_0", "body": {"choices": [], "seed": 0}}
    assert good == {"id": f"{head}0", "custom_id": "request-1", "response": answer, "error": None}
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["message"] == "2 is refused."
    assert refused["error"] == {"code": "invalid_request", "message": "2 is refused."}
    assert (never["response"], never["error"]["code"]) == (None, "insufficient_quota")
    assert "quota" in never["error"]["message"]
    first = caller.get(url, {"limit": 2}).json()
    assert (first["first_id"], first["last_id"], first["has_more"]) == (f"{head}0", f"{head}2", True)
    rest = caller.get(url, {"limit": 2, "after": first["last_id"]}).json()
    assert (first["data"] + rest["data"], rest["has_more"]) == (page["data"], False)
    for query in ("limit=0", "limit=1001", f"after={head}", f"after={batch.public_id}", f"after={head}1x", "x=1"):
        error_of(caller.get(f"{url}?{query}"))


def test_a_page_of_results_ends_where_it_gets_large(caller, key, monkeypatch):
    monkeypatch.setattr("inference.batch_api.MAX_PAGE", 1)
    batch = rows.batch(key, [200] * 3)
    page = caller.get(f"{URL}/{batch.public_id}/results").json()
    assert (len(page["data"]), page["has_more"]) == (1, True)


def test_results_that_were_deleted_are_not_found(caller, key):
    batch = rows.batch(key, [200, 400])
    batch.items.all().delete()
    assert "30 days" in error_of(caller.get(f"{URL}/{batch.public_id}/results"), 404)["message"]
    assert "30 days" in error_of(post(caller, b"", f"{URL}/{batch.public_id}/retry"))["message"]


def test_an_answer_that_is_damaged_does_not_hide_the_others(caller, key):
    batch = rows.batch(key, [200, 200])
    batch.items.filter(position=0).update(answer=b"damaged")
    damaged, good = caller.get(f"{URL}/{batch.public_id}/results").json()["data"]
    assert (damaged["response"], damaged["error"]["code"]) == (None, "server_error")
    assert good["response"]["body"]["seed"] == 1


def test_a_batch_is_cancelled_once_and_its_end_is_the_engines(caller, key):
    batch = rows.batch(key, [200, None])
    url = f"{URL}/{batch.public_id}/cancel"
    told = post(caller, b"", url).json()
    assert (told["status"], told["cancelling_at"] is not None) == ("cancelling", True)
    assert BatchLane.objects.get().due_at is not None
    assert post(caller, b"", url).json() == told
    for ended in ("completed", "failed", "expired", "finalizing"):
        error_of(post(caller, b"", f"{URL}/{rows.batch(key, [200], status=ended).public_id}/cancel"))


def test_what_failed_is_tried_again_in_a_batch_of_its_own(caller, key, monkeypatch):
    monkeypatch.setattr(pieces, "MOST", 2)
    outcomes: list[int | str | None] = [400, 200, "batch_expired", 503, 200]
    batch = rows.batch(key, outcomes, status="expired", metadata={"for": "tests"})
    url = f"{URL}/{batch.public_id}/retry"
    told = post(caller, b"", url, **{"Idempotency-Key": "auto-1"}).json()
    assert (told["status"], told["retry_of"], told["metadata"]) == ("validating", batch.public_id, {"for": "tests"})
    content = files.lines(files.get(key.organization_id, told["input_file_id"]))
    found = [lines.parse(line, 1, Operation.CHAT) for line in content]
    assert [(each.custom_id, json.loads(each.body)["seed"]) for each in found] == [
        ("request-1", 0),
        ("request-3", 2),
        ("request-4", 3),
    ]
    assert post(caller, b"", url, **{"Idempotency-Key": "auto-1"}).json() == told
    refused: list[tuple[list[int | str | None], str]] = [
        ([200], "completed"),
        ([400, None], "in_progress"),
        ([], "failed"),
    ]
    for those, status in refused:
        other = rows.batch(key, those, status=status)
        error_of(post(caller, b"", f"{URL}/{other.public_id}/retry"))
