"""Batches and their files in the admin: how they are doing, and never what they hold."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from helixflow.lib import errors, ids
from helixflow.lib.admin import ReadOnlyAdmin, parsed
from inference.batch import batches, words
from inference.batch_models import OPEN, Batch, StoredFile


class Whether(admin.SimpleListFilter):
    """Under way or not: a batch has eight states, and this is what is asked first."""

    title = "whether it is under way"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Under way"), ("no", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Batch]) -> QuerySet[Batch]:
        if self.value() == "yes":
            return queryset.filter(status__in=OPEN)
        return queryset.exclude(status__in=OPEN) if self.value() == "no" else queryset


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organization", "status", "progress", "waits", "cost", "created_at")
    list_filter = (Whether, "status", "operation")
    list_select_related = ("organization",)
    search_fields = ("organization__name",)
    search_help_text = "Id (batch_…), organization or its id (org-…)."
    actions = ("cancel",)
    fields: ClassVar = [
        *("public_id", "organization", "api_key", "operation", "status", "standing", "progress"),
        *("prompt_tokens", "completion_tokens", "cost", "files", "retry_of"),
        *("created_at", "in_progress_at", "finalizing_at", "ended_at", "expires_at", "turned_at"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        return super().get_queryset(request).defer("metadata", "errors")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Batch], search_term: str
    ) -> tuple[QuerySet[Batch], bool]:
        found = parsed(search_term, (ids.BATCH, "id"), (ids.ORGANIZATION, "organization_id"))
        if found is not None:
            return queryset.filter(found), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="requests")
    def progress(self, batch: Batch) -> str:
        failed = f", {batch.failed:,} failed" if batch.failed else ""
        return f"{batch.settled:,} of {batch.total:,}{failed}"

    @admin.display(description="waits for")
    def waits(self, batch: Batch) -> str:
        return batch.waits_for if batch.is_open else ""

    @admin.display(description="what it is doing")
    def standing(self, batch: Batch) -> str:
        return words.standing(batch).text

    @admin.display(description="ended at")
    def ended_at(self, batch: Batch) -> Any:
        return words.ended_at(batch)

    @admin.display(description="files")
    def files(self, batch: Batch) -> str:
        named = (batch.input_file_id, batch.output_file_id, batch.error_file_id)
        return ", ".join(ids.public_id(ids.FILE, file_id) for file_id in named if file_id)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inference.change_batch")

    @admin.action(
        description="Cancel the chosen batches: what is not answered yet is not asked", permissions=["cancel"]
    )
    def cancel(self, request: HttpRequest, queryset: QuerySet[Batch]) -> None:
        cancelled = 0
        for batch in queryset.filter(status__in=OPEN):
            try:
                batches.cancel(organization_id=batch.organization_id, public_id=batch.public_id)
            except errors.InvalidRequest:  # it has ended meanwhile
                continue
            cancelled += 1
            self.log_change(request, batch, "Cancelled")
        self.message_user(request, f"{cancelled} cancelled.", messages.SUCCESS if cancelled else messages.WARNING)


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organization", "purpose", "size_bytes", "lines", "created_at", "expires_at")
    list_filter = ("purpose",)
    list_select_related = ("organization",)
    search_fields = ("organization__name",)
    search_help_text = "Id (file-…), organization or its id (org-…)."
    fields: ClassVar = [
        *("public_id", "organization", "api_key", "purpose", "size_bytes", "lines", "name"),
        *("created_at", "expires_at"),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[StoredFile], search_term: str
    ) -> tuple[QuerySet[StoredFile], bool]:
        found = parsed(search_term, (ids.FILE, "id"), (ids.ORGANIZATION, "organization_id"))
        if found is not None:
            return queryset.filter(found), False
        return super().get_search_results(request, queryset, search_term)
