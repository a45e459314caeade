"""What usage and requests answer with, as ``answers`` has the others."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from helixflow.site.openapi.answers import Environment, Money, Time


class Tokens(msgspec.Struct):
    prompt: int
    cached: Annotated[int, Meta(description="Those of the prompt that the provider had cached.")]
    completion: int
    total: int


class Counter(msgspec.Struct):
    limit: int
    used: int | None
    remaining: int | None
    resets_at: Time


class Parallel(msgspec.Struct):
    limit: int
    used: int | None
    remaining: int | None


class Budget(msgspec.Struct):
    limit: Money
    spent: Money
    remaining: Money
    resets_at: Time


class Period(msgspec.Struct):
    month: str
    starts_at: Time
    resets_at: Time


class OwnLimits(msgspec.Struct):
    requests_per_minute: int | None
    requests_per_month: int | None
    monthly_budget: Money | None


class KeyUsage(msgspec.Struct):
    id: str
    name: str | None
    hint: str | None
    environment: Environment
    status: Literal["active", "revoked", "expired"]
    used_this_minute: int | None
    used: int | None
    requests: int
    tokens: Tokens
    cost: Money
    limits: OwnLimits


class CurrentUsage(msgspec.Struct):
    object: Literal["usage"]
    source: Annotated[
        Literal["live", "ledger"],
        Meta(description="live: the numbers the limits go by. ledger: what is recorded so far."),
    ]
    period: Period
    minute: Counter
    month: Counter
    parallel: Parallel | None
    budget: Budget | None
    requests: int
    tokens: Tokens
    cost: Money
    currency: str
    keys: list[KeyUsage]


class Failures(msgspec.Struct):
    total: int
    by_code: dict[str, int]


class Quantiles(msgspec.Struct):
    p50: float
    p95: float
    p99: float


class Sums(msgspec.Struct):
    requests: int
    failures: Failures
    tokens: Annotated[Tokens | None, Meta(description="null by status, as are cost and times.")]
    cost: Money | None
    duration_ms: Quantiles | None
    first_token_ms: Quantiles | None


class Point(Sums):
    at: Annotated[Time, Meta(description="When the bucket begins.")]


class KeyName(msgspec.Struct):
    id: str
    name: str | None
    hint: str | None


class Series(msgspec.Struct):
    totals: Sums
    points: list[Point]
    key: KeyName | UnsetType = UNSET
    model: str | UnsetType = UNSET
    deployment: str | UnsetType = UNSET
    environment: str | UnsetType = UNSET
    status: Annotated[str, Meta(description="ok, or an error's code.")] | UnsetType = UNSET


class TimeSeries(msgspec.Struct):
    object: Literal["usage.timeseries"]
    start: Time
    end: Time
    bucket: Literal["hour", "day", "month"]
    group_by: str
    currency: str
    series: list[Series]


class TokensByClass(msgspec.Struct):
    prompt: int
    completion: int
    total: int
    by_class: dict[str, int] | UnsetType = UNSET


class UsageRequest(msgspec.Struct):
    id: str
    object: Literal["request"]
    completion_id: Annotated[str | None, Meta(description="That of its answer.")]
    started_at: Time
    api_key: KeyName
    user_id: str | None
    end_user: str | None
    operation: str
    model: str | None
    fallback_model: str | None
    deployment: str | None
    status: int
    error_code: str | None
    streamed: bool
    tokens: TokensByClass
    usage_source: str
    cost: Money
    currency: str | None
    duration_ms: float | None
    first_token_ms: float | None


class Attempt(msgspec.Struct):
    deployment: str
    outcome: str
    duration_ms: float


class PriceVersion(msgspec.Struct):
    id: str
    starts_at: Time
    per_million_tokens: dict[str, Money]


class Receipt(UsageRequest):
    attempts: list[Attempt]
    quota_units: int
    price: PriceVersion | None
    cost_by_class: dict[str, Money] | None
    settled_by: str
    recorded_at: Time
