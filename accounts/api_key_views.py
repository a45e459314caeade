"""The dashboard's pages for API keys. A secret is rendered once, in the answer to the form that made it."""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import access, api_keys, once
from accounts.api_key_forms import ApiKeyForm, NewApiKeyForm, RotationForm, initial_of
from accounts.models import ApiKey, Environment, Membership
from helixflow.lib import errors, ids, paging

PAGE: Final = 50
USED_FORMS: Final = "api_key_forms"  # where a session remembers the creation forms it has seen

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_GET
def key_list(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    every = request.GET.get("show") == "all"
    keys = ApiKey.objects.of(membership.organization).select_related("created_by")
    cursor = request.GET.get("cursor")
    shown, following = paging.page(keys if every else keys.usable(), prefix=ids.API_KEY, cursor=cursor, limit=PAGE)
    show = "all" if every else "active"
    context = {
        "memberships": access.memberships(membership.user),
        "keys": shown,
        "every": every,
        "older": f"show={show}&cursor={following}" if following else "",
        "newest": f"show={show}" if cursor else "",
        "has_others": not shown and not every and keys.exists(),
    }
    return _render(request, membership, "list", context)


@login_required
@form_view
@never_cache
def key_new(request: HttpRequest) -> HttpResponse:
    membership = _manager(request)
    if request.method != "POST":
        form = NewApiKeyForm(initial={"environment": Environment.DEVELOPMENT, "once": once.new_token()})
        return _render(request, membership, "new", {"form": form})
    sent = request.POST.copy()
    form = NewApiKeyForm(sent)
    if form.is_valid():
        if not once.use(request.session, USED_FORMS, form.cleaned_data["once"]):
            messages.info(request, "This key exists already, and its secret was shown once. Rotate it for a new one.")
            return redirect("api-keys")
        try:
            key, secret = api_keys.create(organization=membership.organization, user=membership.user, **form.values())
        except errors.InvalidRequest as error:
            form.add_problems(error)
            sent["once"] = once.new_token()
        else:
            return _created(request, membership, key, secret)
    return _render(request, membership, "new", {"form": form})


@login_required
@form_view
def key_detail(request: HttpRequest, key_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    key = access.get_api_key(membership, key_id)
    if request.method != "POST":
        return _render(request, membership, "detail", {"key": key, "form": ApiKeyForm(initial=initial_of(key))})
    access.require_key_manager(membership)
    form = ApiKeyForm(request.POST, initial=initial_of(key))
    if form.is_valid():
        try:
            changed = api_keys.update(key=key, user=membership.user, **form.changes())
        except errors.InvalidRequest as error:
            form.add_problems(error)
        else:
            messages.success(request, f"“{changed.name}” saved.")
            return redirect("api-key", key_id)
    return _render(request, membership, "detail", {"key": key, "form": form})


@login_required
@form_view
@never_cache
def key_rotate(request: HttpRequest, key_id: str) -> HttpResponse:
    membership = _manager(request)
    key = access.get_api_key(membership, key_id)
    form = RotationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        grace = timedelta(days=form.cleaned_data["grace_days"])
        try:
            successor, secret = api_keys.rotate(key=key, user=membership.user, grace=grace)
        except errors.InvalidRequest as error:
            messages.error(request, error.message)
            return redirect("api-key", key_id)
        key.refresh_from_db()
        return _created(request, membership, successor, secret, replaced=key)
    return _render(request, membership, "rotate", {"key": key, "form": form})


@login_required
@form_view
def key_revoke(request: HttpRequest, key_id: str) -> HttpResponse:
    membership = _manager(request)
    key = access.get_api_key(membership, key_id)
    if request.method != "POST":
        return _render(request, membership, "revoke", {"key": key})
    api_keys.revoke(key=key, user=membership.user)
    messages.success(request, f"“{key.name}” is revoked.")
    return redirect("api-keys")


def _created(
    request: HttpRequest, membership: Membership, key: ApiKey, secret: str, replaced: ApiKey | None = None
) -> HttpResponse:
    model = key.allowed_models[0] if key.allowed_models else settings.EXAMPLE_MODEL
    key_page = reverse("api-key", args=[key.public_id])
    context = {"key": key, "secret": secret, "replaced": replaced, "model": model, "key_page": key_page}
    return _render(request, membership, "created", context)


def _manager(request: HttpRequest) -> Membership:
    membership = access.page_membership(request)
    access.require_key_manager(membership)
    return membership


def _render(request: HttpRequest, membership: Membership, page: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, f"accounts/api_keys/{page}.html", {"membership": membership, **context})


urlpatterns = [
    path("dashboard/api-keys", key_list, name="api-keys"),
    path("dashboard/api-keys/new", key_new, name="api-key-new"),
    path("dashboard/api-keys/<str:key_id>", key_detail, name="api-key"),
    path("dashboard/api-keys/<str:key_id>/rotate", key_rotate, name="api-key-rotate"),
    path("dashboard/api-keys/<str:key_id>/revoke", key_revoke, name="api-key-revoke"),
]
