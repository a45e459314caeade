"""What is uploaded is looked at line by line: each bad one is named, and then nothing is stored."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Organization, User
from helixflow.lib import errors
from inference.batch import files, lines, uploads
from inference.batch_models import StoredFile

URL = "/v1/chat/completions"


def line(name: str = "a", /, **changes: Any) -> bytes:
    whole = {"custom_id": name, "method": "POST", "url": URL, "body": {"model": "gpt-4"}} | changes
    return json.dumps({field: value for field, value in whole.items() if value is not None}).encode()


def looked_at(contents: bytes, *, piece: int = 1 << 16) -> int:
    check = uploads.LineCheck()
    for start in range(0, len(contents), piece):
        check.feed(contents[start : start + piece])
    return check.end()


@pytest.mark.parametrize(
    ("contents", "count"),
    [
        (line(), 1),
        (line() + b"\n", 1),
        (line() + b"\r\n" + line("b") + b"\r\n\r\n  \n", 2),
        (b"\xef\xbb\xbf" + line("é ") + b"\n" + line("b", url="/v1/embeddings"), 2),
        (b"".join(line(str(number)) + b"\n" for number in range(300)), 300),
    ],
)
def test_good_files(contents: bytes, count: int) -> None:
    assert looked_at(contents) == looked_at(contents, piece=3) == count


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (line("b", custom_id=None), "custom_id"),
        (line("b", custom_id=7), "custom_id"),
        (line(""), "custom_id"),
        (line("x" * 513), "custom_id"),
        (line("nul\0"), "custom_id"),
        (line("a"), "that of line 1"),
        (line("b", method="GET"), "method"),
        (line("b", url="/v1/images"), "url must be one of /v1/chat/completions"),
        (line("b", url=None), "url"),
        (line("b", body=None), "body"),
        (line("b", body=[]), "body must be an object"),
        (line("b", priority=1), "priority"),
        (line("b", body={"x": "?"}).replace(b"?", b"\xff"), "UTF-8"),
        (b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/embeddings", "body": {}}', "not valid JSON"),
        (b"[" * 100_000, ""),
        (b"\0" * 30, "not valid JSON"),
        (b"", "empty: remove it"),
    ],
)
def test_a_bad_line_is_named(second: bytes, problem: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="line 2: ") as caught:
        looked_at(line() + b"\n" + second + b"\n" + line("c"), piece=1000)
    assert list(caught.value.details) == ["line 2"]
    assert problem in caught.value.details["line 2"]


def test_a_line_is_as_long_as_a_body_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_BYTES", 1000)
    fits = line("b", body={"x": "y" * (1000 - len(line("b", body={"x": ""})))})
    assert looked_at(line() + b"\n" + fits, piece=7) == 2
    for piece in (7, 100_000):
        with pytest.raises(errors.InvalidRequest, match="line 2: A line may have at most 1000 bytes"):
            looked_at(line() + b"\n" + b" " * 5000 + fits + b"  x" * 9000 + b"\n" + line("c"), piece=piece)


def test_many_bad_lines_are_counted() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"150 lines are not right\. The first is line 1: ") as caught:
        looked_at(b"{}\n" * 150)
    named = caught.value.details
    assert [*named][:2] == ["line 1", "line 2"]
    assert len(named) == 101
    assert named["more"] == "50 more lines are not right."


@pytest.mark.parametrize("contents", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(contents: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="empty"):
        looked_at(contents)


@pytest.mark.parametrize("beginning", uploads.OTHER_FORMATS)
def test_other_formats_are_told_at_once(beginning: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"Upload the JSONL file itself|UTF-8"):
        uploads.LineCheck().feed(beginning + b"anything")


def test_what_is_too_much_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_LINES", 3)
    check = uploads.LineCheck()
    check.feed(b"".join(line(name) + b"\n" for name in "abc"))
    with pytest.raises(errors.InvalidRequest, match="at most 3 lines"):
        check.feed(line("d") + b"\n")
    monkeypatch.setattr(uploads, "MAX_BYTES", 300)
    with pytest.raises(errors.BodyTooLarge, match="200 MB"):
        uploads.LineCheck().feed(b" " * 301)


BOUNDARY = "limit"
PURPOSE = ("purpose", None, b"batch")
FILE = ("file", "a.jsonl", line())


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    made = b""
    for name, filename, contents in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        made += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + contents
        made += b"\r\n"
    return made + f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def receive(organization: Organization, owner: User, settings: Any, tmp_path: Path) -> Any:
    settings.MEDIA_ROOT = tmp_path

    def receive(body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> StoredFile:
        meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
        return uploads.receive(io.BytesIO(body), meta, organization.id, None)

    return receive


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a.jsonl", "a.jsonl"),
        (r"..\..\C:\dir/../été.jsonl", "été.jsonl"),
        (r"a\"b\".jsonl", 'a"b".jsonl'),
        ("a\0\tb\x1b.jsonl", "ab.jsonl"),
        ("x" * 300 + ".jsonl", "x" * 249 + ".jsonl"),
        ("x" * 300, "x" * 255),
    ],
)
def test_filenames_are_names_only(receive: Any, sent: str, kept: str) -> None:
    file = receive(form(PURPOSE, ("file", sent, line())))
    assert file.filename == kept
    assert list(files.chunks(file)) == [line()]
    assert file.lines == 1


def test_it_may_expire_sooner(receive: Any) -> None:
    anchor, seconds = ("expires_after[anchor]", None, b"created_at"), ("expires_after[seconds]", None, b"3600")
    file = receive(form(FILE, anchor, seconds, PURPOSE))
    assert 3595 < (file.expires_at - file.created_at).total_seconds() < 3605


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ((FILE,), "purpose"),
        ((FILE, ("purpose", None, b"fine-tune")), "purpose"),
        ((FILE, PURPOSE, PURPOSE), "purpose"),
        ((PURPOSE,), "file"),
        ((PURPOSE, ("file", None, line())), "file"),
        ((PURPOSE, ("file", "", line())), "file"),
        ((PURPOSE, FILE, FILE), "file"),
        ((PURPOSE, FILE, ("image", "a.png", b"x")), "image"),
        ((PURPOSE, FILE, ("user", None, b"x")), "user"),
        ((PURPOSE, FILE, ("expires_after[seconds]", None, b"3600")), "expires_after[anchor]"),
        ((PURPOSE, FILE, ("expires_after[anchor]", None, b"created_at")), "expires_after[seconds]"),
        *(
            (
                (
                    PURPOSE,
                    FILE,
                    ("expires_after[anchor]", None, b"created_at"),
                    ("expires_after[seconds]", None, seconds),
                ),
                "expires_after[seconds]",
            )
            for seconds in (b"3599", b"2592001", b"-1", b"1e4", b"9" * 5000)
        ),
    ],
)
def test_a_wrong_form_is_refused_by_name(
    receive: Any, tmp_path: Path, parts: tuple[tuple[str, str | None, bytes], ...], param: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        receive(form(*parts))
    assert list(caught.value.details) == [caught.value.param] == [param]
    assert not StoredFile.objects.exists()
    assert not list(tmp_path.iterdir())


WHOLE = form(PURPOSE, FILE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a form",
        WHOLE[: WHOLE.index(b'"a.jsonl"')],
        WHOLE[:-30],
        WHOLE[:-4],
        form(PURPOSE, ("file", "a.jsonl", b"{")),
        form(PURPOSE, ("x", None, b"x" * 2_000_000), FILE),
        form(*[("x", None, b"x")] * 1100, PURPOSE, FILE),
        form(*[("x", "x", b"x")] * 110, PURPOSE, FILE),
    ],
    ids=["empty", "no form", "cut in a head", "cut in the file", "cut in the end", "bad", "field", "fields", "files"],
)
def test_a_broken_form_is_refused_and_leaves_nothing(receive: Any, tmp_path: Path, body: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        receive(body)
    assert not StoredFile.objects.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content_type", ["", "application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_another_content_type_is_refused(receive: Any, content_type: str) -> None:
    with pytest.raises(errors.UnsupportedMediaType, match="multipart/form-data"):
        receive(WHOLE, content_type)


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=\x01", "; boundary=" + "x" * 300])
def test_a_form_without_a_sensible_boundary_is_refused(receive: Any, boundary: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="boundary"):
        receive(WHOLE, f"multipart/form-data{boundary}")


def test_the_organizations_room_is_kept(receive: Any, settings: Any, tmp_path: Path) -> None:
    settings.FILES_MB = 0
    with pytest.raises(errors.InvalidRequest, match="are free"):
        receive(WHOLE)
    assert not StoredFile.objects.exists()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
