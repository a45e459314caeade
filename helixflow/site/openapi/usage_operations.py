"""The plan, and what was used of it."""

from typing import Any, Final

from billing.api import plan, requests, usage
from helixflow.site.openapi import answers, usage_answers
from helixflow.site.openapi.operations import TIME, Operation, Tag, envelope, page

PLAN: Final = {
    "object": "plan",
    "slug": "pro",
    "name": "Pro",
    "requests_per_minute": 1000,
    "requests_per_month": 100000,
    "max_parallel": None,
    "monthly_budget": "25.00",
    "currency": "USD",
    "spent_this_month": "1.21",
    "subscribed_since": TIME,
    "history": [],
}

PLAN_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/plan",
        id="getPlan",
        tag="Plan",
        summary="Get the plan",
        text="The plan, its limits, what was spent this month, and earlier changes.",
        answer=answers.Plan,
        anchors=("plan",),
        example=envelope(PLAN),
    ),
    Operation(
        method="patch",
        path="/plan",
        id="updatePlan",
        tag="Plan",
        summary="Set caps",
        text="Owners and admins may set two caps; `null` lifts one. The plan itself is changed by our "
        "[support](/support).",
        body=plan.CapFields,
        answer=answers.Plan,
        example_body={"monthly_budget": "25.00"},
        example=envelope(PLAN),
    ),
)

_TOKENS: Final = {"prompt": 812004, "cached": 20480, "completion": 301116, "total": 1113120}
_RESETS: Final = "2026-02-01T00:00:00Z"
_SUMS: Final[dict[str, Any]] = {
    "requests": 4230,
    "failures": {"total": 19, "by_code": {"timeout": 19}},
    "tokens": _TOKENS,
    "cost": "1.21",
    "duration_ms": {"p50": 640.1, "p95": 2210.5, "p99": 4031.7},
    "first_token_ms": {"p50": 180.4, "p95": 402.9, "p99": 811.2},
}
_REQUEST: Final[dict[str, Any]] = {
    "id": "req_…",
    "object": "request",
    "completion_id": "chatcmpl-…",
    "started_at": TIME,
    "api_key": {"id": "key_…", "name": "Website", "hint": "hflow_Ab12…Yz89"},
    "user_id": "user-…",
    "end_user": None,
    "operation": "chat",
    "model": "gpt-3.5-turbo",
    "fallback_model": None,
    "deployment": "openai/gpt-3.5-turbo",
    "status": 200,
    "error_code": None,
    "streamed": False,
    "tokens": {"prompt": 24, "completion": 118, "total": 142},
    "usage_source": "provider",
    "cost": "0.000189",
    "currency": "USD",
    "duration_ms": 812.4,
    "first_token_ms": 181.2,
}

USAGE_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/usage",
        id="getUsage",
        tag="Usage",
        summary="Usage now",
        text="This minute and this month beside their limits, and what each key has used.",
        auth="either",
        answer=usage_answers.CurrentUsage,
        anchors=("usage",),
        example=envelope(
            {
                "object": "usage",
                "source": "live",
                "period": {"month": "2026-01", "starts_at": TIME, "resets_at": _RESETS},
                "minute": {"limit": 1000, "used": 12, "remaining": 988, "resets_at": "2026-01-15T10:31:00Z"},
                "month": {"limit": 100000, "used": 4211, "remaining": 95789, "resets_at": _RESETS},
                "parallel": None,
                "budget": None,
                "requests": 4230,
                "tokens": _TOKENS,
                "cost": "1.21",
                "currency": "USD",
                "keys": [],
            }
        ),
    ),
    Operation(
        method="get",
        path="/usage/timeseries",
        id="getUsageTimeSeries",
        tag="Usage",
        summary="Usage over time",
        text="Requests, failures by code, tokens, cost, and percentiles of durations and of the time to the first "
        "token. Buckets without a request are there, with zeros.",
        auth="either",
        query=usage.SeriesParameters,
        answer=usage_answers.TimeSeries,
        anchors=("usage-timeseries",),
        example_query="bucket=day&group_by=model",
        example=envelope(
            {
                "object": "usage.timeseries",
                "start": TIME,
                "end": "2026-01-02T00:00:00Z",
                "bucket": "day",
                "group_by": "model",
                "currency": "USD",
                "series": [{"model": "gpt-3.5-turbo", "totals": _SUMS, "points": [{"at": TIME, **_SUMS}]}],
            }
        ),
    ),
    Operation(
        method="get",
        path="/requests",
        id="listRequests",
        tag="Usage",
        summary="List requests",
        text="Every request that was let through, newest first: which key and model, how it ended, tokens, cost and "
        "times. A request appears about a second after it has ended.",
        auth="either",
        query=requests.ListParameters,
        answer=usage_answers.UsageRequest,
        shape="page",
        anchors=("requests",),
        example_query="status=failed&limit=50",
        example=page(_REQUEST | {"status": 503, "error_code": "timeout"}),
    ),
    Operation(
        method="get",
        path="/requests/{request_id}",
        id="getRequest",
        tag="Usage",
        summary="Get a request's receipt",
        text="The same and more: each attempt at an upstream, tokens by class, the price they were charged at, and "
        "what each class cost. The id is that of the header `X-Request-ID`, or the `id` of the completion.",
        auth="either",
        answer=usage_answers.Receipt,
        anchors=("request",),
        example=envelope(
            _REQUEST
            | {
                "attempts": [{"deployment": "openai/gpt-3.5-turbo", "outcome": "success", "duration_ms": 803.9}],
                "quota_units": 1,
                "price": None,
                "cost_by_class": None,
                "settled_by": "gateway",
                "recorded_at": TIME,
            }
        ),
    ),
)

TAGS: Final = (
    Tag("Usage", "usage", "Where you stand, over time, and request by request.", USAGE_OPERATIONS),
    Tag("Plan", "plan", "Limits in force, a budget and a cap.", PLAN_OPERATIONS),
)
