"""What billing adds to the export of an organization's data, and how it is deleted with the organization."""

import uuid
from collections.abc import Iterator
from typing import Any

from accounts import deletions, erasure, exporting, exports
from accounts.models import Organization
from billing.models import Refusal, SubscriptionChange, UsageMonth, UsageRecord
from billing.plan_models import QuotaGrant, UpgradeRequest
from billing.rollup_models import UsageDay, UsageDayOfAllKeys, UsageHour, UsageHourOfAllKeys
from helixflow.lib import ids

# A record's own columns that are told as they are. The deployment is the platform's own affair.
RECORD = (
    *("month", "units", "operation", "model", "fallback_model", "status", "error_code", "streamed", "end_user"),
    *("usage_source", "input_tokens", "cached_input_tokens", "cache_write_tokens", "input_audio_tokens"),
    *("output_tokens", "reasoning_tokens", "output_audio_tokens", "currency", "cost", "duration_ms", "first_token_ms"),
)
TERMS = ("requests_per_minute", "requests_per_month", "max_parallel", "monthly_budget")


def register() -> None:
    exports.register("usage_records", _records)
    exports.register("usage_months", _months)
    exports.register("plan_history", _plan_history)
    exports.register("quota_grants", _quota_grants)
    exports.register("upgrade_requests", _upgrade_requests)
    for rows in (UsageRecord, UsageHour, UsageDay, UsageHourOfAllKeys, UsageDayOfAllKeys, UsageMonth, Refusal):
        deletions.register(_eraser(rows))


def _records(organization: Organization) -> Iterator[dict[str, Any]]:
    for record in exporting.rows_of(UsageRecord.objects.filter(organization_id=organization.id)):
        known = {
            "id": ids.public_id(ids.REQUEST, record.id),
            "at": ids.time_of(record.id),
            "api_key": ids.public_id(ids.API_KEY, record.api_key_id),
        }
        yield known | {name: getattr(record, name) for name in RECORD}


def _months(organization: Organization) -> Iterator[dict[str, Any]]:
    for month in exporting.rows_of(UsageMonth.objects.filter(organization_id=organization.id)):
        yield {
            "api_key": ids.public_id(ids.API_KEY, month.api_key_id),
            "month": month.month,
            "requests": month.requests,
            "units": month.units,
            "cost": month.cost,
        }


def _plan_history(organization: Organization) -> Iterator[dict[str, Any]]:
    rows = SubscriptionChange.objects.filter(organization=organization).select_related("plan")
    for change in exporting.rows_of(rows):
        terms = {name: getattr(change, name) for name in TERMS}
        yield {"plan": change.plan.name, "created_at": change.created_at} | terms


def _quota_grants(organization: Organization) -> Iterator[dict[str, Any]]:
    for grant in exporting.rows_of(QuotaGrant.objects.filter(organization=organization)):
        yield {name: getattr(grant, name) for name in ("month", "units", "reason", "created_at", "revoked_at")}


def _upgrade_requests(organization: Organization) -> Iterator[dict[str, Any]]:
    rows = UpgradeRequest.objects.filter(organization=organization).select_related("plan")
    for request in exporting.rows_of(rows):
        names = ("requests_per_minute", "requests_per_month", "message", "state", "created_at", "decided_at", "note")
        yield {"plan": request.plan.name} | {name: getattr(request, name) for name in names}


def _eraser(model: Any) -> erasure.Eraser:
    def erase(organization_id: uuid.UUID, limit: int) -> int:
        return erasure.delete_some(model.objects.filter(organization_id=organization_id), limit)

    return erase
