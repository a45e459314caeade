"""What is written comes back, at every size; and nothing that was changed meanwhile."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization, User
from helixflow.lib import errors, ids
from inference.batch import files, sealing
from inference.batch.files import FRAME, SEALED
from inference.batch_models import Batch, BatchStatus, Purpose, StoredFile

pytestmark = pytest.mark.django_db
HEADER = len(files.HEADER)
NEAR_BORDERS = st.builds(lambda frames, more: max(frames * FRAME + more, 0), st.integers(0, 3), st.integers(-2, 2))


@pytest.fixture(autouse=True)
def _own_files(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def write(organization: Organization, *pieces: bytes, **given: Any) -> StoredFile:
    with files.new(organization.id, None, "requests.jsonl", Purpose.BATCH) as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.close(**given)


def stored(file: StoredFile) -> bytes:
    with default_storage.open(file.name) as stream:
        contents: bytes = stream.read()
    return contents


def replace(file: StoredFile, contents: bytes) -> None:
    default_storage.delete(file.name)
    assert default_storage.save(file.name, ContentFile(contents)) == file.name


def frames(file: StoredFile) -> Iterator[bytes]:
    sealed = stored(file)[HEADER:]
    for start in range(0, len(sealed), SEALED):
        yield sealed[start : start + SEALED]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=NEAR_BORDERS, cuts=st.lists(st.integers(0, 3 * FRAME), max_size=4))
def test_any_size_in_any_pieces_comes_back(organization: Organization, size: int, cuts: list[int]) -> None:
    contents = (b'{"custom_id": "a line"}\n' * (size // 24 + 1))[:size]
    places = sorted({0, size, *(cut for cut in cuts if cut < size)})
    pieces = [contents[start:end] for start, end in pairwise(places)]

    file = write(organization, *pieces)

    assert b"".join(files.chunks(file)) == contents
    assert file.size_bytes == size
    assert file.lines == len(contents.splitlines())
    assert size < 8 or contents[:20] not in stored(file)  # a few bytes are anywhere


@pytest.fixture
def three_frames(organization: Organization) -> StoredFile:
    return write(organization, b"a" * FRAME + b"b" * FRAME + b"c")


def test_a_file_that_lost_its_end_does_not_open(three_frames: StoredFile) -> None:
    whole = stored(three_frames)
    for end in (0, 2, HEADER, HEADER + SEALED, HEADER + 2 * SEALED, HEADER + SEALED + 9, len(whole) - 1):
        replace(three_frames, whole[:end])
        with pytest.raises(sealing.Unopenable):
            list(files.chunks(three_frames))


def test_frames_that_changed_places_do_not_open(three_frames: StoredFile) -> None:
    first, second, last = frames(three_frames)
    for order in ((second, first, last), (first, first, last), (first, last), (last,), (first, second, last, last)):
        replace(three_frames, files.HEADER + b"".join(order))
        with pytest.raises(sealing.Unopenable):
            list(files.chunks(three_frames))


def test_another_files_contents_do_not_open(organization: Organization, three_frames: StoredFile) -> None:
    other = write(organization, b"theirs")
    replace(three_frames, stored(other))
    with pytest.raises(sealing.Unopenable):
        list(files.chunks(three_frames))


def test_lines_come_without_ends_blanks_and_mark(organization: Organization) -> None:
    file = write(organization, b"\xef\xbb", b"\xbffir", b"st\r\nsec\xe2\x80\xa8ond\n", b"third\n\n")
    assert list(files.lines(file)) == [b"first", b"sec\xe2\x80\xa8ond", b"third"]


def test_a_line_may_reach_over_frames(organization: Organization) -> None:
    long = b"x" * (2 * FRAME + 7)
    assert list(files.lines(write(organization, b"a\n" + long + b"\nb"))) == [b"a", long, b"b"]


def test_what_is_not_closed_leaves_nothing(organization: Organization, tmp_path: Path) -> None:
    with files.new(organization.id, None, "x", Purpose.BATCH) as writer:
        writer.write(b"x" * 2 * FRAME)
    assert not StoredFile.objects.exists()
    assert not list(tmp_path.iterdir())


def test_it_is_found_by_its_own_organization_until_it_expires(organization: Organization, outsider: User) -> None:
    file = write(organization, b"{}")
    assert files.get(organization.id, file.public_id) == file
    theirs = outsider.memberships.get().organization_id
    for owner, public_id in ((theirs, file.public_id), (organization.id, "file-x"), (organization.id, str(file.id))):
        with pytest.raises(errors.NotFound):
            files.get(owner, public_id)
    with time_machine.travel(timezone.now() + files.LIFETIME), pytest.raises(errors.NotFound):
        files.get(organization.id, file.public_id)


def test_a_file_without_contents_is_gone(three_frames: StoredFile) -> None:
    default_storage.delete(three_frames.name)
    with pytest.raises(errors.NotFound, match="Upload it again"):
        files.chunks(three_frames)


def test_room_is_the_organizations_and_refusing_leaves_nothing(
    organization: Organization, outsider: User, settings: Any
) -> None:
    settings.FILES_MB = 1
    write(organization, b"x" * 600_000)
    write(outsider.memberships.get().organization, b"x" * 900_000)
    with pytest.raises(errors.InvalidRequest, match=r"0\.4 MB are free"):
        write(organization, b"x" * 600_000, within_room=True)
    assert len(default_storage.listdir(files.FOLDER)[1]) == StoredFile.objects.count() == 2
    write(organization, b"x" * 600_000)  # what a batch has answered is never lost for want of room
    assert files.room(organization.id) == -200_000


def batch_of(file: StoredFile, status: BatchStatus) -> Batch:
    return Batch.objects.create(
        organization_id=file.organization_id,
        operation="/v1/chat/completions",
        status=status,
        input_file_id=file.id,
        sealed_key=sealing.new_key(),
        expires_at=timezone.now() + timedelta(days=1),
    )


@pytest.mark.django_db(transaction=True)
def test_deleting_takes_row_and_contents(three_frames: StoredFile) -> None:
    batch_of(three_frames, BatchStatus.IN_PROGRESS)
    files.delete(three_frames)
    assert not StoredFile.objects.exists()
    assert not default_storage.exists(three_frames.name)


def test_a_file_that_a_batch_is_to_read_stays(three_frames: StoredFile) -> None:
    batch = batch_of(three_frames, BatchStatus.VALIDATING)
    with pytest.raises(errors.InvalidRequest, match=batch.public_id):
        files.delete(three_frames)
    with time_machine.travel(timezone.now() + files.LIFETIME):
        assert files.drop_expired() == 0


@pytest.mark.django_db(transaction=True)
def test_expired_files_are_dropped(organization: Organization) -> None:
    soon = write(organization, b"soon", expires_at=timezone.now() + timedelta(hours=1))
    later = write(organization, b"later")
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert files.drop_expired() == 1
    assert not default_storage.exists(soon.name)
    assert list(files.chunks(later)) == [b"later"]


@pytest.mark.django_db(transaction=True)
def test_an_organization_is_erased_in_pieces(organization: Organization, outsider: User) -> None:
    theirs = write(outsider.memberships.get().organization, b"theirs")
    for _ in range(3):
        write(organization, b"x")
    assert [files.erase(organization.id, 2) for _ in range(3)] == [2, 1, 0]
    assert default_storage.listdir(files.FOLDER)[1] == [theirs.id.hex]


def test_litter_is_what_no_row_names_and_nobody_is_writing(organization: Organization) -> None:
    assert files.drop_litter() == 0  # there is no folder yet
    known = write(organization, b"x")
    litter = default_storage.save(f"{files.FOLDER}/{ids.uuid7().hex}", ContentFile(b"x"))
    foreign = [
        default_storage.save(f"{files.FOLDER}/{name}", ContentFile(b"x")) for name in ("README", uuid.uuid4().hex)
    ]
    assert files.drop_litter() == 0  # it may be in the making
    with time_machine.travel(timezone.now() + files.LITTER + timedelta(minutes=1)):
        assert files.drop_litter() == 1
    assert not default_storage.exists(litter)
    assert default_storage.exists(known.name)
    assert all(default_storage.exists(name) for name in foreign)
