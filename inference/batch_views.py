"""The dashboard's pages for batches: the list, one with its progress and requests, files to fetch, a new one."""

import hashlib
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from accounts import access, impersonation, once, roles
from accounts.models import Membership
from helixflow.lib import errors, ids, paging
from inference.batch import batches, files, reading, words
from inference.batch_forms import FilterForm, NewBatchForm
from inference.batch_models import ENDED, Batch, ItemState, Operation

PAGE: Final = 50
ITEMS: Final = 50
PROBLEMS: Final = 100  # lines of a file that are shown
USED_FORMS: Final = "batch_forms"  # where a session remembers the forms it has sent
STATES: Final = (
    ("", "All"),
    (ItemState.FAILED, "Failed"),
    (ItemState.COMPLETED, "Answered"),
    (ItemState.WAITING, "Waiting"),
)
FILES: Final = (("output", "Results"), ("errors", "Errors"), ("input", "Input"))

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_safe
@vary_on_headers("HX-Request")
def batch_list(request: HttpRequest) -> HttpResponse:
    """The page, or only its rows where a page asks whether they have changed since ``seen``: 204 if not."""
    membership = access.page_membership(request)
    form = FilterForm(membership.organization, request.GET)
    cursor = request.GET.get("cursor") or None
    shown: list[Batch] = []
    following = None
    if form.is_valid():
        rows = reading.batches(membership.organization, **form.values())
        shown, following = paging.page(rows, prefix=ids.BATCH, cursor=cursor, limit=PAGE)
    seen = _seen(*shown)
    if "HX-Request" in request.headers and request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    kept = {name: request.GET[name] for name in ("status", "key") if request.GET.get(name)}
    here = kept | ({"cursor": cursor} if cursor else {})
    context = {
        "form": form,
        "batches": shown,
        "live": any(batch.is_open for batch in shown) or (bool(shown) and not cursor),
        "seen": seen,
        "here": urlencode(here),
        "older": urlencode(kept | {"cursor": following}) if following else "",
        "newest": (urlencode(kept) or "status=") if cursor else "",
        "model": settings.EXAMPLE_MODEL,
        "has_any": bool(shown) or reading.batches(membership.organization).exists(),
    }
    page = "_rows" if "HX-Request" in request.headers and shown else "list"
    return _render(request, membership, page, context)


@login_required
@require_safe
@vary_on_headers("HX-Request")
def batch_detail(request: HttpRequest, batch_id: str) -> HttpResponse:
    """The page, or only what moves. A batch that has ended meanwhile is shown anew as a whole."""
    membership = access.page_membership(request)
    batch = reading.get(membership.organization, batch_id)
    if "HX-Request" in request.headers:
        if request.GET.get("seen") == _seen(batch):
            return HttpResponse(status=204)
        if not batch.is_open:
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return _render(request, membership, "_live", _moving(batch))
    return _render(request, membership, "detail", _moving(batch) | _items(request, batch))


@login_required
@require_safe
def batch_request(request: HttpRequest, batch_id: str, position: int) -> HttpResponse:
    """What one request asked and was answered. Everybody in the organization may read it; support may not."""
    membership = access.page_membership(request)
    item = reading.item(reading.get(membership.organization, batch_id), position)
    withheld = impersonation.is_view(membership)
    context = {
        "batch": item.batch,
        "item": item,
        "advice": words.ERRORS.get(item.error_code, ""),
        "withheld": withheld,
        "exchange": None if withheld else reading.exchange(item),
        "previous": max(position - 1, 0),
        "next": position + 1,
    }
    return _render(request, membership, "item", context)


@login_required
@require_safe
def batch_file(request: HttpRequest, batch_id: str, kind: str) -> StreamingHttpResponse:
    """Raises NotFound, and AuthorizationFailed for support."""
    membership = access.page_membership(request)
    batch = reading.get(membership.organization, batch_id)
    if impersonation.is_view(membership):
        raise errors.AuthorizationFailed("What batches hold is not shown to support.")
    file = reading.file_of(batch, kind)
    response = StreamingHttpResponse(files.chunks(file), content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{batch.public_id}-{kind}.jsonl"'
    response["Content-Length"] = str(file.size_bytes)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    response.organization_id = file.organization_id  # type: ignore[attr-defined]  # the server sends each few at once
    return response


@login_required
@form_view
def batch_new(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.RUN_BATCHES)
    organization = membership.organization
    if request.method != "POST":
        form = NewBatchForm(organization, initial={"once": once.new_token()})
        return _new(request, membership, form)
    sent = request.POST.copy()
    form = NewBatchForm(organization, sent, request.FILES)
    if form.is_valid():
        if not once.use(request.session, USED_FORMS, form.cleaned_data["once"]):
            messages.info(request, "This form was sent before: here is what came of it.")
            return redirect("batches")
        try:
            batch = _create(membership, form)
        except errors.HelixError as refused:
            form.add_problems(refused)
            sent["once"] = once.new_token()
        else:
            messages.success(request, "The batch has begun.")
            return redirect("batch", batch.public_id)
    return _new(request, membership, form)


@login_required
@form_view
def batch_cancel(request: HttpRequest, batch_id: str) -> HttpResponse:
    """By POST. Who comes back here from the login page sees the batch with its button."""
    membership = access.page_membership(request)
    batch = reading.get(membership.organization, batch_id)
    if request.method == "POST":
        access.require(membership, roles.RUN_BATCHES)
        try:
            batches.cancel(organization_id=batch.organization_id, public_id=batch_id)
        except errors.InvalidRequest as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, "It is being cancelled. What is under way is still answered.")
    return redirect("batch", batch_id)


@login_required
@form_view
def batch_retry(request: HttpRequest, batch_id: str) -> HttpResponse:
    """By POST, as ``batch_cancel``: leads to the new batch."""
    membership = access.page_membership(request)
    batch = reading.get(membership.organization, batch_id)
    if request.method == "POST":
        access.require(membership, roles.RUN_BATCHES)
        try:
            again = batches.retry(batch=batch, api_key_id=reading.key_for(batch).id)
        except errors.HelixError as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, "A new batch of those that failed has begun.")
            return redirect("batch", again.public_id)
    return redirect("batch", batch_id)


def _moving(batch: Batch) -> dict[str, Any]:
    there = reading.files(batch)
    return {
        "batch": batch,
        "standing": words.standing(batch),
        "seen": _seen(batch),
        "tokens": batch.prompt_tokens + batch.completion_tokens,
        "token_note": f"{batch.prompt_tokens:,} in, {batch.completion_tokens:,} out",
        "problems": batch.errors[:PROBLEMS],
        "codes": [(code, count, words.ERRORS.get(code, "")) for code, count in reading.error_codes(batch)],
        "ended_at": words.ended_at(batch),
        "retries": reading.retries(batch),
        "metadata": sorted((batch.metadata or {}).items()),
        "files": [(kind, label, there[kind]) for kind, label in FILES if kind in there],
    }


def _items(request: HttpRequest, batch: Batch) -> dict[str, Any]:
    state, after = request.GET.get("state", ""), request.GET.get("after", "")
    if state not in {value for value, _ in STATES}:
        raise errors.InvalidRequest("There is no such state of requests.", param="state")
    if after and not (after.isascii() and after.isdigit() and len(after) <= 9):
        raise errors.InvalidRequest("This page is none of ours: begin with the first one.", param="after")
    rows = list(reading.items(batch, state=state, after=int(after) if after else -1)[: ITEMS + 1])
    kept = {"state": state} if state else {}
    following = urlencode(kept | {"after": rows[ITEMS - 1].position}) if len(rows) > ITEMS else ""
    for row in rows:
        row.batch = batch
    return {
        "items": rows[:ITEMS],
        "state": state,
        "views": [(value, label, urlencode({"state": value})) for value, label in STATES],
        "first": (urlencode(kept) or "state=") if after else "",
        "following": following,
        "is_dropped": batch.status in ENDED and batch.total > 0 and not after,
    }


def _create(membership: Membership, form: NewBatchForm) -> Batch:
    return batches.create_inline(
        organization_id=membership.organization_id,
        api_key_id=form.api_key.id,
        requests=form.requests,
        operation=Operation(form.cleaned_data["operation"]),
    )


def _new(request: HttpRequest, membership: Membership, form: NewBatchForm) -> HttpResponse:
    context = {"form": form, "has_keys": bool(form.keys), "model": settings.EXAMPLE_MODEL}
    return _render(request, membership, "new", context)


def _seen(*shown: Batch) -> str:
    """A short name for how they look."""
    now = timezone.now()
    looks = [
        (each.public_id, each.status, each.settled, each.waits_for, bool(each.waits_until and each.waits_until > now))
        for each in shown
    ]
    return hashlib.sha256(repr(looks).encode()).hexdigest()[:16]


def _render(request: HttpRequest, membership: Membership, page: str, context: dict[str, Any]) -> HttpResponse:
    shared = {
        "membership": membership,
        "currency": settings.CURRENCY,
        "may_run": access.may(membership, roles.RUN_BATCHES),
    }
    return render(request, f"inference/batches/{page}.html", shared | context)


urlpatterns = [
    path("dashboard/batches", batch_list, name="batches"),
    path("dashboard/batches/new", batch_new, name="batch-new"),  # before ids
    path("dashboard/batches/<str:batch_id>", batch_detail, name="batch"),
    path("dashboard/batches/<str:batch_id>/cancel", batch_cancel, name="batch-cancel"),
    path("dashboard/batches/<str:batch_id>/retry", batch_retry, name="batch-retry"),
    path("dashboard/batches/<str:batch_id>/files/<str:kind>", batch_file, name="batch-file"),
    path("dashboard/batches/<str:batch_id>/requests/<int:position>", batch_request, name="batch-request"),
]
