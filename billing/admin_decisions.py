"""Requests for another plan and granted quota, of all organizations: what waits, and what was decided. They are decided
on the organization's page (``billing.admin_desk``).
"""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.plan_models import QuotaGrant, UpgradeRequest
from helixflow.lib import ids
from helixflow.lib.admin import ReadOnlyAdmin


class DecisionAdmin(ReadOnlyAdmin):
    search_fields = ("organization__name", "organization__memberships__user__email")
    search_help_text = "Id (org-…) or name of an organization, or a member's e-mail."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            organization_id = ids.parse_public_id(ids.ORGANIZATION, search_term.strip())
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(organization_id=organization_id), False

    @admin.display(description="organization")
    def desk(self, row: Any) -> SafeString:
        page = reverse("admin:accounts_organization_change", args=[row.organization_id])
        return format_html('<a href="{}">{}</a>', page, row.organization.name)


@admin.register(UpgradeRequest)
class UpgradeRequestAdmin(DecisionAdmin):
    list_display = ("created_at", "desk", "plan", "state", "requested_by", "decided_by", "decided_at")
    list_filter = ("state", "plan")
    list_select_related = ("organization", "plan", "requested_by", "decided_by")
    fields: ClassVar = [
        *("created_at", "desk", "requested_by", "plan", "requests_per_minute", "requests_per_month", "message"),
        *("state", "decided_by", "decided_at", "note"),
    ]


@admin.register(QuotaGrant)
class QuotaGrantAdmin(DecisionAdmin):
    list_display = ("created_at", "desk", "month", "units", "reason", "granted_by", "revoked_at")
    list_select_related = ("organization", "granted_by", "revoked_by")
    fields: ClassVar = [*list_display, "revoked_by"]
