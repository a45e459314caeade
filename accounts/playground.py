"""The key that a member's calls from the playground go out under, so that limits, ledger and receipts are everybody's.

Nobody ever sees its secret, and nothing keeps it: it is derived from the row's id under the platform's secret key.
Lists, pages and the API leave the row out (``ApiKey.objects.of``); usage and receipts name it. It ends with the
membership. After a change of HELIXFLOW_SECRET_KEY the next call makes a new one in its place.
"""

import logging
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import auth, generation, keys
from accounts.models import ApiKey, Membership, Organization
from helixflow.lib import errors, ids

logger = logging.getLogger(__name__)

NAME: Final = "Playground"
SALT: Final = "accounts.playground"


def secret_of(membership: Membership) -> str:
    """The secret of the member's key, which is made if there is none. For the data plane of this process alone.

    Raises AuthorizationFailed if the membership has ended meanwhile.
    """
    key = _current(membership)
    if key is None or not _is_ours(key):
        key = _make(membership)
    return _derive(key)


@transaction.atomic
def revoke(membership: Membership) -> None:
    """When a member leaves: from the next request on. Call it in the transaction that ends the membership."""
    _lock(membership)
    if _revoke(membership):
        generation.bump(membership.organization_id)


@transaction.atomic
def _make(membership: Membership) -> ApiKey:
    _lock(membership)
    key = _current(membership)
    if key is not None and _is_ours(key):
        return key  # somebody was quicker
    if not Membership.objects.filter(id=membership.id).exists():
        raise errors.AuthorizationFailed("You are no longer in this organization.")
    _revoke(membership)
    key = ApiKey(
        id=ids.uuid7(),
        organization_id=membership.organization_id,
        created_by_id=membership.user_id,
        name=NAME,
        is_playground=True,
    )
    key.digest = auth.digests(_derive(key))[0]
    key.save(force_insert=True)
    generation.bump(membership.organization_id)
    logger.info("playground key %s made for %s", key.public_id, membership.user.public_id)
    return key


def _current(membership: Membership) -> ApiKey | None:
    return _rows(membership).first()


def _rows(membership: Membership) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(
        organization_id=membership.organization_id,
        created_by_id=membership.user_id,
        is_playground=True,
        revoked_at=None,
    )


def _revoke(membership: Membership) -> int:
    return _rows(membership).update(revoked_at=timezone.now())


def _is_ours(key: ApiKey) -> bool:
    """Whether it was derived under the secret key and a pepper that are in force."""
    return bytes(key.digest) in auth.digests(_derive(key))


def _derive(key: ApiKey) -> str:
    digest = salted_hmac(SALT, key.id.bytes, algorithm="sha256").digest()
    return keys.from_number(int.from_bytes(digest))


def _lock(membership: Membership) -> None:
    # As accounts.api_keys does: rows that point to the organization can still be inserted meanwhile.
    Organization.objects.select_for_update(no_key=True).get(id=membership.organization_id)
