"""What a request's page, which is billing's, may show of stored contents: billing can't import inference."""

import json
import logging
from typing import Any

from django import template

from accounts import access, impersonation
from accounts.models import Membership
from billing.models import UsageRecord
from helixflow.lib import crypto, errors
from inference import contents

logger = logging.getLogger(__name__)
register = template.Library()


@register.inclusion_tag("billing/requests/_contents.html")
def stored_contents(membership: Membership, record: UsageRecord) -> dict[str, Any]:
    """Prompt and answer, or why they are not there. Everybody in the organization may read them; support may not."""
    found, lost = None, False
    withheld = impersonation.is_view(membership)
    try:
        found = None if withheld else contents.of(membership.organization, record.id)
    except (crypto.Undecryptable, ValueError):
        logger.error("the stored contents of %s can't be read", record.public_id)  # noqa: TRY400  # no trace of them
        lost = True
    return {
        "record": record,
        "contents": found,
        "parameters": json.dumps(found.parameters, indent=2, ensure_ascii=False) if found and found.parameters else "",
        "lost": lost,
        "withheld": withheld,
        "is_on": membership.organization.contents_days is not None,
        "days": membership.organization.contents_days,
        "manages": _manages(membership),
    }


def _manages(membership: Membership) -> bool:
    try:
        access.require_manager(membership, of="its stored contents")
    except errors.AuthorizationFailed:
        return False
    return True
