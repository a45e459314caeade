"""The audit log of all organizations and accounts in the admin, to look at."""

from typing import ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts.models import AuditEvent, Organization, User
from helixflow.lib import ids
from helixflow.lib.admin import ReadOnlyAdmin

MOST_FOUND = 100  # accounts and organizations that a search by words looks into


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor", "summary", "action", "is_staff", "address")
    list_filter = (("is_staff", admin.BooleanFieldListFilter),)
    search_fields = ("actor",)
    search_help_text = "Id of an organization (org-…), of who did it (user-…) or of the line, an e-mail, or a name."
    fields: ClassVar = [
        *("public_id", "created_at", "actor", "is_staff", "organization_id"),
        *("action", "target", "summary", "changes", "address", "user_agent"),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        term = search_term.strip()
        return (queryset.filter(_matching(term)) if term else queryset), False


def _matching(term: str) -> Q:
    """By columns that have an index: the log is long."""
    columns = ((ids.ORGANIZATION, "organization_id"), (ids.USER, "user_id"), (ids.AUDIT_EVENT, "id"))
    for prefix, column in columns:
        try:
            return Q(**{column: ids.parse_public_id(prefix, term)})
        except ValueError:
            continue
    people = User.objects.filter(Q(email__icontains=term) | Q(username__icontains=term))
    named = Organization.objects.filter(name__icontains=term)
    by, of = (list(found.values_list("id", flat=True)[:MOST_FOUND]) for found in (people, named))
    return Q(user_id__in=by) | Q(organization_id__in=of)
