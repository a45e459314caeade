"""Contents that an organization has stored: reading one request's, and forgetting (docs/stored-contents.md).

What counts is the organization's setting as it is now. Turned off, or turned on anew, it hides all that was stored
before; ``drop`` deletes that, and what is past its days, in small transactions.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from accounts import access, audit
from accounts.models import Membership, Organization
from helixflow.lib import crypto, errors, ids
from inference.keeping import transcript
from inference.models import StoredContents

BATCH: Final = 500
BUDGET_S: Final = 60.0  # for a run: below the broker's visibility timeout, after which it would run again beside itself
LAST: Final = uuid.UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Contents:
    """Of one request, for people to read. ``left_out`` counts older messages, or later texts, that were not stored."""

    turns: list[transcript.Turn]
    parameters: dict[str, object]
    answer: transcript.Answer
    left_out: int
    prompt_cut: bool
    answer_cut: bool
    expires_at: datetime


def of(organization: Organization, request_id: uuid.UUID) -> Contents | None:
    """None: nothing is stored, or no longer to be seen. Raises crypto.Undecryptable."""
    if organization.contents_days is None:
        return None
    row = _visible(organization).filter(id=request_id).first()
    if row is None:
        return None
    stored = transcript.unpack(crypto.decrypt_bytes(row.sealed_contents))
    return Contents(
        turns=transcript.turns_of(stored.prompt),
        parameters=transcript.parameters_of(stored.parameters),
        answer=transcript.answer_of(stored.answer),
        left_out=stored.left_out,
        prompt_cut=stored.prompt_cut,
        answer_cut=stored.answer_cut,
        expires_at=row.expires_at,
    )


def require(*, membership: Membership, request_id: str) -> QuerySet[StoredContents]:
    """One request's, for those who may delete it. Raises NotFound, AuthorizationFailed."""
    rows = _visible(membership.organization).filter(id=access.parse_id(ids.REQUEST, request_id))
    if not rows.exists():
        raise errors.NotFound("Nothing of this request is stored.")
    access.require_manager(membership, of="its stored contents")
    return rows


@transaction.atomic
def forget(*, membership: Membership, request_id: str) -> None:
    """One request's, for good. As ``require``."""
    require(membership=membership, request_id=request_id).delete()
    audit.record(
        "contents.deleted",
        user=membership.user,
        organization=membership.organization,
        target=request_id,
        summary="deleted the stored prompt and answer of a request",
    )


def drop(*, batch: int = BATCH, budget_s: float = BUDGET_S) -> int:
    """Delete what nobody is to see any more; how many rows went. A run that is cut off is gone on with by the next."""
    deadline = time.monotonic() + budget_s
    due = StoredContents.objects.filter(expires_at__lte=timezone.now()).order_by("expires_at")
    dropped = _delete(due, batch, deadline)
    storing = Organization.objects.filter(Exists(StoredContents.objects.filter(organization=OuterRef("id"))))
    for organization in storing.only("id", "contents_days", "contents_since").iterator():
        kept_from = _kept_from(organization)
        old = StoredContents.objects.filter(organization=organization, id__lt=kept_from).order_by("id")
        dropped += _delete(old, batch, deadline)
    return dropped


def _visible(organization: Organization) -> QuerySet[StoredContents]:
    return StoredContents.objects.filter(
        organization=organization, id__gte=_kept_from(organization), expires_at__gt=timezone.now()
    )


def _kept_from(organization: Organization) -> uuid.UUID:
    """The first id of a request whose contents are still to be kept."""
    if organization.contents_days is None or organization.contents_since is None:
        return LAST
    oldest = timezone.now() - timedelta(days=organization.contents_days)
    return ids.first_at(max(organization.contents_since, oldest))


def _delete(rows: QuerySet[StoredContents], batch: int, deadline: float) -> int:
    deleted = 0
    while time.monotonic() < deadline:
        found = list(rows.values_list("id", flat=True)[:batch])
        deleted += StoredContents.objects.filter(id__in=found).delete()[0]
        if len(found) < batch:
            break
    return deleted
