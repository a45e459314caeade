"""What inference adds to the export of an organization's data, and how it is deleted with the organization."""

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

from accounts import deletions, erasure, exporting, exports
from accounts.models import Organization
from helixflow.lib import crypto, ids
from inference import contents
from inference.models import StoredContents


def register() -> None:
    exports.register("stored_contents", _contents)
    deletions.register(_erase_contents)


def _contents(organization: Organization) -> Iterator[dict[str, Any]]:
    """What people of the organization can see, in clear: the export is as private as they are."""
    for row in exporting.rows_of(StoredContents.objects.filter(organization=organization).only("id")):
        try:
            seen = contents.of(organization, row.id)
        except crypto.Undecryptable:
            continue
        if seen is not None:
            yield {"request": ids.public_id(ids.REQUEST, row.id), **dataclasses.asdict(seen)}


def _erase_contents(organization_id: uuid.UUID, limit: int) -> int:
    return erasure.delete_some(StoredContents.objects.filter(organization_id=organization_id), limit)
