"""The dashboard's pages for deliveries: the log, one delivery with its attempts, sending again, the event catalogue."""

import hashlib
import json
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from accounts.access import page_membership
from accounts.models import Membership
from helixflow.lib import errors, ids, paging
from helixflow.lib.log_forms import RangeForm
from webhooks import access, deliveries, delivery_words, event_guide, payloads
from webhooks.delivery_forms import LogForm, last_day
from webhooks.models import Delivery, DeliveryState, Endpoint

PAGE: Final = 50
ATTEMPTS: Final = 50  # shown of a delivery, the newest

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_safe
@vary_on_headers("HX-Request")
def log(request: HttpRequest) -> HttpResponse:
    """The page, or only its rows where htmx asks whether they have changed since ``seen``.

    204 if they have not, with HX-Refresh where the page has to be another one because there were or are none.
    """
    membership = page_membership(request)
    form = LogForm(membership.organization, request.GET)
    context: dict[str, Any] = {"form": form, "deliveries": [], "endpoint": None}
    if form.is_valid():
        context |= _listed(membership, form, request.GET.get("cursor") or None)
    if _is_htmx(request):
        seen = request.GET.get("seen")
        if seen == context.get("seen"):
            return HttpResponse(status=204)
        if not context["deliveries"] or seen == _seen([]):
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return _render(request, membership, "_rows", context)
    context |= {
        "periods": form.periods if form.is_valid() else [],
        "has_any": bool(context["deliveries"])
        or Delivery.objects.filter(organization=membership.organization).exists(),
        "has_endpoints": bool(form.endpoints) or Endpoint.objects.of(membership.organization).exists(),
    }
    return _render(request, membership, "list", context)


@login_required
@require_safe
@vary_on_headers("HX-Request")
def delivery_detail(request: HttpRequest, delivery_id: str) -> HttpResponse:
    membership = page_membership(request)
    delivery = access.get_delivery(membership, delivery_id)
    seen = _seen([delivery])
    if _is_htmx(request) and request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    body = payloads.body(event_type=delivery.event.type, created_at=delivery.event.created_at, data=delivery.event.data)
    why_not = delivery_words.why_not_again(delivery, manages=membership.manages_keys)
    attempts = list(delivery.attempts.order_by("-id")[:ATTEMPTS])
    context = {
        "delivery": delivery,
        "standing": delivery_words.standing(delivery),
        "body": body.decode(),
        "pretty": _spaced(body),
        "attempts": [
            (delivery.attempt_count - older, attempt, delivery_words.curl(attempt, body))
            for older, attempt in enumerate(attempts)
        ],
        "may_resend": not why_not,
        "why_not": why_not,
        "is_cut": delivery.attempt_count > len(attempts),
        "live": delivery.state == DeliveryState.PENDING,
        "seen": seen,
    }
    return _render(request, membership, "_live" if _is_htmx(request) else "detail", context)


@login_required
@form_view
def delivery_resend(request: HttpRequest, delivery_id: str) -> HttpResponse:
    """By POST. Who comes back here from the login page sees the delivery with its button."""
    membership = page_membership(request)
    delivery = access.get_delivery(membership, delivery_id)
    if request.method == "POST":
        access.require_manager(membership)
        try:
            deliveries.resend(delivery=delivery, user=membership.user)
        except errors.InvalidRequest as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, "It is being sent again, under the same event id.")
    return redirect("webhook-delivery", delivery_id)


@login_required
@form_view
def resend_failed(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    """A GET counts what failed within a range, a POST sends it again."""
    membership = page_membership(request)
    access.require_manager(membership)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        form = RangeForm(request.GET) if "since" in request.GET else RangeForm(last_day())
        return _range_page(request, membership, endpoint, form)
    form = RangeForm(request.POST)
    if not form.is_valid():
        return _range_page(request, membership, endpoint, form)
    try:
        count = deliveries.resend_failed(endpoint=endpoint, user=membership.user, **form.cleaned_data)
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
        return redirect("webhook-resend-failed", endpoint_id)
    if count:
        messages.success(request, f"{_deliveries(count)} {'is' if count == 1 else 'are'} being sent again.")
    else:
        messages.info(request, "Nothing failed in that time, so nothing was sent again.")
    return redirect(_log_of(endpoint))


@login_required
@require_safe
def events(request: HttpRequest) -> HttpResponse:
    membership = page_membership(request)
    now = timezone.now().replace(microsecond=0)
    context = {
        "guides": [(guide, *_example(membership, guide, now)) for guide in event_guide.GUIDES],
        "endpoints": list(Endpoint.objects.of(membership.organization).order_by("-id")),
        "headers": event_guide.HEADERS,
    }
    return render(request, "webhooks/events.html", {"membership": membership, **context})


def _listed(membership: Membership, form: LogForm, cursor: str | None) -> dict[str, Any]:
    """One page of the log. Raises InvalidRequest for a cursor that is none of ours."""
    rows = deliveries.log(membership.organization, **form.values())
    shown, following = paging.page(rows, prefix=ids.DELIVERY, cursor=cursor, limit=PAGE)
    pending = any(delivery.state == DeliveryState.PENDING for delivery in shown)
    newest = form.query() or "period="  # a link to "?" alone would be one to nowhere
    return {
        "deliveries": shown,
        "endpoint": form.chosen_endpoint,
        "refresh_s": 3 if pending else 5,
        # Older pages change only while something on them is pending; the newest gets new rows.
        "live": pending or cursor is None,
        "seen": _seen(shown),
        "here": form.query(**({"cursor": cursor} if cursor else {})),
        "older": form.query(cursor=following) if following else "",
        "newest": newest if cursor else "",
        "is_filtered": bool(form.query()),
    }


def _seen(shown: list[Delivery]) -> str:
    """Differs as soon as something that the page says about these does."""
    told = [
        (
            delivery.id.hex,
            *delivery_words.badge(delivery),
            delivery.attempt_count,
            delivery.last_status,
            str(delivery.next_attempt_at),
            delivery.next_attempt_at is not None and delivery.next_attempt_at <= timezone.now(),
        )
        for delivery in shown
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _range_page(request: HttpRequest, membership: Membership, endpoint: Endpoint, form: RangeForm) -> HttpResponse:
    context: dict[str, Any] = {"endpoint": endpoint, "form": form, "count": None, "back": _log_of(endpoint)}
    if form.is_valid():
        failed = deliveries.log(
            membership.organization, endpoint=endpoint, state=DeliveryState.FAILED, **form.cleaned_data
        )
        count = failed.filter(test=False).count()
        context |= {"count": count, "deliveries": _deliveries(count), "exact": _exact(form)}
    return _render(request, membership, "resend_failed", context)


def _log_of(endpoint: Endpoint) -> str:
    return f"{reverse('webhook-deliveries')}?endpoint={endpoint.public_id}"


def _exact(form: RangeForm) -> dict[str, str]:
    """What was counted, for the form that sends it."""
    return {name: f"{form.cleaned_data[name]:%Y-%m-%dT%H:%M:%S}" for name in ("since", "until")}


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count:,} deliveries"


def _example(membership: Membership, guide: event_guide.Guide, now: datetime) -> tuple[str, str]:
    """The body of an example as it would be sent, and the same for reading."""
    data = payloads.example(guide.type, membership.organization.public_id)
    body = payloads.body(event_type=guide.type, created_at=now, data=data)
    return body.decode(), _spaced(body)


def _spaced(body: bytes) -> str:
    return json.dumps(json.loads(body), indent=2, ensure_ascii=False)


def _is_htmx(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


def _render(request: HttpRequest, membership: Membership, page: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, f"webhooks/deliveries/{page}.html", {"membership": membership, **context})


urlpatterns = [
    path("dashboard/webhooks/deliveries", log, name="webhook-deliveries"),
    path("dashboard/webhooks/deliveries/<str:delivery_id>", delivery_detail, name="webhook-delivery"),
    path("dashboard/webhooks/deliveries/<str:delivery_id>/resend", delivery_resend, name="webhook-delivery-resend"),
    path("dashboard/webhooks/<str:endpoint_id>/resend-failed", resend_failed, name="webhook-resend-failed"),
    path("dashboard/webhooks/events", events, name="webhook-events"),
]
