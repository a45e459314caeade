"""The event catalogue: when each type is raised, and what is in it. The examples are ``webhooks.payloads``'s."""

from dataclasses import dataclass
from typing import Final

from webhooks.models import EventType


@dataclass(frozen=True, slots=True)
class Field:
    """``name`` as a path below ``data``; ``type`` in the words of the API reference."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Guide:
    type: EventType
    when: str
    fields: tuple[Field, ...]


_ORGANIZATION: Final = Field("organization_id", "string", "Your organization.")
_KEY: Final = Field("api_key_id", "string", "The API key that the request was made with.")
_COMPLETION: Final = (
    Field("id", "string", "The completion's id, as the answer had it."),
    Field("model", "string or null", "The model that was asked for."),
    Field("user_id", "string or null", "Who created the API key."),
    _ORGANIZATION,
    _KEY,
    Field("request_id", "string", "The request, as in its X-Request-ID header."),
    Field("end_user", "string or null", "Your own user, if the request named one in user."),
)
_TOKENS: Final = (
    Field("usage.prompt_tokens", "integer", "Those of the prompt."),
    Field("usage.completion_tokens", "integer", "Those that were made."),
    Field("usage.total_tokens", "integer", "Both together."),
)
_DURATION: Final = Field("duration_ms", "number", "From the request's arrival to the end of its answer.")

GUIDES: Final = (
    Guide(
        EventType.COMPLETION_CREATED,
        "A completion has ended well: chat or text, streamed or not. Embeddings raise no events.",
        (
            *_COMPLETION,
            Field("usage", "object", "The tokens it took."),
            *_TOKENS,
            _DURATION,
        ),
    ),
    Guide(
        EventType.COMPLETION_FAILED,
        "A completion that was let through has failed: every upstream failed, it took too long, it broke off, or the "
        "request asked for what isn't there or isn't allowed. error.code tells them apart.",
        (
            *_COMPLETION,
            Field("error", "object", "Why, as far as the caller was told."),
            Field(
                "error.code",
                "string",
                "One of the API's error codes, such as timeout; client_disconnected where the caller left.",
            ),
            Field("error.message", "string", "What the code means. The caller may have been told more."),
            Field("usage", "object or absent", "The tokens it took, if something was produced before it failed."),
            *_TOKENS,
            _DURATION,
        ),
    ),
    Guide(
        EventType.RATE_LIMIT_EXCEEDED,
        "A key met a limit on requests per minute or in parallel. At most one event for a key and minute.",
        (
            _ORGANIZATION,
            _KEY,
            Field("limit", "integer", "The limit that it met."),
            Field(
                "reason", "string", "Which one: minute (the organization's), key_minute (the key's own) or parallel."
            ),
            Field("minute", "string", "The minute that it was in."),
            Field("count", "integer", "Requests of that minute that were turned away by then."),
        ),
    ),
    Guide(
        EventType.QUOTA_LOW,
        "The organization has used 80% of the month's quota, and once more at 95%.",
        (
            _ORGANIZATION,
            Field("threshold", "integer", "80 or 95, in percent."),
            Field("limit", "integer", "Requests that the month allows."),
            Field("used", "integer", "Requests used so far."),
            Field("remaining", "integer", "Requests that are left."),
            Field("resets_at", "string", "When the next month begins."),
            Field("month", "string", "The month, such as 2026-11, in UTC."),
        ),
    ),
    Guide(
        EventType.BATCH_COMPLETED,
        "A batch has ended, well or not: status says how. Its results are there then. Told once for each batch.",
        (
            Field("id", "string", "The batch."),
            Field("status", "string", "completed, failed (its file was not valid), expired or cancelled."),
            Field("endpoint", "string", "Where its requests went, such as /v1/chat/completions."),
            Field("request_counts", "object", "How its requests ended."),
            Field("request_counts.total", "integer", "All of them."),
            Field("request_counts.completed", "integer", "Those that were answered with 200."),
            Field("request_counts.failed", "integer", "The others."),
            Field("usage", "object", "The tokens it took."),
            *_TOKENS,
            Field("cost", "string", "What its requests cost together, as a decimal number."),
            Field("currency", "string", "That of the cost."),
            Field("output_file_id", "string or null", "The file of those that were answered, if any were."),
            Field("error_file_id", "string or null", "The file of the others, if there are any."),
            _ORGANIZATION,
            Field("api_key_id", "string or null", "The API key in whose name it asked; null once that is deleted."),
            Field("created_at", "string", "When it was made."),
            Field("ended_at", "string", "When it ended."),
        ),
    ),
)

HEADERS: Final = (
    Field("webhook-id", "evt_…", "The event's id, the same at each attempt: handle each id once."),
    Field("webhook-timestamp", "Unix seconds", "When this attempt was made. Refuse what is older than five minutes."),
    Field(
        "webhook-signature",
        "v1,…",
        "Standard Webhooks: HMAC-SHA-256 of id, timestamp and body, in base64. Two of them while a secret is rotated.",
    ),
    Field(
        "X-HelixFlow-Signature", "hex", "HMAC-SHA-256 of the body alone; while a secret is rotated, under the old one."
    ),
    Field("X-HelixFlow-Signature-Next", "hex", "The same under the new secret, only while one is rotated."),
    Field("Content-Type", "application/json", "The body is UTF-8. Verify its bytes before you parse them."),
    Field("User-Agent", "HelixFlow-Webhooks/…", "With the platform's version."),
)
