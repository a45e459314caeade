"""Static files are collected under hashed names only when one has changed: that takes seconds, looking does not."""

import hashlib
from pathlib import Path
from typing import Final

import django
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

STAMP: Final = ".collected"


def collect() -> None:
    stamp = Path(settings.STATIC_ROOT) / STAMP
    wanted = fingerprint()
    if not stamp.exists() or stamp.read_text() != wanted:
        call_command("collectstatic", interactive=False, clear=True, verbosity=0)
        stamp.write_text(wanted)


def fingerprint() -> str:
    """Of the names, sizes and times of all static files, and of what hashes their names."""
    digest = hashlib.sha256(f"{django.__version__} {settings.STORAGES['staticfiles']}".encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
