"""The audit log in the dashboard, for owners: a page with filters, and the same as CSV."""

from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import access, audit, audit_log, roles, user_agents
from accounts.audit_forms import AuditFilter
from accounts.models import AuditEvent, Membership
from helixflow.lib import csv_export, ids, paging
from helixflow.lib.errors import InvalidRequest

PAGE: Final = 50
PEOPLE: Final = 50  # whose addresses are offered to filter by


@login_required
@require_safe
@never_cache
def audit_page(request: HttpRequest) -> HttpResponse:
    membership = _reader(request)
    form = AuditFilter(request.GET)
    context: dict[str, Any] = {"form": form, "events": [], "is_filtered": bool(form.query())}
    if form.is_valid():
        context |= _listed(membership, form, request.GET.get("cursor") or None)
    people = membership.organization.memberships.order_by("created_at", "id").values_list("user__email", flat=True)
    context |= {"membership": membership, "people": [*people[:PEOPLE], audit.PLATFORM]}
    return render(request, "accounts/audit.html", context)


@login_required
@require_safe
def audit_csv(request: HttpRequest) -> HttpResponseBase:
    """What the filters choose, all of it. Raises InvalidRequest."""
    membership = _reader(request)
    form = AuditFilter(request.GET)
    if not form.is_valid():
        field, messages = next(iter(form.errors.items()))
        raise InvalidRequest(f"{field}: {messages[0]}", param=field)
    events = audit_log.of_organization(membership.organization, **form.cleaned_data)
    name = f"audit-log-{timezone.now():%Y-%m-%d}.csv"
    return csv_export.response(name, audit_log.CSV_COLUMNS, audit_log.csv_rows(events))


def _reader(request: HttpRequest) -> Membership:
    membership = access.page_membership(request)
    access.require(membership, roles.READ_AUDIT)
    return membership


def _listed(membership: Membership, form: AuditFilter, cursor: str | None) -> dict[str, Any]:
    events = audit_log.of_organization(membership.organization, **form.cleaned_data)
    shown, following = paging.page(events, prefix=ids.AUDIT_EVENT, cursor=cursor, limit=PAGE)
    return {
        "events": [_row(event) for event in shown],
        "older": form.query(cursor=following) if following else "",
        "newest": (form.query() or "group=") if cursor else "",  # a link to "?" alone would be one to nowhere
        "export": form.query(),
    }


def _row(event: AuditEvent) -> dict[str, Any]:
    changes = [(name.replace("_", " "), audit_log.told(a), audit_log.told(b)) for name, (a, b) in event.changes.items()]
    device = user_agents.describe(event.user_agent) if event.user_agent else ""
    return {"event": event, "changes": changes, "device": device}


urlpatterns = [
    path("dashboard/audit", audit_page, name="audit"),
    path("dashboard/audit.csv", audit_csv, name="audit-csv"),
]
