"""One of everything that an organization can have, by the name that the URL list gives its id."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from accounts import api_keys
from accounts.models import Export, Invitation, Organization, Role, User
from billing import months
from billing.metering import rollups
from billing.models import UsageRecord
from helixflow.lib import crypto, ids
from helixflow.models import Incident
from inference import schemas
from inference.keeping import transcript
from inference.models import Model, StoredContents
from tests import factories
from tests.inference.batch import rows
from webhooks.models import DeliveryState

# Parameters that name nothing of one organization, and why a foreign one need not be refused.
OF_NOBODY: Final = {
    "incident_id": "the status page is everybody's",
    "kind": "which of a batch's files, the same of every batch",
    "position": "a request's place in its batch, the same of every batch",
    "name": "models are offered by the catalogue, whose own tests say to whom",
    "month": "every organization has the same ones",
    "handle": "a person's own session; of any other one is told that it is over already",
    "slug": "the docs are everybody's",
    "token": "a secret that its owner holds: whoever has it may come in",
}


def of(organization: Organization, owner: User) -> dict[str, str]:
    """Parameter → public id of something that is there, in ``organization``, made for this call."""
    User.objects.filter(id=owner.id).update(email_verified_at=timezone.now())  # who invites others needs that
    key, _ = api_keys.create(organization=organization, user=owner, name="CI")
    endpoint = factories.endpoint(organization, created_by=owner)
    failed = factories.delivery(endpoint, state=DeliveryState.FAILED, next_attempt_at=None)
    record = usage_record(organization, key.id, user_id=owner.id)
    _store_contents(organization, record)
    member = factories.user(f"member-of-{organization.public_id[-6:]}", organization=organization, role=Role.MEMBER)
    invitation = Invitation.objects.create(
        organization=organization,
        email="new@example.com",
        digest=organization.id.bytes * 2,
        invited_by=owner,
        expires_at=timezone.now() + timedelta(days=7),
    )
    export = Export.objects.create(
        organization=organization,
        requested_by=owner,
        state=Export.State.READY,
        file=default_storage.save(f"exports/{organization.id.hex}.zip", ContentFile(b"PK")),
        expires_at=timezone.now() + timedelta(days=7),
    )
    User.objects.filter(id=owner.id).update(email_verified_at=timezone.now())  # who isn't can't invite
    file = rows.file(key)
    return {
        "key_id": key.public_id,
        "batch_id": rows.batch(key, [200, 400], input_file_id=file.id).public_id,
        "file_id": file.public_id,
        "endpoint_id": endpoint.public_id,
        "delivery_id": failed.public_id,
        "request_id": record.public_id,
        "user_id": member.public_id,
        "invitation_id": invitation.public_id,
        "export_id": export.public_id,
        "organization_id": organization.public_id,
    }


def _store_contents(organization: Organization, record: UsageRecord) -> None:
    since = timezone.now() - timedelta(days=1)
    Organization.objects.filter(id=organization.id).update(contents_days=7, contents_since=since)
    asked = schemas.parse_chat_request(b'{"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}')
    stored = transcript.take(
        asked, b'{"choices": [{"message": {"role": "assistant", "content": "Hi"}}]}', answer_cut=False
    )
    StoredContents.objects.create(
        id=record.id,
        organization=organization,
        sealed_contents=crypto.encrypt_bytes(transcript.pack(stored)),
        expires_at=timezone.now() + timedelta(days=7),
    )


def shared() -> dict[str, str]:
    incident = Incident.objects.create(title="Slow answers")
    if not Model.objects.filter(name="gpt-4").exists():
        factories.deploy("http://127.0.0.1:1", model="gpt-4", name="of-everybody")
    return {
        "handle": "made-up",
        "kind": "input",
        "position": "0",
        "incident_id": incident.public_id,
        "month": f"{timezone.now():%Y-%m}",
        "name": "gpt-4",
        "slug": "chat",
        "token": "made-up",
    }


def usage_record(organization: Organization, api_key_id: Any, **fields: Any) -> UsageRecord:
    """A completion that ended well just now, also in the sums."""
    known = {
        "id": ids.uuid7(),
        "organization_id": organization.id,
        "api_key_id": api_key_id,
        "month": months.first_day(months.of(timezone.now().timestamp())),
        "units": 1,
        "model": factories.MODEL,
        "deployment": "first",
        "attempts": [{"deployment": "first", "outcome": "ok", "duration_ms": 12.5}],
        "status": 200,
        "streamed": False,
        "usage_source": "provider",
        "input_tokens": 9,
        "output_tokens": 12,
        "currency": "USD",
        "cost": Decimal("0.000033"),
        "duration_ms": 12.5,
        "settled_by": "gateway",
    }
    record = UsageRecord.objects.create(**(known | fields))
    rollup = rollups.Rollup()
    rollup.add(record)
    rollup.apply()
    return record
