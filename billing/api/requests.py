"""``/v1/requests``: what became of single requests, and the receipt of one. With an API key or a login's JWT."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.urls import re_path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import ApiKey
from billing import events, money, prices
from billing.api.readers import ModelNameField, NoParameters, ReaderView, key_of, name_key
from billing.models import Price, UsageRecord
from billing.reports import receipts
from helixflow.lib import clock, drf, errors, ids, paging
from helixflow.lib.serializers import MomentField, StrictCharField, StrictSerializer

Keys = dict[uuid.UUID, ApiKey]


class StatusField(serializers.Field[str | int, str, str, Any]):
    default_error_messages = {  # noqa: RUF012  # DRF declares it so
        "invalid": "The status is success, failed, or an HTTP status such as 503.",
    }

    def to_internal_value(self, data: str) -> str | int:
        if data in {receipts.SUCCESS, receipts.FAILURE}:
            return data
        if not (data.isascii() and data.isdigit() and len(data) == 3 and 100 <= int(data) <= 599):
            self.fail("invalid")
        return int(data)


class ListParameters(StrictSerializer):
    """``cursor`` and ``limit`` are paging's to judge."""

    cursor = StrictCharField(required=False, allow_blank=True, trim_whitespace=False)
    limit = StrictCharField(required=False, allow_blank=True, trim_whitespace=False)
    api_key = StrictCharField(required=False)
    model = ModelNameField(required=False)
    status = StatusField(required=False)
    error_code = StrictCharField(required=False, max_length=200)
    since = MomentField(required=False)
    until = MomentField(required=False)
    end_user = StrictCharField(required=False, trim_whitespace=False, max_length=512)


class RequestList(ReaderView):
    def get(self, request: Request) -> Response:
        organization_id = self.organization_id(request)
        given = self.parameters(request, ListParameters)
        cursor, limit = given.pop("cursor", None), given.pop("limit", None)
        if "api_key" in given:
            given["api_key_id"] = key_of(organization_id, given.pop("api_key")).id
        if "since" in given and "until" in given and given["since"] >= given["until"]:
            raise errors.InvalidRequest("Since must be before until.", param="since")
        records, next_cursor = paging.page(
            receipts.search(organization_id, **given), prefix=ids.REQUEST, cursor=cursor, limit=paging.limit_of(limit)
        )
        keys = _keys_of(records)
        return drf.respond_page(request, [represent(record, keys) for record in records], next_cursor)


class RequestDetail(ReaderView):
    def get(self, request: Request, request_id: str) -> Response:
        self.parameters(request, NoParameters)
        record = receipts.get(self.organization_id(request), request_id)
        return drf.respond(request, represent_receipt(record, _keys_of([record]), receipts.price_of(record)))


def represent(record: UsageRecord, keys: Keys) -> dict[str, Any]:
    return {
        "id": record.public_id,
        "object": "request",
        "completion_id": completion_id(record),
        "started_at": clock.rfc3339(record.started_at),
        "api_key": name_key(record.api_key_id, keys.get(record.api_key_id)),
        "user_id": ids.public_id(ids.USER, record.user_id) if record.user_id else None,
        "end_user": record.end_user or None,
        "operation": record.operation,
        "model": record.model or None,
        "fallback_model": record.fallback_model or None,
        "deployment": record.deployment or None,
        "status": record.status,
        "error_code": record.error_code or None,
        "streamed": record.streamed,
        "tokens": {
            "prompt": record.prompt_tokens,
            "completion": record.completion_tokens,
            "total": record.prompt_tokens + record.completion_tokens,
        },
        "usage_source": record.usage_source,
        "cost": money.text(record.cost),
        "currency": record.currency or None,
        "duration_ms": record.duration_ms,
        "first_token_ms": record.first_token_ms,
    }


def completion_id(record: UsageRecord) -> str | None:
    """That of its answer, which embeddings have none of."""
    prefix = {events.CHAT: ids.COMPLETION, "completions": ids.TEXT_COMPLETION}.get(record.operation)
    return ids.public_id(prefix, record.id) if record.units and prefix else None


def represent_receipt(record: UsageRecord, keys: Keys, price: Price | None) -> dict[str, Any]:
    """All that is kept of a request: its contents are not."""
    found = represent(record, keys)
    tokens = receipts.tokens_of(record)
    found["tokens"] |= {"by_class": {name: getattr(tokens, name) for name in prices.CLASSES}}
    return found | {
        "attempts": [_represent_attempt(attempt) for attempt in record.attempts],
        "quota_units": record.units,
        "price": None if price is None else _represent_price(price),
        "cost_by_class": None
        if price is None
        else {name: money.text(cost) for name, cost in receipts.cost_by_class(record, price).items()},
        "settled_by": record.settled_by,
        "recorded_at": clock.rfc3339(record.recorded_at),
    }


def _represent_attempt(attempt: dict[str, Any]) -> dict[str, Any]:
    """In the documented order, which PostgreSQL does not keep, and to the microsecond, as other durations."""
    return {
        "deployment": attempt["deployment"],
        "outcome": attempt["outcome"],
        "duration_ms": round(attempt["duration_ms"], 3),
    }


def _represent_price(price: Price) -> dict[str, Any]:
    return {
        "id": str(price.id),
        "starts_at": clock.rfc3339(price.starts_at),
        "per_million_tokens": {name: money.text(prices.rate(price, name)) for name in prices.CLASSES},
    }


def _keys_of(records: Iterable[UsageRecord]) -> Keys:
    return ApiKey.objects.in_bulk({record.api_key_id for record in records})


urlpatterns = [
    re_path(r"^requests/?$", RequestList.as_view()),
    re_path(r"^requests/(?P<request_id>[^/]+)/?$", RequestDetail.as_view()),
]
