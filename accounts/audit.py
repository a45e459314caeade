"""The audit log: everything that changes access, limits or money. Append-only, and in the transaction of the change.

    audit.record("api_key.revoked", organization=key.organization, user=user, target=key.public_id,
                 summary=f"revoked the API key “{key.name}”")

Where a change comes from is known to whoever answers the request: ``calling_from`` wraps it.
"""

import ipaddress
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from django.db import connection

from accounts.models import AuditEvent, Organization, User

PLATFORM: Final = "HelixFlow"  # where nobody did it
MAX_USER_AGENT: Final = 300
MAX_SUMMARY: Final = 300

_caller: ContextVar[tuple[str | None, str]] = ContextVar("caller", default=(None, ""))


def record(
    action: str,
    *,
    user: User | None,
    summary: str,
    organization: Organization | None = None,
    target: str = "",
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """``action`` is noun.verb, ``summary`` what follows the actor's name in a sentence, ``changes`` before and after.

    Call it inside the transaction of the change. ``organization`` None: about ``user``'s account alone. Of ``changes``
    what is not JSON is kept as text.
    """
    address, user_agent = caller()
    AuditEvent.objects.create(
        organization_id=organization.id if organization else None,
        user_id=user.id if user else None,
        actor=user.email if user else PLATFORM,
        is_staff=_as_support(user, organization),
        action=action,
        target=target,
        summary=summary[:MAX_SUMMARY],
        changes={name: [_plain(before), _plain(after)] for name, (before, after) in (changes or {}).items()},
        address=address,
        user_agent=user_agent,
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The ``changes`` of ``record``: the fields of ``after`` that ``before`` has otherwise."""
    return {name: (before.get(name), value) for name, value in after.items() if before.get(name) != value}


@contextmanager
def calling_from(address: str, user_agent: str) -> Iterator[None]:
    """What is recorded inside came from there."""
    token = _caller.set((_clean_address(address), user_agent.replace("\0", "")[:MAX_USER_AGENT]))
    try:
        yield
    finally:
        _caller.reset(token)


def caller() -> tuple[str | None, str]:
    """Address and user agent of whoever is being answered; nothing outside of a request."""
    return _caller.get()


def purge(organization_id: uuid.UUID) -> int:
    """Take out what was kept of an organization that is deleted for good. Inside the transaction that deletes it."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL helixflow.purge = 'on'")
        cursor.execute("DELETE FROM accounts_auditevent WHERE organization_id = %s", [organization_id])
        count: int = cursor.rowcount
        cursor.execute("SET LOCAL helixflow.purge = 'off'")
    return count


def _as_support(user: User | None, organization: Organization | None) -> bool:
    """Staff that isn't of the organization."""
    if user is None or organization is None or not user.is_staff:
        return False
    return not organization.memberships.filter(user=user).exists()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _clean_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:  # a Unix socket, or a proxy's word that is no address
        return None
