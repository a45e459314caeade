"""What webhooks answer with, as ``answers`` has the others."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from helixflow.site.openapi.answers import Time

EventName = Literal["completion.created", "completion.failed", "rate_limit.exceeded", "quota.low", "batch.completed"]


class Rotation(msgspec.Struct):
    ends_at: Time | None


class WebhookEndpoint(msgspec.Struct):
    id: Annotated[str, Meta(examples=["whe_…"])]
    object: Literal["webhook_endpoint"]
    url: str
    description: str
    events: list[EventName]
    api_keys: list[str] | None
    models: list[str] | None
    enabled: bool
    disabled_at: Time | None
    disabled_reason: str | None
    failing_since: Time | None
    rotation: Rotation | None
    created_by: str | None
    created_at: Time


class NewWebhookEndpoint(WebhookEndpoint):
    secret: Annotated[str, Meta(description="The signing secret. This is the only time it is seen.")]


class WebhookStatistics(msgspec.Struct):
    attempts: int
    succeeded: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    pending: int


class WebhookEndpointDetail(WebhookEndpoint):
    statistics: Annotated[WebhookStatistics, Meta(description="Of the last 24 hours; pending is that of now.")]


class DeletedWebhookEndpoint(msgspec.Struct):
    id: str
    object: Literal["webhook_endpoint"]
    deleted: Literal[True]


class WebhookDelivery(msgspec.Struct):
    id: Annotated[str, Meta(examples=["whd_…"])]
    object: Literal["webhook_delivery"]
    endpoint_id: str
    event_id: Annotated[str, Meta(description="Sent as webhook-id.")]
    event: EventName
    test: bool
    state: Literal["pending", "succeeded", "failed", "cancelled"]
    attempt_count: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: Time | None
    created_at: Time
    ended_at: Time | None


class AttemptError(msgspec.Struct):
    code: str
    message: str


class AttemptResponse(msgspec.Struct):
    status: int
    headers: dict[str, Any]
    body: Annotated[str, Meta(description="The first 20 kB of it.")]
    truncated: bool


class WebhookAttempt(msgspec.Struct):
    object: Literal["webhook_attempt"]
    started_at: Time
    duration_ms: float | None
    succeeded: bool
    error: AttemptError | None
    url: str
    address: str | None
    request_headers: dict[str, Any]
    response: AttemptResponse | None
    next_attempt_at: Time | None


class WebhookDeliveryDetail(WebhookDelivery):
    body: Annotated[str, Meta(description="What is sent, to the byte.")]
    attempts: Annotated[list[WebhookAttempt], Meta(description="The newest 50, newest first.")]


class Resent(msgspec.Struct):
    resent: int
