"""The dashboard's first page: what happens now, beside limits and the day before. It moves by itself (docs/live.md)."""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from accounts.access import page_membership
from accounts.models import ApiKey, Organization
from billing.reports import overview as reports
from billing.reports.standing import shown
from helixflow.lib import charts
from webhooks.models import Endpoint

Amount = int | Decimal
UP: Final = "up"
DOWN: Final = "down"


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of today beside yesterday's: by this time of day, and in all. ``trend``: up, down or empty."""

    label: str
    value: str
    unit: str
    by_now: str
    whole: str
    change: str
    trend: str
    bad: bool  # that it goes up
    spark: charts.Sparkline | None


@require_safe
@login_required
@vary_on_headers("HX-Request")
def overview(request: HttpRequest) -> HttpResponse:
    """The page, or only what moves where htmx asks whether it has changed since ``seen``: 204 if it has not."""
    membership = page_membership(request)
    organization = membership.organization
    standing = reports.standing(organization.id)
    moving = _moving(organization, standing)
    if "HX-Request" in request.headers:
        if request.GET.get("seen") == moving["seen"]:
            return HttpResponse(status=204)
        waits = "first" in request.GET  # the page shows the first steps, a call not among those done
        arrives = waits and standing.requests > 0
        return render(
            request, "site/_overview_live.html", moving | {"arrives": arrives, "is_first": waits and not arrives}
        )
    has_key = ApiKey.objects.of(organization).exists()
    has_called = has_key and (standing.requests > 0 or _was_called(organization))
    context = {
        "membership": membership,
        "disabled_webhooks": list(Endpoint.objects.of(organization).disabled_by_platform()[:4]),
        "has_key": has_key,
        "has_called": has_called,
        "is_first": not has_called,
        **moving,
    }
    return render(request, "site/overview.html", context)


def _moving(organization: Organization, standing: reports.Standing) -> dict[str, Any]:
    """What moves, as HTML, and a short name for how it looks: ``seen``."""
    activity = reports.activity(organization.id)
    recent = reports.recent(organization.id)
    context = {
        "standing": standing,
        "activity": activity,
        "tiles": _tiles(activity),
        "requests_chart": _requests_chart(activity) if activity.duration else None,
        "latency_chart": _latency_chart(activity) if activity.duration else None,
        "duration": _percentiles(activity.duration),
        "first_token": _percentiles(activity.first_token),
        "recent": [(each, shown(each.record.cost), charts.milliseconds(each.record.duration_ms)) for each in recent],
        "currency": settings.CURRENCY,
    }
    html = render_to_string("site/_overview_numbers.html", context)
    return {"numbers": html, "seen": hashlib.sha256(html.encode()).hexdigest()[:16]}


def _was_called(organization: Organization) -> bool:
    """Ever: in earlier months too."""
    return ApiKey.objects.of(organization).exclude(last_used_at=None).exists()


def _tiles(activity: reports.Activity) -> list[Tile]:
    def tile(label: str, name: str, *, unit: str = "", bad: bool = False) -> Tile:
        today, by_now, whole = (getattr(sums, name) for sums in (activity.today, activity.by_now, activity.yesterday))
        change, trend = _change(today, by_now)
        values = [getattr(hour.sums, name) for hour in activity.hours]
        spark = charts.sparkline(values, title=f"{label} of the last {len(values)} hours") if any(values) else None
        return Tile(label, shown(today), unit, shown(by_now), shown(whole), change, trend, bad, spark)

    return [
        tile("Requests", "requests"),
        tile("Tokens", "tokens"),
        tile("Cost", "cost", unit=settings.CURRENCY),
        tile("Errors", "errors", bad=True),
    ]


def _change(now: Amount, then: Amount) -> tuple[str, str]:
    """``+12%`` and where it goes. Nothing beside nothing, and a multiple where percents say little."""
    if not then or now == then:
        return "", ""
    ratio = float(now) / float(then)
    if ratio >= 10:
        return f"×{ratio:,.0f}", UP
    percent = round((ratio - 1) * 100)
    return (f"{percent:+d}%".replace("-", "\N{MINUS SIGN}"), UP if percent > 0 else DOWN) if percent else ("", "")


def _requests_chart(activity: reports.Activity) -> charts.Chart:
    well = [hour.sums.requests - hour.sums.errors for hour in activity.hours]
    failed = [hour.sums.errors for hour in activity.hours]
    return charts.bars(
        [charts.Series("Answered", well, 1), charts.Series("Failed", failed, 6)],
        charts.time_labels([hour.start for hour in activity.hours], "hour"),
        title="Requests by hour",
        height=150,
    )


def _latency_chart(activity: reports.Activity) -> charts.Chart:
    return charts.lines(
        [
            charts.Series("p95", [hour.p95 for hour in activity.hours], 2),
            charts.Series("p50", [hour.p50 for hour in activity.hours], 1),
        ],
        charts.time_labels([hour.start for hour in activity.hours], "hour"),
        title="Latency by hour",
        unit=charts.MILLISECONDS,
        height=110,
    )


def _percentiles(found: dict[str, float] | None) -> dict[str, str]:
    return {name: charts.milliseconds(value) for name, value in (found or {}).items()}
