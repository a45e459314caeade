"""Exports of an organization's data, for its owners: asking for one, watching it grow, fetching it."""

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods

from accounts import access, exporting, exports, roles
from accounts.models import Membership


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def export_list(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.EXPORT)
    if request.method == "POST":
        exports.request(by=membership)
        return redirect("exports")
    return render(request, "accounts/exports.html", _context(membership))


@login_required
@require_GET
def export_rows(request: HttpRequest) -> HttpResponse:
    """The part of the page that moves, while one is under way. Who comes without htmx, as after a login: the page."""
    membership = access.page_membership(request)
    access.require(membership, roles.EXPORT)
    if "HX-Request" not in request.headers:
        return redirect("exports")
    return render(request, "accounts/_exports.html", _context(membership))


@login_required
@require_GET
def download(request: HttpRequest, export_id: str) -> FileResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.EXPORT)
    export = access.get_export(membership, export_id)
    file = exports.open_file(by=membership, export=export)
    name = f"{slugify(membership.organization.name) or 'helixflow'}-{export.created_at:%Y-%m-%d}.zip"
    response = FileResponse(file, as_attachment=True, filename=name, content_type="application/zip")
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    return response


def _context(membership: Membership) -> dict[str, object]:
    rows = list(exports.of(membership.organization)[: exports.MAX_KEPT])
    return {
        "membership": membership,
        "exports": [(export, exports.is_ready(export)) for export in rows],
        "under_way": any(export.state in exports.UNDER_WAY for export in rows),
        "days": exporting.LIFETIME.days,
        "contents_days": membership.organization.contents_days,
    }


urlpatterns = [
    path("dashboard/settings/exports", export_list, name="exports"),
    path("dashboard/settings/exports/rows", export_rows, name="export-rows"),
    path("dashboard/settings/exports/<str:export_id>", download, name="export-download"),
]
