"""HelixFlow's API for Python.

import helixflow

client = helixflow.Client()  # the key from HELIXFLOW_API_KEY
answer = client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "Hello!"}])
print(answer.choices[0].message.content)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helixflow._batches import BatchResults
from helixflow._cache import Cache
from helixflow._calls import Attempt
from helixflow._client import AsyncClient, Client
from helixflow._pages import Page
from helixflow._streams import AsyncStream, Stream
from helixflow._version import __version__
from helixflow.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BatchError,
    BatchTimeoutError,
    HelixFlowError,
    InsufficientQuotaError,
    InvalidAPIKeyError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StreamCutError,
    WebhookVerificationError,
)
from helixflow.types.responses import BatchResult

if TYPE_CHECKING:
    from helixflow import _resources, types, webhooks
    from helixflow.webhooks import verify_webhook_signature

    chat: _resources.Chat
    completions: _resources.Completions
    embeddings: _resources.Embeddings
    models: _resources.Models
    files: _resources.Files
    batches: _resources.Batches
    batch: _resources.Batch
    usage: _resources.Usage
    requests: _resources.Requests

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AsyncStream",
    "Attempt",
    "AuthenticationError",
    "BatchError",
    "BatchResult",
    "BatchResults",
    "BatchTimeoutError",
    "Cache",
    "Client",
    "HelixFlowError",
    "InsufficientQuotaError",
    "InvalidAPIKeyError",
    "InvalidRequestError",
    "ModelNotFoundError",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "ServiceTimeoutError",
    "ServiceUnavailableError",
    "Stream",
    "StreamCutError",
    "WebhookVerificationError",
    "__version__",
    "types",
    "verify_webhook_signature",
    "webhooks",
]

_OF_A_CLIENT = ("chat", "completions", "embeddings", "models", "files", "batches", "batch", "usage", "requests")


def __getattr__(name: str) -> Any:
    """``helixflow.batch.process(…)`` without a client of one's own: one that is set up by the environment.

    And what most programs can do without is loaded here.
    """
    if name in {"webhooks", "verify_webhook_signature"}:
        from importlib import import_module

        webhooks = import_module("helixflow.webhooks")
        globals()["verify_webhook_signature"] = webhooks.verify_webhook_signature
        return globals()[name]
    if name not in _OF_A_CLIENT:
        raise AttributeError(f"module 'helixflow' has no attribute {name!r}")
    client = Client()
    globals().update({each: getattr(client, each) for each in _OF_A_CLIENT})
    return globals()[name]
