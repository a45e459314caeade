"""What the organization, its people and its audit log answer with, as ``answers`` has the others."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from helixflow.site.openapi.answers import Time

Role = Literal["owner", "admin", "member"]


class Organization(msgspec.Struct):
    id: str
    object: Literal["organization"]
    name: str
    role: Annotated[Role, Meta(description="Yours.")]
    cache_ttl_s: Annotated[int | None, Meta(description="How long answers are cached, in seconds; null for not.")]
    contents_days: Annotated[int | None, Meta(description="How long prompts and answers are kept; null for not.")]
    created_at: Time
    deletion_due_at: Annotated[Time | None, Meta(description="When it will be deleted, if it was asked for.")]


class Member(msgspec.Struct):
    id: Annotated[str, Meta(description="The user's, user-….")]
    object: Literal["member"]
    email: str
    name: str
    role: Role
    joined_at: Time


class RemovedMember(msgspec.Struct):
    id: str
    object: Literal["member"]
    deleted: Literal[True]


class Invitation(msgspec.Struct):
    id: Annotated[str, Meta(examples=["inv_…"])]
    object: Literal["invitation"]
    email: str
    role: Role
    status: Literal["open", "expired", "accepted", "withdrawn"]
    invited_by: str | None
    created_at: Time
    expires_at: Time


class Change(msgspec.Struct):
    before: Any
    after: Any


class AuditEvent(msgspec.Struct):
    id: Annotated[str, Meta(examples=["aud_…"])]
    object: Literal["audit_event"]
    action: str
    summary: str
    actor: str
    user_id: Annotated[str | None, Meta(description="null where HelixFlow did it by itself.")]
    is_support: Annotated[bool, Meta(description="It was our staff.")]
    target: str | None
    changes: Annotated[dict[str, Change], Meta(description="Each field with its value before and after.")]
    address: str | None
    user_agent: str
    created_at: Time
