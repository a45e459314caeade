"""/dashboard/billing: what each month came to, as a page, for print, and as a file."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from accounts import access
from billing import invoices, subscriptions
from billing.invoices import LISTED, SHOWN, Line
from helixflow.lib import clock, csv_export


@require_safe
@login_required
def months(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    before = request.GET.get("before")
    found = invoices.months_of(
        membership.organization, before=invoices.parse(before) if before else None, limit=LISTED + 1
    )
    context = {
        "membership": membership,
        "months": found[:LISTED],
        "older": found[LISTED - 1].slug if len(found) > LISTED else "",
        "is_first": not before,
        "currency": settings.CURRENCY,
    }
    return render(request, "billing/invoices.html", context)


@require_safe
@login_required
def month(request: HttpRequest, month: str) -> HttpResponse:
    membership = access.page_membership(request)
    statement = invoices.of(membership.organization, invoices.parse(month), now=clock.now())
    context = {
        "membership": membership,
        "statement": statement,
        "by_model": _capped(statement.by_model, "models"),
        "by_key": _capped(statement.by_key, "keys"),
        "plan": subscriptions.of(membership.organization).plan,
        "currency": settings.CURRENCY,
        "made_at": clock.now(),
    }
    return render(request, "billing/invoice.html", context)


@require_safe
@login_required
def file(request: HttpRequest, month: str) -> StreamingHttpResponse:
    organization = access.page_membership(request).organization
    statement = invoices.of(organization, invoices.parse(month), now=clock.now())
    rows = invoices.rows(organization, statement)
    return csv_export.response(f"helixflow-{statement.month.slug}.csv", next(rows), rows)


def _capped(lines: list[Line], what: str) -> list[Line]:
    """The dearest, and one line for the rest of them."""
    if len(lines) <= SHOWN:
        return lines
    rest = Line(f"{len(lines) - SHOWN + 1:,} other {what}")
    for line in lines[SHOWN - 1 :]:
        rest.add(line)
    return [*lines[: SHOWN - 1], rest]


urlpatterns = [
    path("dashboard/billing", months, name="invoices"),
    path("dashboard/billing/<str:month>.csv", file, name="invoice-csv"),
    path("dashboard/billing/<str:month>", month, name="invoice"),
]
