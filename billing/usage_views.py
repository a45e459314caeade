"""The dashboard's page of usage over time, and the same as CSV. All of it from the hourly sums."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_safe

from accounts import access
from accounts.models import ApiKey, Environment, Membership
from billing import usage_csv
from billing.reports import breakdown, standing, timeseries
from billing.reports.breakdown import Breakdown
from billing.reports.timeseries import Series, Sums
from billing.usage_forms import FIRST_TOKEN, GROUPS, LATENCY, METRICS, RANGES, THIS_MONTH, Period, UsageForm
from helixflow.lib import charts, clock, csv_export

KEYS: Final = 300  # to choose from; more can be asked for by their address
# Where it means something; other error codes have theirs by their names.
STATUS_SLOTS: Final = {
    timeseries.OK: 3,
    "timeout": 2,
    "server_error": 6,
    "service_unavailable": 4,
    "invalid_request": 5,
    "client_disconnected": 1,
}
PERCENTILES: Final = (("p50", 1), ("p95", 2), ("p99", 6))  # with their colours
EVERY: Final = {"hour": "hourly", "day": "daily", "month": "monthly"}


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class Row:
    """A group in the table: texts, those of durations with their units. ``slot``: its colour in the chart."""

    name: str
    slot: int
    requests: str
    failed: str
    tokens: str
    cost: str
    latency: str
    first_token: str


@login_required
@require_safe
def usage(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    form = _form(request, membership)
    context: dict[str, Any] = {"membership": membership, "form": form, "currency": settings.CURRENCY}
    if form.is_valid():
        period = form.period
        found = _read(membership, form, period)
        form.offer_models(found.models)
        context |= _results(membership, form, period, found)
    response = render(request, "billing/usage.html", context)
    if form.is_valid():
        query = form.query()
        response["HX-Push-Url"] = f"{reverse('usage')}?{query}" if query else reverse("usage")
    return response


@login_required
@require_safe
def usage_as_csv(request: HttpRequest) -> HttpResponseBase:
    membership = access.page_membership(request)
    form = _form(request, membership)
    back = f"{reverse('usage')}?{request.GET.urlencode()}"
    if not form.is_valid():
        return redirect(back)  # the page says what is wrong
    span, group_by = form.period.span, form.cleaned_data["group"]
    try:
        rows = usage_csv.rows(membership.organization_id, span, group_by, _filters(membership, form))
    except timeseries.TooMuch as error:
        messages.error(request, f"{error} Choose a shorter time, a longer bucket, or one key or model.")
        return redirect(back)
    return csv_export.response(usage_csv.filename(span, group_by), usage_csv.header(group_by), rows)


def _form(request: HttpRequest, membership: Membership) -> UsageForm:
    """Raises NotFound for a key of nobody's or of another organization."""
    keys = list(ApiKey.objects.of(membership.organization).order_by("-id")[:KEYS])
    asked = request.GET.get("key")
    if asked and asked not in {key.public_id for key in keys}:
        keys.append(access.get_api_key(membership, asked))
    return UsageForm(request.GET.dict(), keys=keys)


def _filters(membership: Membership, form: UsageForm) -> dict[str, Any]:
    chosen = form.cleaned_data
    filters = {"model": chosen["model"]} if chosen["model"] else {}
    if chosen["key"]:
        filters["api_key_id"] = access.get_api_key(membership, chosen["key"]).id
    return filters


def _read(membership: Membership, form: UsageForm, period: Period) -> Breakdown:
    chosen = form.cleaned_data
    ranks = {breakdown.TOKENS, breakdown.COST}
    return breakdown.read(
        membership.organization_id,
        period.span,
        period.before,
        group_by=chosen["group"],
        rank_by=chosen["metric"] if chosen["metric"] in ranks else breakdown.REQUESTS,
        filters=_filters(membership, form),
    )


def _results(membership: Membership, form: UsageForm, period: Period, found: Breakdown) -> dict[str, Any]:
    chosen = form.cleaned_data
    group_by: str = chosen["group"]
    named = _named(membership, group_by, found)
    chart = _chart(form, period, named)
    slots = {shape.name: shape.slot for shape in chart.shapes}
    return {
        "found": found,
        "span": period.span,
        "every": EVERY[period.span.bucket],
        "tiles": list(_tiles(found, _earlier(form, period))),
        "chart": chart,
        "title": chart.title,
        "by_status": group_by == timeseries.STATUS,
        "grouped": group_by != timeseries.NONE,
        "group_label": dict(GROUPS)[group_by],
        "rows": [_row(name, slots.get(name, 0), series.totals) for name, series, _ in named],
        "total": _row("Total", 0, found.totals),
        "csv": f"{reverse('usage-csv')}?{form.query()}",
    }


def _named(membership: Membership, group_by: str, found: Breakdown) -> list[tuple[str, Series, int | None]]:
    """The series with their names and, where they are chosen, colours."""
    names = _names(membership, group_by, [series.group for series in found.series])
    named = [(names[series.group], series, _slot(group_by, series.group)) for series in found.series]
    if found.others:
        named.append((f"{found.more:,} others" if found.more > 1 else "Others", found.others, charts.OTHER))
    return named


def _slot(group_by: str, group: Any) -> int | None:
    return STATUS_SLOTS.get(group) if group_by == timeseries.STATUS else None


def _names(membership: Membership, group_by: str, groups: Sequence[Any]) -> dict[Any, str]:
    if group_by == timeseries.NONE:
        return {None: "All requests"}
    if group_by == "key":
        return _key_names(membership, groups)
    special = {timeseries.OK: "Succeeded"} if group_by == timeseries.STATUS else {}
    if group_by == timeseries.ENVIRONMENT:
        special = {str(value): str(label) for value, label in Environment.choices} | {"": "Keys that are gone"}
    if group_by == "model":
        special = {"": "No model"}  # the body was never understood
    return {group: special.get(group, group) for group in groups}


def _key_names(membership: Membership, key_ids: Sequence[uuid.UUID]) -> dict[Any, str]:
    """A name that several have is followed by the key's hint."""
    found = ApiKey.objects.filter(organization_id=membership.organization_id).in_bulk(list(key_ids))
    every = [key.name for key in found.values()]
    names: dict[Any, str] = {}
    for key_id in key_ids:
        key = found.get(key_id)
        if key is None:
            names[key_id] = f"Gone, {str(key_id)[-4:]}"
        else:
            names[key_id] = key.name if every.count(key.name) == 1 else f"{key.name} ({key.hint})"
    return names


def _chart(form: UsageForm, period: Period, named: Sequence[tuple[str, Series, int | None]]) -> charts.Chart:
    chosen = form.cleaned_data
    starts = list(period.span.starts())
    labels = charts.time_labels(starts, period.span.bucket)
    metric, group_by = chosen["metric"], chosen["group"]
    title = dict(METRICS)[metric] + (f" in {settings.CURRENCY}" if metric == breakdown.COST else "")
    if metric in {LATENCY, FIRST_TOKEN}:
        series = list(_durations(metric, starts, named, chosen["percentile"], apart=group_by == timeseries.NONE))
        if group_by != timeseries.NONE:
            title += f", {chosen['percentile']},"
        drawn, unit = charts.lines, charts.MILLISECONDS
    else:
        nothing = Sums()
        series = [
            charts.Series(name, [_amount(each.points.get(at, nothing), metric) for at in starts], slot)
            for name, each, slot in named
        ]
        drawn, unit = charts.bars, COST_UNIT if metric == breakdown.COST else charts.COUNT
    if group_by != timeseries.NONE:
        title += f" by {dict(GROUPS)[group_by] if group_by == 'key' else group_by}"
    return drawn(series, labels, title=f"{title}, {EVERY[period.span.bucket]}", unit=unit, height=240)


def _durations(
    metric: str, starts: Sequence[Any], named: Sequence[tuple[str, Series, int | None]], percentile: str, *, apart: bool
) -> Iterator[charts.Series]:
    """A line a group, or ``apart`` one a percentile."""
    for name, each, slot in named:
        found = {at: _quantiles(sums, metric) for at, sums in each.points.items()}
        if apart:
            for wanted, colour in PERCENTILES:
                yield charts.Series(wanted, [found.get(at, {}).get(wanted) for at in starts], colour)
        else:
            yield charts.Series(name, [found.get(at, {}).get(percentile) for at in starts], slot)


def _quantiles(sums: Sums, metric: str) -> dict[str, float]:
    return sums.quantiles(sums.duration_digits if metric == LATENCY else sums.first_token_digits) or {}


def _amount(sums: Sums, metric: str) -> charts.Value:
    amount = breakdown.amount(sums, metric)
    return amount if metric == breakdown.COST else int(amount)


def _money(amount: charts.Value) -> str:
    return standing.shown(amount if isinstance(amount, Decimal) else Decimal(0))


COST_UNIT: Final = charts.amount(_money)


def _tiles(found: Breakdown, earlier: str) -> Iterator[Tile]:
    now, before = found.totals, found.before
    yield Tile("Requests", charts.count(now.requests), "", _trend(now.requests, before.requests, earlier))
    for metric, label, shown, unit in (
        (breakdown.TOKENS, "Tokens", charts.count, ""),
        (breakdown.COST, "Cost", _money, settings.CURRENCY),
    ):
        amount = breakdown.amount(now, metric)
        yield Tile(label, shown(amount), unit, _trend(amount, breakdown.amount(before, metric), earlier))
    rate, rate_before = (_rate(sums) for sums in (now, before))
    note = f"{rate_before:.2f}% in {earlier}" if before.requests else f"No requests in {earlier}"
    yield Tile("Failed", charts.count(now.failed), f"{rate:.2f}%", note)
    for label, metric in (("Latency, p95", LATENCY), ("Time to first token, p95", FIRST_TOKEN)):
        quantiles = _quantiles(now, metric)
        value = charts.milliseconds(quantiles.get("p95"))
        half = charts.milliseconds(quantiles.get("p50"))
        yield Tile(label, value, "", f"Median {half}" if quantiles else "Nothing measured")


def _rate(sums: Sums) -> float:
    return 100 * sums.failed / sums.requests if sums.requests else 0.0


def _trend(now: Decimal | int, before: Decimal | int, earlier: str) -> str:
    if not before:
        return f"None in {earlier}" if now else "None"
    change = float((now - before) / before) * 100
    if abs(change) < 0.5:
        return f"As much as in {earlier}"
    arrow = "▲" if change > 0 else "▼"
    return f"{arrow} {abs(change):,.0f}% on {earlier}"


def _earlier(form: UsageForm, period: Period) -> str:
    """The time before, in words."""
    chosen = form.cleaned_data["range"]
    if chosen in RANGES:
        return f"the {RANGES[chosen][0]} before"
    ends = min(period.span.end, clock.now()) if chosen == THIS_MONTH else period.span.end
    days = max(1, round((ends - period.span.start).total_seconds() / 86_400))
    return f"the {days:,} days before" if days > 1 else "the day before"


def _row(name: str, slot: int, sums: Sums) -> Row:
    def p95(metric: str) -> str:
        return charts.milliseconds(_quantiles(sums, metric).get("p95"))

    return Row(
        name=name,
        slot=slot,
        requests=charts.count(sums.requests),
        failed=charts.count(sums.failed),
        tokens=charts.count(sums.prompt_tokens + sums.completion_tokens),
        cost=_money(sums.cost),
        latency=p95(LATENCY),
        first_token=p95(FIRST_TOKEN),
    )


urlpatterns = [
    path("dashboard/usage", usage, name="usage"),
    path("dashboard/usage.csv", usage_as_csv, name="usage-csv"),
]
