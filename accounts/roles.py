"""What each role may do in an organization: one table, for ``access.require``, the team page and docs/accounts.md."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from accounts.models import Role

EVERYBODY: Final = frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER})
MANAGERS: Final = frozenset({Role.OWNER, Role.ADMIN})
OWNERS: Final = frozenset({Role.OWNER})


def with_article(role: str) -> str:
    """“an owner”, “a member”."""
    return f"{'an' if role[0] in 'ao' else 'a'} {role}"


@dataclass(frozen=True, slots=True)
class Capability:
    """``does`` follows “Owners …” in a sentence, ``label`` heads its line in the table."""

    label: str
    does: str
    roles: frozenset[Role]
    while_deleted: bool = False  # also in the days before the organization is deleted


SEE: Final = Capability("See usage, requests, keys and models", "see the organization", EVERYBODY, while_deleted=True)
PLAYGROUND: Final = Capability("Use the playground", "use its playground", EVERYBODY)
LEAVE: Final = Capability("Leave the organization", "leave it", EVERYBODY, while_deleted=True)
MANAGE_KEYS: Final = Capability("Create, rotate and revoke API keys", "manage its API keys", MANAGERS)
RUN_BATCHES: Final = Capability("Start, cancel and retry batches", "run its batches", MANAGERS)
MANAGE_WEBHOOKS: Final = Capability("Manage webhooks", "manage its webhooks", MANAGERS)
MANAGE_LIMITS: Final = Capability("Set budgets, caps and alerts, ask for a plan", "manage its limits", MANAGERS)
MANAGE_SETTINGS: Final = Capability("Change the settings", "manage its settings", MANAGERS)
MANAGE_MEMBERS: Final = Capability("Invite and remove members", "manage its members", MANAGERS)
MANAGE_MANAGERS: Final = Capability(
    "Make, change and remove owners and admins", "make, change and remove its owners and admins", OWNERS
)
READ_AUDIT: Final = Capability("Read the audit log", "read its audit log", OWNERS, while_deleted=True)
EXPORT: Final = Capability("Export all data", "export its data", OWNERS, while_deleted=True)
TRANSFER: Final = Capability("Transfer the ownership", "transfer it", OWNERS)
DELETE: Final = Capability("Delete the organization", "delete it", OWNERS, while_deleted=True)

TABLE: Final = (
    SEE,
    PLAYGROUND,
    LEAVE,
    MANAGE_KEYS,
    RUN_BATCHES,
    MANAGE_WEBHOOKS,
    MANAGE_LIMITS,
    MANAGE_SETTINGS,
    MANAGE_MEMBERS,
    MANAGE_MANAGERS,
    READ_AUDIT,
    EXPORT,
    TRANSFER,
    DELETE,
)


def may(role: str, capability: Capability) -> bool:
    return role in capability.roles


def only(roles: Iterable[Role]) -> str:
    """Who they are, as a refusal begins: ``Only owners and admins``."""
    return "Only " + " and ".join(f"{role.value}s" for role in Role if role in roles)


def grantable(role: str) -> list[Role]:
    """The roles that somebody with ``role`` may give to others, least first."""
    if role == Role.OWNER:
        return [Role.MEMBER, Role.ADMIN, Role.OWNER]
    return [Role.MEMBER] if may(role, MANAGE_MEMBERS) else []
