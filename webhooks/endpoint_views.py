"""The dashboard's pages for webhook endpoints. A secret is rendered once, in the answer to the form that made it."""

from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import once
from accounts.access import memberships, page_membership
from accounts.models import ApiKey, Membership
from helixflow.lib import errors, ids, paging
from webhooks import access, deliveries, endpoints
from webhooks.forms import EndpointForm, NewEndpointForm, SendTestForm
from webhooks.models import Delivery, DeliveryState, Endpoint, EventType

PAGE: Final = 50
RECENT: Final = 10  # deliveries shown beside an endpoint
USED_FORMS: Final = "webhook_forms"  # where a session remembers the creation forms it has seen
LATE: Final = timedelta(seconds=15)  # after this a test that nobody has sent yet is remarked on
POLL_S: Final = (1, 10)  # how often the page of a test looks again: at first, and once it waits for long
LINKS: Final = (("endpoint", "webhook"), ("rotate", "webhook-rotate"), ("finish", "webhook-finish-rotation"))

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_GET
def endpoint_list(request: HttpRequest) -> HttpResponse:
    membership = page_membership(request)
    every = Endpoint.objects.of(membership.organization)
    cursor = request.GET.get("cursor") or None
    shown, following = paging.page(every, prefix=ids.WEBHOOK, cursor=cursor, limit=PAGE)
    statistics = deliveries.statistics([endpoint.id for endpoint in shown])
    context = {
        "memberships": memberships(membership.user),
        "rows": [(endpoint, statistics[endpoint.id]) for endpoint in shown],
        "disabled": list(every.disabled_by_platform()),
        "older": f"cursor={following}" if following else "",
        "newest": "cursor=" if cursor else "",
    }
    return _render(request, membership, "list", context)


@login_required
@form_view
@never_cache
def endpoint_new(request: HttpRequest) -> HttpResponse:
    membership = _manager(request)
    organization = membership.organization
    if request.method != "POST":
        form = NewEndpointForm(organization)
        form.initial = {"events": EventType.values, "once": once.new_token()}
        return _render(request, membership, "new", {"form": form})
    sent = request.POST.copy()
    form = NewEndpointForm(organization, sent)
    if form.is_valid():
        if not once.use(request.session, USED_FORMS, form.cleaned_data["once"]):
            messages.info(request, "This form was sent before. A secret is shown once: rotate it for a new one.")
            return redirect("webhooks")
        try:
            endpoint, secret = endpoints.create(organization=organization, user=membership.user, **form.values())
        except (errors.InvalidRequest, errors.RateLimitExceeded, errors.ServiceUnavailable) as error:
            form.add_problems(error)
            sent["once"] = once.new_token()
        else:
            return _secret(request, membership, endpoint, secret)
    return _render(request, membership, "new", {"form": form})


@login_required
@form_view
def endpoint_detail(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = page_membership(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        form = EndpointForm(membership.organization, endpoint=endpoint)
        return _detail(request, membership, endpoint, form)
    access.require_manager(membership)
    form = EndpointForm(membership.organization, request.POST, endpoint=endpoint)
    if form.is_valid():
        try:
            endpoints.update(endpoint=endpoint, user=membership.user, **form.changes())
        except (errors.InvalidRequest, errors.ServiceUnavailable) as error:
            form.add_problems(error)
        else:
            messages.success(request, "Endpoint saved.")
            return redirect("webhook", endpoint_id)
    return _detail(request, membership, endpoint, form)


@login_required
@form_view
@never_cache
def endpoint_rotate(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        return _render(request, membership, "rotate", {"endpoint": endpoint})
    try:
        rotated, secret = endpoints.rotate_secret(endpoint=endpoint, user=membership.user)
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
        return redirect("webhook", endpoint_id)
    return _secret(request, membership, rotated, secret)


@login_required
@form_view
def endpoint_finish_rotation(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        return _render(request, membership, "finish_rotation", {"endpoint": endpoint})
    endpoints.finish_rotation(endpoint=endpoint, user=membership.user)
    messages.success(request, "The rotation is finished: only the new secret signs from now on.")
    return redirect("webhook", endpoint_id)


@login_required
@require_POST
def endpoint_enable(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    endpoints.enable(endpoint=endpoint, user=membership.user)
    messages.success(request, "Enabled. Deliveries that waited are sent now.")
    return redirect("webhook", endpoint_id)


@login_required
@form_view
def endpoint_disable(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        return _render(request, membership, "disable", {"endpoint": endpoint, "waiting": _waiting(endpoint)})
    endpoints.disable(endpoint=endpoint, user=membership.user)
    messages.success(request, "Disabled. No new events are written for it, and what waits is kept.")
    return redirect("webhook", endpoint_id)


@login_required
@form_view
def endpoint_delete(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    if request.method != "POST":
        return _render(request, membership, "delete", {"endpoint": endpoint, "waiting": _waiting(endpoint)})
    endpoints.delete(endpoint=endpoint, user=membership.user)
    messages.success(request, "The endpoint is deleted. The log of its deliveries stays for a while.")
    return redirect("webhooks")


@login_required
@form_view
def endpoint_test(request: HttpRequest, endpoint_id: str) -> HttpResponse:
    """Sends a test event and shows what came of it: the page asks for itself again until the delivery has ended."""
    membership = _manager(request)
    endpoint = access.get_endpoint(membership, endpoint_id)
    form = SendTestForm(request.POST or None, initial={"event": request.GET.get("event")})
    if request.method == "POST" and form.is_valid():
        try:
            sent = deliveries.send_test(endpoint=endpoint, user=membership.user, event_type=form.cleaned_data["event"])
        except (errors.InvalidRequest, errors.RateLimitExceeded) as refused:
            form.add_error(None, refused.message)
        else:
            return redirect(f"{reverse('webhook-test', args=[endpoint_id])}?delivery={sent.public_id}")
    delivery = _tested(membership, endpoint, request.GET.get("delivery"))
    context = {"endpoint": endpoint, "form": form, "delivery": delivery}
    if delivery is not None:
        progress = _progress(delivery)
        if request.headers.get("HX-Request") and request.GET.get("shown") == progress:
            return HttpResponse(status=204)  # htmx leaves the page as it is, and screen readers hear nothing twice
        form.initial["event"] = delivery.event.type
        context |= {
            "progress": progress,
            "attempt": delivery.attempts.order_by("-id").first(),
            "poll_s": POLL_S[progress == "late"],
        }
    return _render(request, membership, "test", context)


def _detail(request: HttpRequest, membership: Membership, endpoint: Endpoint, form: EndpointForm) -> HttpResponse:
    organization = membership.organization
    figures = deliveries.statistics([endpoint.id])[endpoint.id]
    context = {
        "endpoint": endpoint,
        "form": form,
        "test_form": SendTestForm(),
        "disabled": [endpoint] if endpoint.is_disabled_by_platform else [],
        "keys": ApiKey.objects.of(organization).filter(id__in=endpoint.api_key_ids or []).order_by("-id"),
        "statistics": figures,
        "attempts_note": f"Of {figures.attempts:,} attempts, 24 hours"
        if figures.attempts
        else "No attempts in 24 hours",
        "recent": deliveries.log(organization, endpoint=endpoint).order_by("-id")[:RECENT],
    }
    return _render(request, membership, "detail", context)


def _secret(request: HttpRequest, membership: Membership, endpoint: Endpoint, secret: str) -> HttpResponse:
    context = {"endpoint": endpoint, "secret": secret, "test_form": SendTestForm()}
    return _render(request, membership, "secret", context)


def _waiting(endpoint: Endpoint) -> int:
    return endpoint.deliveries.filter(state=DeliveryState.PENDING).count()


def _tested(membership: Membership, endpoint: Endpoint, delivery_id: str | None) -> Delivery | None:
    """The test delivery that the page is about. Raises NotFound for anything else's id."""
    if delivery_id is None:
        return None
    delivery = access.get_delivery(membership, delivery_id)
    if delivery.endpoint_id != endpoint.id or not delivery.test:
        raise errors.NotFound("This endpoint has no test delivery with this id.")
    return delivery


def _progress(delivery: Delivery) -> str:
    """``waiting``, ``late`` (still waiting), ``sent``, or how it ended."""
    if delivery.state != DeliveryState.PENDING:
        return str(delivery.state)
    now = timezone.now()
    if delivery.leased_until is not None and delivery.leased_until > now:
        return "sent"
    return "late" if now - delivery.created_at > LATE else "waiting"


def _manager(request: HttpRequest) -> Membership:
    membership = page_membership(request)
    access.require_manager(membership)
    return membership


def _render(request: HttpRequest, membership: Membership, page: str, context: dict[str, Any]) -> HttpResponse:
    endpoint = context.get("endpoint")
    links = {} if endpoint is None else {f"{name}_page": reverse(url, args=[endpoint.public_id]) for name, url in LINKS}
    context = {"membership": membership, "manages": membership.manages_keys, **links, **context}
    return render(request, f"webhooks/{page}.html", context)


urlpatterns = [
    path("dashboard/webhooks", endpoint_list, name="webhooks"),
    path("dashboard/webhooks/new", endpoint_new, name="webhook-new"),
    path("dashboard/webhooks/<str:endpoint_id>", endpoint_detail, name="webhook"),
    path("dashboard/webhooks/<str:endpoint_id>/rotate", endpoint_rotate, name="webhook-rotate"),
    path(
        "dashboard/webhooks/<str:endpoint_id>/finish-rotation",
        endpoint_finish_rotation,
        name="webhook-finish-rotation",
    ),
    path("dashboard/webhooks/<str:endpoint_id>/enable", endpoint_enable, name="webhook-enable"),
    path("dashboard/webhooks/<str:endpoint_id>/disable", endpoint_disable, name="webhook-disable"),
    path("dashboard/webhooks/<str:endpoint_id>/delete", endpoint_delete, name="webhook-delete"),
    path("dashboard/webhooks/<str:endpoint_id>/test", endpoint_test, name="webhook-test"),
]
