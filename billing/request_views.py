"""The dashboard's pages for single requests: the log, and the receipt of one."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from accounts.access import page_membership
from accounts.models import ApiKey, Membership, Organization
from billing import prices
from billing.api.requests import completion_id, represent_receipt
from billing.metering.announcing import explain
from billing.models import STARTER_PER_MINUTE, STARTER_PER_MONTH, KeyLimits, Price, SubscriptionChange, UsageRecord
from billing.reports import receipts, standing, timings
from billing.request_forms import LogForm
from helixflow.lib import errors, ids, paging

PAGE: Final = 50
LABELS: Final = {
    "input": "Input",
    "cached_input": "Cached input",
    "cache_write": "Cache write",
    "input_audio": "Audio input",
    "output": "Output",
    "reasoning": "Reasoning",
    "output_audio": "Audio output",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One class of tokens; ``per_million`` and ``cost`` are None without a price."""

    label: str
    tokens: int
    per_million: Decimal | None
    cost: Decimal | None


@login_required
@require_safe
@vary_on_headers("HX-Request")
def log(request: HttpRequest) -> HttpResponse:
    """The page, or only its rows where htmx asks whether there are newer ones than ``seen``: 204 if not."""
    membership = page_membership(request)
    form = LogForm(membership.organization, request.GET)
    if form.is_valid() and form.cleaned_data["q"]:
        address = _found(membership, form)
        if address and _is_htmx(request):
            return HttpResponse(status=204, headers={"HX-Redirect": address})
        if address:
            return redirect(address)
    cursor = request.GET.get("cursor") or None
    context: dict[str, Any] = {"form": form, "records": [], "currency": settings.CURRENCY}
    if form.is_valid():
        context |= _listed(membership, form, cursor)
    seen = request.GET.get("seen")
    if seen is not None and _is_htmx(request):
        if seen == context.get("seen"):
            return HttpResponse(status=204)
        if not context["records"] or not seen:
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return _render(request, membership, "_rows", context)
    context |= {
        "periods": form.periods if form.is_valid() else [],
        "has_any": bool(context["records"]) or receipts.search(membership.organization_id).exists(),
    }
    return _render(request, membership, "list", context)


@login_required
@require_safe
@vary_on_headers("HX-Request")
def detail(request: HttpRequest, request_id: str) -> HttpResponse:
    """The receipt. Of a request that may be recorded in a moment, a page that looks again by itself; its status is
    404 until then."""
    membership = page_membership(request)
    try:
        record = receipts.get(membership.organization_id, request_id)
    except receipts.NotYet as not_yet:
        if _is_htmx(request):
            return HttpResponse(status=204)
        return _render(request, membership, "waiting", {"request_id": request_id, "reason": not_yet.message}, 404)
    if _is_htmx(request):  # it had been waited for
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    if request_id != record.public_id:
        return redirect("request", record.public_id)
    return _render(request, membership, "detail", _receipt(membership.organization, record))


def _found(membership: Membership, form: LogForm) -> str:
    """The page of the request that was searched for by its id; empty, and a word at the field, if it isn't there."""
    try:
        record = receipts.get(membership.organization_id, form.cleaned_data["q"])
    except errors.NotFound as missing:
        form.add_error("q", missing.message)
        return ""
    return reverse("request", args=[record.public_id])


def _listed(membership: Membership, form: LogForm, cursor: str | None) -> dict[str, Any]:
    """One page of the log. Raises InvalidRequest for a cursor that is none of ours."""
    rows = receipts.search(membership.organization_id, **form.values())
    records, following = paging.page(rows, prefix=ids.REQUEST, cursor=cursor, limit=PAGE)
    keys = ApiKey.objects.in_bulk({record.api_key_id for record in records})
    return {
        "records": [(record, keys.get(record.api_key_id)) for record in records],
        "live": cursor is None,  # older pages don't change
        "seen": records[0].public_id if records else "",
        "here": form.query(),
        "older": form.query(cursor=following) if following else "",
        "newest": (form.query() or "period=") if cursor else "",
        "is_filtered": bool(form.query()),
    }


def _receipt(organization: Organization, record: UsageRecord) -> dict[str, Any]:
    keys = ApiKey.objects.select_related("created_by", "limits")
    key = keys.filter(organization=organization, id=record.api_key_id).first()
    price = receipts.price_of(record)
    shown = represent_receipt(record, {key.id: key} if key else {}, price)
    lines = _lines(record, price)
    return {
        "record": record,
        "key": key,
        "key_id": ids.public_id(ids.API_KEY, record.api_key_id),
        "made_by": key.created_by if key else None,
        "completion_id": completion_id(record),
        "explanation": explain(record.error_code),
        "lines": lines,
        "total": record.prompt_tokens + record.completion_tokens,
        "price": price,
        "currency": record.currency or settings.CURRENCY,
        "bars": timings.bars(record),
        "limits": _limits(receipts.terms_then(record)),
        "key_limits": _limits_of_key(key),
        "events": receipts.events_of(record),
        "json": json.dumps({"data": shown}, indent=2, ensure_ascii=False),
        "api_path": f"/requests/{record.public_id}",
        "support": f"/support?request={record.public_id}",
    }


def _lines(record: UsageRecord, price: Price | None) -> list[Line]:
    """Of the classes that occur."""
    costs = receipts.cost_by_class(record, price) if price else {}
    return [
        Line(LABELS[name], count, prices.rate(price, name) if price else None, costs.get(name))
        for name, count in receipts.tokens_of(record).items()
    ]


def _limits(terms: SubscriptionChange | None) -> list[tuple[str, str]]:
    """As agreed at the time. Numbers that a plan has were not the subscription's own: they are the plan's today."""
    plan, minute, month = "Starter", _number(STARTER_PER_MINUTE), _number(STARTER_PER_MONTH)
    if terms is not None:
        minute = _number(terms.requests_per_minute or terms.plan.requests_per_minute)
        month = _number(terms.requests_per_month or terms.plan.requests_per_month)
        plan = terms.plan.name
    found = [("Plan", plan), ("Requests per minute", minute), ("Requests per month", month)]
    if terms is not None and terms.max_parallel is not None:
        found.append(("Parallel requests", _number(terms.max_parallel)))
    if terms is not None and terms.monthly_budget is not None:
        found.append(("Monthly budget", standing.with_unit(terms.monthly_budget)))
    return found


def _limits_of_key(key: ApiKey | None) -> list[tuple[str, str]]:
    """Those in force now: their history is in the audit log alone."""
    own: KeyLimits | None = getattr(key, "limits", None)
    if own is None:
        return []
    given = [
        ("Requests per minute", own.requests_per_minute),
        ("Requests per month", own.requests_per_month),
        ("Monthly budget", own.monthly_budget),
    ]
    return [(label, standing.with_unit(amount)) for label, amount in given if amount is not None]


def _number(limit: int | None) -> str:
    return "none" if limit is None else f"{limit:,}"


def _is_htmx(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


def _render(
    request: HttpRequest, membership: Membership, page: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    return render(request, f"billing/requests/{page}.html", {"membership": membership, **context}, status=status)


urlpatterns = [
    path("dashboard/requests", log, name="requests"),
    path("dashboard/requests/<str:request_id>", detail, name="request"),
]
