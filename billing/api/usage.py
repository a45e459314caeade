"""``/v1/usage``: this minute and month beside the limits, and usage over time. With an API key or a login's JWT."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.urls import re_path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import ApiKey
from billing import money, months
from billing.api.readers import ModelNameField, NoParameters, ReaderView, key_of, name_key
from billing.models import KeyLimits
from billing.reports import timeseries, usage
from helixflow.lib import clock, drf, errors
from helixflow.lib.serializers import MomentField, StrictCharField, StrictSerializer

DEFAULT_RANGE: Final = timedelta(days=30)


class SeriesParameters(StrictSerializer):
    start = MomentField(required=False)
    end = MomentField(required=False)
    bucket = serializers.ChoiceField((timeseries.HOUR, timeseries.DAY, timeseries.MONTH), default=timeseries.DAY)
    group_by = serializers.ChoiceField((timeseries.NONE, *timeseries.GROUPS), default=timeseries.NONE)
    api_key = StrictCharField(required=False)
    model = ModelNameField(required=False)


class UsageView(ReaderView):
    def get(self, request: Request) -> Response:
        self.parameters(request, NoParameters)
        return drf.respond(request, represent(usage.current(self.organization_id(request))))


class TimeSeriesView(ReaderView):
    def get(self, request: Request) -> Response:
        organization_id = self.organization_id(request)
        given = self.parameters(request, SeriesParameters)
        filters = {"model": given["model"]} if "model" in given else {}
        if "api_key" in given:
            filters["api_key_id"] = key_of(organization_id, given["api_key"]).id
        try:
            span = _span(given)
            series = timeseries.read(organization_id, span, group_by=given["group_by"], filters=filters)
        except timeseries.TooMuch as error:
            raise errors.InvalidRequest(
                f"{error} Ask for a shorter time, larger buckets, or one api_key or model.", param="start"
            ) from None
        return drf.respond(request, represent_series(organization_id, span, given["group_by"], series))


def _span(given: dict[str, Any]) -> timeseries.Span:
    """Whole buckets around what was asked for. Raises InvalidRequest, TooMuch."""
    end: datetime = given.get("end") or clock.now()
    start: datetime = given.get("start") or end - DEFAULT_RANGE
    if start >= end:
        message = "The start must be before the end" + ("." if "end" in given else ", which is now.")
        raise errors.InvalidRequest(message, param="start")
    span = timeseries.Span.around(start, end, given["bucket"])
    timeseries.check_buckets(span)
    return span


def represent(found: usage.Usage) -> dict[str, Any]:
    starts_at, resets_at = (_rfc3339(moment) for moment in months.bounds(found.month))
    return {
        "object": "usage",
        "source": found.source,
        "period": {"month": f"{months.first_day(found.month):%Y-%m}", "starts_at": starts_at, "resets_at": resets_at},
        "minute": _limit(found.minute_limit, found.minute_used, _rfc3339(found.minute_resets_at)),
        "month": _limit(found.month_limit, found.used, resets_at),
        "parallel": None
        if found.max_parallel is None
        else {
            "limit": found.max_parallel,
            "used": found.parallel,
            "remaining": _rest(found.max_parallel, found.parallel),
        },
        "budget": None if found.budget is None else _budget(found.budget, found.cost, resets_at),
        "requests": found.requests,
        "tokens": _tokens(found.tokens.prompt, found.tokens.cached, found.tokens.completion),
        "cost": money.text(found.cost),
        "currency": settings.CURRENCY,
        "keys": [_represent_key(each) for each in found.keys],
    }


def _represent_key(found: usage.OfKey) -> dict[str, Any]:
    """``limits`` are the key's own, below its organization's; null where it has none."""
    limits = found.limits or KeyLimits()
    return {
        **name_key(found.key.id, found.key),
        "environment": found.key.environment,
        "status": found.key.status,
        "used_this_minute": found.minute_used,
        "used": found.used,
        "requests": found.requests,
        "tokens": _tokens(found.tokens.prompt, found.tokens.cached, found.tokens.completion),
        "cost": money.text(found.cost),
        "limits": {
            "requests_per_minute": limits.requests_per_minute,
            "requests_per_month": limits.requests_per_month,
            "monthly_budget": money.text_or_none(limits.monthly_budget),
        },
    }


def represent_series(
    organization_id: uuid.UUID, span: timeseries.Span, group_by: str, series: list[timeseries.Series]
) -> dict[str, Any]:
    starts = [(at, clock.rfc3339(at)) for at in span.starts()]
    keys = _keys(organization_id, series) if group_by == "key" else {}
    told = _requests_alone if group_by == timeseries.STATUS else _sums
    nothing = told(timeseries.Sums())

    def label(group: Any) -> dict[str, Any]:
        if group_by == timeseries.NONE:
            return {}
        return {group_by: name_key(group, keys.get(group)) if group_by == "key" else group}

    return {
        "object": "usage.timeseries",
        "start": clock.rfc3339(span.start),
        "end": clock.rfc3339(span.end),
        "bucket": span.bucket,
        "group_by": group_by,
        "currency": settings.CURRENCY,
        "series": [
            {
                **label(each.group),
                "totals": told(each.totals),
                "points": [
                    {"at": text, **(told(each.points[at]) if at in each.points else nothing)} for at, text in starts
                ],
            }
            for each in series
        ],
    }


def _sums(sums: timeseries.Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "failures": {"total": sum(sums.failures.values()), "by_code": dict(sorted(sums.failures.items()))},
        "tokens": _tokens(sums.prompt_tokens, sums.cached_tokens, sums.completion_tokens),
        "cost": money.text(sums.cost),
        "duration_ms": sums.quantiles(sums.duration_digits),
        "first_token_ms": sums.quantiles(sums.first_token_digits),
    }


def _requests_alone(sums: timeseries.Sums) -> dict[str, Any]:
    """Of those that ended one way nobody knows tokens, cost and times: the hourly sums are of all."""
    unknown = dict.fromkeys(("tokens", "cost", "duration_ms", "first_token_ms"))
    return {"requests": sums.requests, "failures": _sums(sums)["failures"], **unknown}


def _keys(organization_id: uuid.UUID, series: list[timeseries.Series]) -> dict[uuid.UUID, ApiKey]:
    groups = {each.group for each in series if isinstance(each.group, uuid.UUID)}
    return ApiKey.objects.filter(organization_id=organization_id).in_bulk(groups)


def _tokens(prompt: int, cached: int, completion: int) -> dict[str, int]:
    return {"prompt": prompt, "cached": cached, "completion": completion, "total": prompt + completion}


def _limit(limit: int, used: int | None, resets_at: str) -> dict[str, Any]:
    return {"limit": limit, "used": used, "remaining": _rest(limit, used), "resets_at": resets_at}


def _rest(limit: int, used: int | None) -> int | None:
    return None if used is None else max(0, limit - used)


def _budget(limit: Decimal, spent: Decimal, resets_at: str) -> dict[str, Any]:
    return {
        "limit": money.text(limit),
        "spent": money.text(spent),
        "remaining": money.text(max(Decimal(0), limit - spent)),
        "resets_at": resets_at,
    }


def _rfc3339(epoch_s: int) -> str:
    return clock.rfc3339(datetime.fromtimestamp(epoch_s, UTC))


urlpatterns = [
    re_path(r"^usage/?$", UsageView.as_view()),
    re_path(r"^usage/timeseries/?$", TimeSeriesView.as_view()),
]
