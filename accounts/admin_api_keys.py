"""API keys in the admin: to look at and to revoke. Digests are not shown, and nothing here can make a key."""

from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import api_keys
from accounts.models import ApiKey, User
from helixflow.lib import ids


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    list_display = ("name", "hint", "organization", "environment", "state", "last_used_at", "expires_at", "created_at")
    list_filter = ("environment", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("organization",)
    search_fields = ("name", "hint", "organization__name", "created_by__email", "created_by__username")
    search_help_text = "Name, hint, id (key_…), organization, or who made it."
    ordering = ("-id",)
    fields: ClassVar = [
        "public_id",
        "name",
        "hint",
        "organization",
        "created_by",
        "environment",
        "allowed_models",
        "state",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
        "rotated_to",
    ]
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # usage goes on naming its key

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_apikey")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        try:
            return queryset.filter(id=ids.parse_public_id(ids.API_KEY, search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    @admin.display(description="status", ordering="revoked_at")
    def state(self, key: ApiKey) -> str:
        return key.status

    @admin.action(description="Revoke: refused from the next request on", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin knows no strangers
        for key in chosen:
            api_keys.revoke(key=key, user=request.user)
        self.message_user(request, f"{len(chosen)} revoked.", messages.SUCCESS)
