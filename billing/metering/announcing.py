"""Telling organizations what the ledger has learned: completions that ended, quotas that run low, limits that were met.

Called by the ledger inside the transaction of a batch, so an event is there if and only if its records are. A batch
whose organizations subscribe to nothing costs one query.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from billing import events
from billing.metering import thresholds
from billing.models import UsageRecord, UsageSource
from helixflow.lib import errors, ids
from webhooks.models import EventType
from webhooks.services import Happening, Subscriptions, publish_all, subscribers

# Operations whose ends are told, and what the ids of their answers start with. The rest is the request's own id.
ANSWERS: Final = {events.CHAT: ids.COMPLETION, "completions": ids.TEXT_COMPLETION}
# What went wrong, in words. An upstream's own are not recorded.
_MESSAGES: Final = {
    error.code: error.default_message
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.HelixError) and "code" in vars(error)
} | {"client_disconnected": "The caller left before the answer was complete."}
_UNKNOWN: Final = "The request failed."


def announce(
    *,
    ended: Collection[UsageRecord],
    grown: Mapping[tuple[UUID, date], tuple[int, int]],
    refusals: Collection[events.Refused],
) -> None:
    """``ended``: records whose outcome nobody was told of yet. ``grown``: as ``thresholds.low`` takes it.
    ``refusals``: those that are written for the first time.
    """
    completed = [record for record in ended if record.operation in ANSWERS]
    low = thresholds.low(grown)
    rare = [*low, *thresholds.exceeded(refusals)]
    organizations = {record.organization_id for record in completed} | {each.organization_id for each in rare}
    if not organizations:
        return
    subscriptions = subscribers(organizations)
    publish_all([*_completions(completed, subscriptions), *rare], subscriptions=subscriptions)
    transaction.on_commit(partial(thresholds.remember, low))


def _completions(records: Collection[UsageRecord], subscriptions: Subscriptions) -> Iterator[Happening]:
    for record in records:
        kind = EventType.COMPLETION_FAILED if record.has_failed else EventType.COMPLETION_CREATED
        if subscriptions.wants(record.organization_id, kind):
            yield Happening(
                record.organization_id,
                kind,
                _completion(record),
                api_key_id=record.api_key_id,
                model=record.model,
            )


def _completion(record: UsageRecord) -> dict[str, Any]:
    """From the record, whose texts PostgreSQL can hold, rather than from what the gateway sent."""
    request_id = record.public_id
    data: dict[str, Any] = {
        "id": ANSWERS[record.operation] + request_id.removeprefix(ids.REQUEST),
        "model": record.model or None,
        "user_id": ids.public_id(ids.USER, record.user_id) if record.user_id else None,
        "organization_id": ids.public_id(ids.ORGANIZATION, record.organization_id),
        "api_key_id": ids.public_id(ids.API_KEY, record.api_key_id),
        "request_id": request_id,
        "end_user": record.end_user or None,
        "duration_ms": record.duration_ms,
    }
    if not record.has_failed or record.usage_source != UsageSource.NONE:
        data["usage"] = {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.completion_tokens,
            "total_tokens": record.prompt_tokens + record.completion_tokens,
        }
    if record.has_failed:
        data["error"] = {"code": record.error_code, "message": explain(record.error_code)}
    return data


def explain(error_code: str) -> str:
    return _MESSAGES.get(error_code, _UNKNOWN)
