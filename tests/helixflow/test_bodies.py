"""Larger bodies at the door: only from known callers, only so many at a time, and whole when they come through."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO

import pytest
from openai import NotFoundError, OpenAI

from accounts import api_keys
from accounts.models import Organization, User
from helixflow.server import bodies
from inference.batch_models import StoredFile
from tests.helixflow.serving import Answer, Raw, Served, get, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/v1/files"
MB = 1_000_000
LINE = json.dumps({"custom_id": "?", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x" * 100_000}})
FORM = (
    b'--limit\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n%b\r\n--limit--\r\n'
)
CHUNKED = "Transfer-Encoding: chunked"
EXPECT = "Expect: 100-continue"


def large_file(count: int = 120) -> bytes:
    """12 MB: more than any other request may have."""
    return "\n".join(LINE.replace("?", str(number)) for number in range(count)).encode()


def head(key: str, *headers: str, path: str = URL) -> bytes:
    credentials = (f"Authorization: Bearer {key}",) if key else ()
    request = get(path, *credentials, "Content-Type: multipart/form-data; boundary=limit", *headers, method="POST")
    return request.replace(b"Host: x", b"Host: localhost")


def error_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


@pytest.fixture
def key(organization: Organization, owner: User) -> str:
    return api_keys.create(organization=organization, user=owner, name="CI")[1]


@pytest.mark.parametrize("announced", ["Content-Length: 200000000", "Content-Length: 9000000000", CHUNKED])
@pytest.mark.parametrize("path", [URL, f"{URL}/", "/v1/batches"])
def test_a_stranger_is_refused_before_the_body(site: Served, announced: str, path: str) -> None:
    unknown, _ = "hflow_" + "a" * 49, "not a key"
    for credential, code in (("", "authentication_failed"), (unknown, "invalid_api_key")):
        with site.connect() as raw:
            raw.send(head(credential, announced, EXPECT, path=path))
            answer = raw.answer()
            assert "100 Continue" not in answer.head
            assert error_of(answer) == (401, code)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_disabled_organization_is_refused_before_the_body(site: Served, key: str, organization: Organization) -> None:
    Organization.objects.filter(id=organization.id).update(disabled_at="2026-01-01T00:00:00Z")
    with site.connect() as raw:
        raw.send(head(key, "Content-Length: 200000000"))
        assert error_of(raw.answer()) == (403, "authorization_failed")


@pytest.mark.parametrize(("path", "length"), [(URL, 202 * 1024 * 1024), ("/v1/batches", 11 * MB)])
def test_what_is_declared_too_large_is_refused_before_the_body(site: Served, key: str, path: str, length: int) -> None:
    with site.connect() as raw:
        raw.send(head(key, f"Content-Length: {length}", path=path))
        answer = raw.answer()
        assert error_of(answer) == (413, "invalid_request")
        assert f"{bodies.LARGER[path]:,} bytes" in answer.json()["error"]["message"]


def test_only_these_addresses_take_more(site: Served, key: str) -> None:
    for request in (
        head(key, "Content-Length: 2000000", path="/v1/models"),
        head(key, "Content-Length: 2000000", path=f"{URL}/file-x"),
        head(key, "Content-Length: 2000000").replace(b"POST", b"PUT"),
    ):
        with site.connect() as raw:
            raw.send(request)
            assert raw.answer().status == 413


def stored(answer: Answer, contents: bytes) -> StoredFile:
    assert (answer.status, answer.json().get("bytes")) == (200, len(contents))
    return StoredFile.objects.get()


def test_a_large_file_arrives_whole_after_a_100(site: Served, key: str) -> None:
    contents = large_file()
    form = FORM % contents
    with site.connect() as raw:
        raw.send(head(key, f"Content-Length: {len(form)}", EXPECT))
        assert raw.line() == b"HTTP/1.1 100 Continue"
        raw.line()
        raw.send(form)
        assert stored(raw.answer(), contents).lines == 120


def test_a_large_file_may_come_in_chunks(site: Served, key: str) -> None:
    contents = large_file()
    with site.connect() as raw:
        raw.send(head(key, CHUNKED))
        form = BytesIO(FORM % contents)
        while piece := form.read(300_000):
            raw.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        raw.send(b"0\r\n\r\n")
        assert stored(raw.answer(), contents).lines == 120


def test_chunks_without_end_are_refused(site: Served, key: str) -> None:
    """Of an address whose limit is soon reached."""
    with site.connect() as raw:
        raw.send(head(key, CHUNKED, path="/v1/batches"))
        raw.push_aside(*[b"100000\r\n" + b" " * 1_048_576 + b"\r\n"] * 12)
        assert error_of(raw.answer()) == (413, "invalid_request")


def test_a_short_body_in_chunks_is_read_too(site: Served, key: str) -> None:
    """Django takes what has no Content-Length for empty."""
    body = b'{"username": "nobody@example.com", "password": "x"}'
    with site.connect() as raw:
        raw.send(
            head("", CHUNKED, path="/v1/auth/login").replace(
                b"multipart/form-data; boundary=limit", b"application/json"
            )
        )
        raw.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert error_of(raw.answer()) == (401, "authentication_failed")


@contextmanager
def uploading(site: Served, key: str) -> Iterator[Raw]:
    """Let in, and slow from then on."""
    with site.connect() as raw:
        raw.send(head(key, "Content-Length: 2000000", EXPECT))
        assert raw.line() == b"HTTP/1.1 100 Continue"
        yield raw


def may_upload(site: Served, key: str) -> bool:
    form = FORM % large_file(11)
    with site.connect() as raw:
        raw.send(head(key, f"Content-Length: {len(form)}"))
        raw.push(form)
        return raw.answer().status == 200


def test_an_organization_uploads_two_at_once_and_holds_up_nobody(site: Served, key: str, outsider: User) -> None:
    _, theirs = api_keys.create(organization=outsider.memberships.get().organization, user=outsider, name="CI")
    with ExitStack() as under_way:
        for _ in range(bodies.OF_ONE):
            under_way.enter_context(uploading(site, key))
        with site.connect() as raw:
            raw.send(head(key, "Content-Length: 2000000"))
            answer = raw.answer()
            assert error_of(answer) == (503, "service_unavailable")
            assert answer.headers["retry-after"] == str(bodies.BUSY_S)
        with uploading(site, theirs):
            pass
    wait_for(lambda: may_upload(site, key))  # the clients have left


def test_the_official_client_s_files(site: Served, key: str) -> None:
    contents = large_file(20)
    with OpenAI(base_url=f"http://localhost:{site.port}/v1", api_key=key, max_retries=5) as client:
        made = client.files.create(
            file=("requests.jsonl", contents),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert (made.filename, made.bytes, made.status, made.purpose) == (
            "requests.jsonl",
            len(contents),
            "processed",
            "batch",
        )
        assert made.expires_at
        assert made.expires_at - made.created_at == 7200
        other = client.files.create(file=contents[:200_000].rpartition(b"\n")[0], purpose="batch")
        assert [file.id for file in client.files.list(limit=1)] == [other.id, made.id]
        assert client.files.retrieve(made.id) == made
        assert client.files.content(made.id).read() == contents
        assert client.files.delete(made.id).deleted is True
        with pytest.raises(NotFoundError):
            client.files.retrieve(made.id)
