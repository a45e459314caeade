"""Events in the admin: what happened, to look at."""

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from helixflow.lib import ids
from helixflow.lib.admin import ReadOnlyAdmin
from webhooks.models import Event


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "type", "organization", "created_at")
    list_filter = ("type",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "dedupe_key")
    search_help_text = "Id (evt_…), organization or its id (org-…), or dedupe key."
    fields: ClassVar = ["public_id", "type", "organization", "data", "dedupe_key", "created_at"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        for prefix, column in ((ids.EVENT, "id"), (ids.ORGANIZATION, "organization_id")):
            try:
                return queryset.filter(**{column: ids.parse_public_id(prefix, search_term.strip())}), False
            except ValueError:
                continue
        return super().get_search_results(request, queryset, search_term)
