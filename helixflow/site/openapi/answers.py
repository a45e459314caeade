"""What the management API answers with, as types: each becomes a component of the OpenAPI description.

The views build plain dicts; tests/helixflow/test_openapi_answers.py holds real answers against these.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inference.answers import ChunkChoice, Text, Usage
from inference.text_answers import TextChoice

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time", "examples": ["2026-01-01T00:00:00Z"]})]
Epoch = Annotated[int, Meta(description="Unix time, in seconds.")]
Money = Annotated[str, Meta(description="An amount as decimal text.", examples=["1.25"])]
Environment = Literal["development", "staging", "production"]


# Every answer


class AnswerMeta(msgspec.Struct):
    timestamp: Time
    request_id: str


class PageMeta(msgspec.Struct):
    timestamp: Time
    request_id: str
    next_cursor: Annotated[str | None, Meta(description="Send it back as ?cursor=…; null on the last page.")]


class ErrorBody(msgspec.Struct):
    code: Literal[
        "invalid_request",
        "authentication_failed",
        "invalid_api_key",
        "authorization_failed",
        "model_not_found",
        "rate_limit_exceeded",
        "insufficient_quota",
        "server_error",
        "service_unavailable",
        "timeout",
    ]
    message: Annotated[str, Meta(description="For people: what happened and what to do.")]
    type: Annotated[str, Meta(description="OpenAI's kind of error, for their clients.")]
    param: Annotated[str | None, Meta(description="The field at fault, such as messages[0].content.")]
    details: Annotated[dict[str, Any], Meta(description="Each bad field with what is wrong with it.")]
    timestamp: Time
    request_id: str


class Error(msgspec.Struct):
    error: ErrorBody


# Logins


class RegisteredUser(msgspec.Struct):
    message: str
    user_id: str
    username: str


class LoginUser(msgspec.Struct):
    id: str
    username: str
    email: str


class Login(msgspec.Struct):
    access_token: Annotated[str, Meta(description="Send it as Authorization: Bearer …")]
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Meta(description="Seconds that the access token is good for.")]
    refresh_token: Annotated[str, Meta(description="Good once, for seven days.")]
    user: LoginUser


class Acknowledgement(msgspec.Struct):
    message: str


# Keys


class ApiKey(msgspec.Struct):
    id: Annotated[str, Meta(examples=["key_…"])]
    object: Literal["api_key"]
    name: str
    environment: Environment
    hint: Annotated[str, Meta(description="The first and last characters of the key, to know it again.")]
    status: Literal["active", "revoked", "expired"]
    models: Annotated[list[str] | None, Meta(description="The only models it may call; null for all.")]
    created_by: str | None
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None
    rotated_to: Annotated[str | None, Meta(description="The key that takes its place.")]


class NewApiKey(ApiKey):
    key: Annotated[str, Meta(description="The key itself. This is the only time it is seen.")]


class RotatedApiKey(NewApiKey):
    replaces: Annotated[ApiKey, Meta(description="The old key, with the end of its grace in expires_at.")]


class ApiKeyLimits(msgspec.Struct):
    object: Literal["api_key.limits"]
    api_key_id: str
    requests_per_minute: int | None
    requests_per_month: int | None
    monthly_budget: Money | None
    currency: str


# The plan


class PlanChange(msgspec.Struct):
    plan: str
    requests_per_minute: int | None
    requests_per_month: int | None
    max_parallel: int | None
    monthly_budget: Money | None
    changed_by: str | None
    changed_at: Time


class Plan(msgspec.Struct):
    object: Literal["plan"]
    slug: str
    name: str
    requests_per_minute: int
    requests_per_month: int
    max_parallel: int | None
    monthly_budget: Money | None
    currency: str
    spent_this_month: Money
    subscribed_since: Time
    history: Annotated[list[PlanChange], Meta(description="The last changes, newest first.")]


# In OpenAI's shapes


class Model(msgspec.Struct):
    id: str
    object: Literal["model"]
    created: Epoch
    owned_by: str
    status: Annotated[str, Meta(description="For operators who ask with ?status=true.")] | UnsetType = UNSET
    deployments: list[dict[str, Any]] | UnsetType = UNSET


class ModelList(msgspec.Struct):
    object: Literal["list"]
    data: list[Model]


class Embedding(msgspec.Struct):
    object: Literal["embedding"]
    index: int
    embedding: Annotated[list[float] | str, Meta(description="Numbers, or base64 of little-endian 32-bit floats.")]


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ChatCompletionChunk(msgspec.Struct):
    id: str
    object: Literal["chat.completion.chunk"]
    created: Epoch
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    service_tier: Text = UNSET
    system_fingerprint: Text = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET
    obfuscation: Text = UNSET


class TextCompletionChunk(msgspec.Struct):
    id: str
    object: Literal["text_completion"]
    created: Epoch
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: Text = UNSET


class HealthServices(msgspec.Struct):
    database: Literal["healthy", "unhealthy"]
    redis: Literal["healthy", "unhealthy"]


class Health(msgspec.Struct):
    status: Literal["healthy", "unhealthy"]
    timestamp: Epoch
    version: str
    services: HealthServices


class OpenAPI(msgspec.Struct):
    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    paths: dict[str, Any]
    webhooks: dict[str, Any]
    components: dict[str, Any]
    security: list[dict[str, Any]]
