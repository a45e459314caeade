"""The ledger in the admin, to look at: nobody edits a book of record.

Rows outlive the organizations and keys they name, so names are looked up beside them and never joined.
"""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Concat
from django.http import HttpRequest

from accounts.models import ApiKey, Organization
from billing.models import Refusal, SubscriptionChange, UsageMonth, UsageRecord, UsageReject
from helixflow.lib import ids
from helixflow.lib.admin import ReadOnlyAdmin

MOST_FOUND = 100  # organizations that a search by name looks into


class LedgerAdmin(ReadOnlyAdmin):
    """For rows with ``organization_id`` and ``api_key_id``."""

    search_fields = ("organization_id",)
    search_help_text = "Id of an organization (org-…) or API key (key_…), an organization's name, a member's e-mail."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        rows: QuerySet[Model] = super().get_queryset(request)
        organizations = Organization.objects.filter(id=OuterRef("organization_id")).values("name")
        label = Concat("name", Value(" "), "hint", output_field=TextField())
        keys = ApiKey.objects.filter(id=OuterRef("api_key_id")).annotate(label=label).values("label")
        names = {"organization_name": Subquery(organizations), "api_key_label": Subquery(keys)}
        return rows.annotate(**names)  # type: ignore[no-any-return]  # the plugin annotates concrete models only

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Model], search_term: str
    ) -> tuple[QuerySet[Model], bool]:
        return (queryset.filter(self.matching(search_term.strip())) if search_term else queryset), False

    def matching(self, term: str) -> Q:
        for prefix, column in self.searched_ids():
            try:
                found = Q(**{column: ids.parse_public_id(prefix, term)})
            except ValueError:
                continue
            return found & self._of_its_organization(term) if prefix == ids.API_KEY else found
        named = Q(name__icontains=term) | Q(memberships__user__email__icontains=term)
        organizations = Organization.objects.filter(named).values_list("id", flat=True).distinct()
        return Q(organization_id__in=list(organizations[:MOST_FOUND]))

    @staticmethod
    def _of_its_organization(key: str) -> Q:
        """Every index begins with the organization."""
        owner = ApiKey.objects.filter(id=ids.parse_public_id(ids.API_KEY, key)).values_list(
            "organization_id", flat=True
        )
        return Q(organization_id__in=list(owner)) if owner else Q()

    def searched_ids(self) -> tuple[tuple[str, str], ...]:
        return (ids.ORGANIZATION, "organization_id"), (ids.API_KEY, "api_key_id")

    @admin.display(description="organization")
    def organization_shown(self, row: Any) -> str:
        return row.organization_name or ids.public_id(ids.ORGANIZATION, row.organization_id)

    @admin.display(description="API key")
    def api_key_shown(self, row: Any) -> str:
        return row.api_key_label or ids.public_id(ids.API_KEY, row.api_key_id)


@admin.register(UsageRecord)
class UsageRecordAdmin(LedgerAdmin):
    list_display = (
        "public_id",
        "started_at",
        "organization_shown",
        "api_key_shown",
        "model",
        "status",
        "error_code",
        "tokens",
        "cost_shown",
        "settled_by",
    )
    search_help_text = f"Id of a request (req_…) or its completion (chatcmpl-…). {LedgerAdmin.search_help_text}"
    fields: ClassVar = [
        *("public_id", "started_at", "recorded_at", "settled_by"),
        *("organization_shown", "api_key_shown", "user_shown", "end_user", "month", "units"),
        *(
            "model",
            "operation",
            "fallback_model",
            "deployment",
            "attempts",
            "streamed",
            "status",
            "error_code",
            "duration_ms",
            "first_token_ms",
        ),
        *("usage_source", "input_tokens", "cached_input_tokens", "cache_write_tokens", "input_audio_tokens"),
        *("output_tokens", "reasoning_tokens", "output_audio_tokens"),
        *("price_id", "cost_shown"),
    ]

    def searched_ids(self) -> tuple[tuple[str, str], ...]:
        prefixes = (ids.REQUEST, ids.COMPLETION, ids.TEXT_COMPLETION)
        return (*((prefix, "id") for prefix in prefixes), *super().searched_ids())

    @admin.display(description="user")
    def user_shown(self, record: UsageRecord) -> str:
        return ids.public_id(ids.USER, record.user_id) if record.user_id else "–"

    @admin.display(description="prompt + completion tokens")
    def tokens(self, record: UsageRecord) -> str:
        return f"{record.prompt_tokens:,} + {record.completion_tokens:,}"

    @admin.display(description="cost")
    def cost_shown(self, record: UsageRecord) -> str:
        return f"{record.cost.normalize():f} {record.currency}" if record.price_id else "no price"


@admin.register(UsageMonth)
class UsageMonthAdmin(LedgerAdmin):
    list_display = ("month", "organization_shown", "api_key_shown", "requests", "units", "cost")
    fields: ClassVar = [*list_display]


@admin.register(Refusal)
class RefusalAdmin(LedgerAdmin):
    list_display = ("minute", "organization_shown", "api_key_shown", "reason", "count")
    fields: ClassVar = [*list_display]


@admin.register(UsageReject)
class UsageRejectAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "stream", "entry_id", "reason")
    search_fields = ("entry_id", "reason")
    fields: ClassVar = ["created_at", "stream", "entry_id", "reason", "text"]

    @admin.display(description="payload")
    def text(self, reject: UsageReject) -> str:
        return bytes(reject.payload).decode(errors="backslashreplace")


@admin.register(SubscriptionChange)
class SubscriptionChangeAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "organization",
        "plan",
        "requests_per_minute",
        "requests_per_month",
        "max_parallel",
        "monthly_budget",
        "changed_by",
    )
    list_filter = ("plan",)
    list_select_related = ("organization", "plan", "changed_by")
    search_fields = ("organization__name", "organization__memberships__user__email", "changed_by__email")
    fields: ClassVar = [*list_display]
