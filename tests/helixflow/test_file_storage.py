"""Files on the disk or in S3, by one address; and S3 itself, as a server that speaks its language plays it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from moto.server import ThreadedMotoServer

from accounts import exporting, exports
from accounts.models import Export, Organization, User
from helixflow.lib import errors, file_storage
from inference.batch import files
from inference.batch_models import Purpose, StoredFile
from tests import tree

KEYS = ("AKIDEXAMPLE", "a-secret-key")


def options(url: str, *keys: str) -> dict[str, Any]:
    found: dict[str, Any] = file_storage.parse(url, *keys)["OPTIONS"]
    return found


def test_without_an_address_files_stay_on_the_disk() -> None:
    assert file_storage.parse("") == {"BACKEND": "django.core.files.storage.FileSystemStorage"}


def test_an_address_names_bucket_folder_region_and_server() -> None:
    assert options("s3://files/helix/flow/?region=eu-central-1") == {
        "bucket_name": "files",
        "location": "helix/flow",
        "region_name": "eu-central-1",
        "endpoint_url": None,
        "addressing_style": "virtual",
    }
    own = options("s3://my.files?endpoint=https://s3.example.com:9000", *KEYS)
    assert (own["endpoint_url"], own["addressing_style"], own["location"]) == (
        "https://s3.example.com:9000",
        "path",
        "",
    )
    assert (own["access_key"], own["secret_key"], own["security_token"]) == (*KEYS, None)
    assert options("s3://b?endpoint=https://s3.example.com&addressing=virtual")["addressing_style"] == "virtual"


@pytest.mark.parametrize(
    ("url", "keys", "complaint"),
    [
        ("/var/files", (), "must read s3://bucket/prefix"),
        ("s3:///prefix", (), "must read s3://bucket/prefix"),
        ("s3://key:word@bucket", (), "must read s3://bucket/prefix"),
        ("s3://bucket?regoin=x", (), "unknown parameter regoin"),
        ("s3://bucket?region=", (), "once, with a value"),
        ("s3://bucket?region=a&region=b", (), "once, with a value"),
        ("s3://bucket?addressing=dns", (), "addressing must be"),
        ("s3://bucket?endpoint=s3.example.com", (), "endpoint must be"),
        ("s3://bucket?endpoint=https://me:word@s3.example.com", (), "endpoint must be"),
        ("s3://bucket", ("key", ""), "must be set together"),
        ("", KEYS, "needs HELIXFLOW_FILES_URL"),
    ],
)
def test_nonsense_is_refused_without_repeating_secrets(url: str, keys: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint) as caught:
        file_storage.parse(url, *keys)
    assert "word" not in str(caught.value)


def test_boto3_is_loaded_by_the_first_file_only() -> None:
    script = (
        "import sys, helixflow.asgi; from django.conf import settings; "
        "from django.core.files.storage import default_storage; "
        "assert settings.STORAGES['default']['OPTIONS']['access_key'] == 'key'; "
        "assert not {'boto3', 'storages'} & set(sys.modules); default_storage.listdir; assert 'boto3' in sys.modules"
    )
    environment = {"HELIXFLOW_FILES_URL": "s3://bucket?region=eu-central-1"}
    keys = {"HELIXFLOW_FILES_ACCESS_KEY": "key", "HELIXFLOW_FILES_SECRET_KEY": "secret"}
    subprocess.run(
        [sys.executable, "-c", script], cwd=tree.ROOT, env=os.environ | environment | keys, timeout=60, check=True
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server: str, settings: Any) -> Any:
    settings.STORAGES = settings.STORAGES | {
        "default": file_storage.parse(f"s3://files/kept?endpoint={server}&region=eu-central-1", *KEYS)
    }
    resource = boto3.resource(
        "s3",
        endpoint_url=server,
        region_name="eu-central-1",
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )
    made = resource.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield made
    made.objects.all().delete()
    made.delete()


def keys_in(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


@pytest.mark.django_db(transaction=True)
def test_a_file_of_several_parts_lives_in_the_bucket(bucket: Any, organization: Organization) -> None:
    line = b'{"custom_id": "what they ask"}' + b" " * 970 + b"\n"
    with files.new(organization.id, None, "a.jsonl", Purpose.BATCH) as writer:
        for _ in range(20_000):
            writer.write(line)
        file = writer.close()
    assert file.size_bytes > 16 * 1024 * 1024
    assert keys_in(bucket) == [f"kept/{file.name}"]
    assert b"what they ask" not in bucket.Object(f"kept/{file.name}").get()["Body"].read()
    assert sum(1 for each in files.lines(file) if each == line.rstrip()) == 20_000
    assert files.drop_litter() == 0

    files.delete(file)
    assert keys_in(bucket) == []
    with pytest.raises(errors.NotFound):
        files.chunks(file)


def test_nothing_is_written_over(bucket: Any) -> None:
    first = default_storage.save("exports/a.zip", ContentFile(b"first"))
    second = default_storage.save("exports/a.zip", ContentFile(b"second"))
    assert first != second
    with default_storage.open(first) as file:
        assert file.read() == b"first"


def test_what_goes_wrong_while_reading_is_told_as_on_a_disk(bucket: Any) -> None:
    name = default_storage.save("exports/a.zip", ContentFile(b"first"))
    with default_storage.open(name) as file:
        bucket.Object(f"kept/{name}").delete()
        with pytest.raises(OSError, match="the storage: "):
            file.read()


@pytest.mark.django_db(transaction=True)
def test_exports_are_kept_there_too(bucket: Any, organization: Organization, owner: User) -> None:
    membership = organization.memberships.get(user=owner)
    export = Export.objects.create(organization=organization, requested_by=owner)
    assert exporting.write(export.id)
    export.refresh_from_db()
    assert keys_in(bucket) == [f"kept/{export.file}"]
    with exports.open_file(by=membership, export=export) as file:
        assert file.read(2) == b"PK"
    assert exporting.drop_litter() == 0


@pytest.mark.django_db
def test_a_storage_that_refuses_or_is_away_is_503(bucket: Any, organization: Organization, settings: Any) -> None:
    for address in (
        "s3://nowhere?endpoint=" + bucket.meta.client.meta.endpoint_url,
        "s3://b?endpoint=http://127.0.0.1:1",
    ):
        settings.STORAGES = settings.STORAGES | {"default": file_storage.parse(f"{address}&region=eu-central-1", *KEYS)}
        with (
            files.new(organization.id, None, "a.jsonl", Purpose.BATCH) as writer,
            pytest.raises(errors.ServiceUnavailable),
        ):
            writer.close()
    assert not StoredFile.objects.exists()
