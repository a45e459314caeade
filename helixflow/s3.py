"""Files in S3 or a server that speaks like it. Imported by Django when the first file is kept, since boto3 is slow.

Objects are as private as their bucket: no ACL is sent, which many buckets refuse, and nobody is given an address of
one. What goes wrong is an OSError, as with files on a disk.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3Storage

READ_AHEAD: Final = 1024 * 1024  # bytes held of an open file, the rest is on disk
CONNECT_S: Final = 5
READ_S: Final = 30
TRIES: Final = 3

P = ParamSpec("P")
T = TypeVar("T")


def told_as_os_error(method: Callable[P, T]) -> Callable[P, T]:
    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise OSError(f"the storage: {error}") from error

    return called


class _Fetched(File):  # type: ignore[type-arg]  # as below
    """Fetched whole, to a temporary file, by the first ``read``."""

    @told_as_os_error
    def read(self, *size: int) -> bytes:
        return self.file.read(*size)  # type: ignore[no-any-return,union-attr]  # S3File has no types


class S3Files(S3Storage):  # type: ignore[misc]  # django-storages has no types
    def get_default_settings(self) -> dict[str, Any]:
        found: dict[str, Any] = super().get_default_settings()
        return found | {
            "default_acl": None,
            "file_overwrite": False,
            "gzip": False,
            "max_memory_size": READ_AHEAD,
            "querystring_auth": True,
            # One part at a time: with boto3's ten threads a large file would be in memory.
            "transfer_config": TransferConfig(use_threads=False),
        }

    def __init__(self, **given: Any) -> None:
        style = given.pop("addressing_style", "virtual")
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            # Servers that are not AWS's don't know its newer checksums; frames and ZIPs have their own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(client_config=config, **given)

    @told_as_os_error
    def _open(self, name: str, mode: str = "rb") -> File:  # type: ignore[type-arg]  # the stubs' is generic, Django's is not
        """That it is there is known now; it is fetched by whoever reads, and may have more time than whoever opens."""
        return _Fetched(super()._open(name, mode))

    @told_as_os_error
    def _save(self, name: str, content: Any) -> str:
        return super()._save(name, content)  # type: ignore[no-any-return]  # as above

    @told_as_os_error
    def exists(self, name: str) -> bool:
        return super().exists(name)  # type: ignore[no-any-return]  # as above

    @told_as_os_error
    def delete(self, name: str) -> None:
        super().delete(name)

    @told_as_os_error
    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        return super().listdir(name)  # type: ignore[no-any-return]  # as above

    @told_as_os_error
    def size(self, name: str) -> int:
        return super().size(name)  # type: ignore[no-any-return]  # as above

    @told_as_os_error
    def get_modified_time(self, name: str) -> Any:
        return super().get_modified_time(name)
