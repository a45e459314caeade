"""The admin of accounts: a support tool. What a snapshot holds bumps the generation.

Users sign up and are deactivated, organizations are disabled: neither is made or deleted here, since usage names them.
Of a password nothing is shown, not even its algorithm and salt.
"""

from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import (
    admin_api_keys,  # noqa: F401  # registers itself
    admin_audit,  # noqa: F401  # registers itself
    audit,
    organizations,
    sessions,
    web_sessions,
)
from accounts.admin_memberships import MembershipInline, WithMemberships
from accounts.models import Organization, TokenSession, User

RIGHTS = ("is_active", "is_staff", "is_superuser")

admin.site.unregister(Group)
admin.site.site_header = admin.site.site_title = "HelixFlow"


class PasswordForm(AdminPasswordChangeForm):
    """Ends the user's API sessions too; the web's end by Django's session hash, and their rows go."""

    def save(self, commit: bool = True) -> User:
        with transaction.atomic():
            saved: User = super().save(commit)
            sessions.end_all(user=self.user)
            web_sessions.end_all(user=self.user)
        return saved


@admin.register(User)
class UserAdmin(WithMemberships, DjangoUserAdmin):
    change_password_form = PasswordForm
    list_display = ("username", "email", "name", "is_verified", "organization_count", "is_active", "last_login")
    list_filter = ("is_active", "is_staff", ("email_verified_at", admin.EmptyFieldListFilter))
    search_fields = ("username", "email", "name", "memberships__organization__name")
    ordering = ("-date_joined",)
    readonly_fields = (
        "public_id",
        "username",
        "email",
        "email_verified_at",
        "password_link",
        "last_login",
        "date_joined",
    )
    filter_horizontal = ("user_permissions",)
    fieldsets = (
        (None, {"fields": ("public_id", "username", "email", "email_verified_at", "name", "password_link")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "user_permissions")}),
        ("When", {"fields": ("last_login", "date_joined")}),
    )
    inlines = (MembershipInline,)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        changes = {name: (form.initial.get(name), getattr(obj, name)) for name in form.changed_data if name in RIGHTS}
        if changes:
            _record("account.rights_changed", request, obj, f"changed what the account {obj.email} may do", changes)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002  # Django's name
        """Recorded with the change: Django answers what it has done with a redirect.

        One's own is changed in the profile, which asks for the old one.
        """
        if unquote(id) == str(request.user.pk):
            return redirect("profile")
        with transaction.atomic():
            response: HttpResponse = super().user_change_password(request, id, form_url)
            if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
                user = User.objects.get(pk=unquote(id))
                _record("account.password_set", request, user, f"set a new password for the account {user.email}")
        return response

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whoever may set the password of staff is a superuser: support would lend itself a colleague's rights."""
        allowed = super().has_change_permission(request, obj)
        is_above = obj is not None and (obj.is_staff or obj.is_superuser) and obj != request.user
        return allowed and (request.user.is_superuser or not is_above)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Support staff can't give rights, to themselves or to others."""
        fixed = tuple(super().get_readonly_fields(request, obj))
        return fixed if request.user.is_superuser else (*fixed, "is_staff", "is_superuser", "user_permissions")

    @admin.display(description="password")
    def password_link(self, user: User) -> SafeString:
        return format_html('<a href="{}">Set a new password</a>, which ends every session', "../password/")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        users: QuerySet[User] = super().get_queryset(request)
        return users.annotate(organization_total=Count("memberships", distinct=True))

    @admin.display(description="organizations", ordering="organization_total")
    def organization_count(self, user: User) -> int:
        return getattr(user, "organization_total", 0)

    @admin.display(description="verified", boolean=True, ordering="email_verified_at")
    def is_verified(self, user: User) -> bool:
        return user.is_verified


@admin.register(Organization)
class OrganizationAdmin(WithMemberships):
    list_display = ("name", "public_id", "member_count", "key_count", "is_enabled", "created_at")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "memberships__user__email", "memberships__user__username")
    ordering = ("-created_at",)
    readonly_fields = ("public_id", "generation", "disabled_at", "created_at")
    fields = ("public_id", "name", "cache_ttl_s", "disabled_at", "generation", "created_at")
    inlines = (MembershipInline,)
    actions = ("disable", "enable")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Organization | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        rows: QuerySet[Organization] = super().get_queryset(request)
        return rows.annotate(
            member_total=Count("memberships", distinct=True), key_total=Count("api_keys", distinct=True)
        )

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        """As the organization's own people change it. Raises InvalidRequest."""
        settings = {name: form.cleaned_data[name] for name in ("name", "cache_ttl_s")}
        organizations.update(organization=obj, user=_user(request), **settings)

    @admin.display(description="members", ordering="member_total")
    def member_count(self, organization: Organization) -> int:
        return getattr(organization, "member_total", 0)

    @admin.display(description="API keys", ordering="key_total")
    def key_count(self, organization: Organization) -> int:
        return getattr(organization, "key_total", 0)

    @admin.display(description="enabled", boolean=True, ordering="disabled_at")
    def is_enabled(self, organization: Organization) -> bool:
        return organization.disabled_at is None

    @admin.action(description="Disable: refuse every key with 403", permissions=["change"])
    def disable(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        count = sum(organizations.disable(organization=organization, user=_user(request)) for organization in chosen)
        self.message_user(request, f"{count} disabled.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        count = sum(organizations.enable(organization=organization, user=_user(request)) for organization in chosen)
        self.message_user(request, f"{count} enabled.", messages.SUCCESS)


@admin.register(TokenSession)
class TokenSessionAdmin(admin.ModelAdmin):
    list_display = ("user", "address", "user_agent", "created_at", "last_used_at", "expires_at", "ended_at")
    list_filter = (("ended_at", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    search_fields = ("user__email", "user__username", "address")
    ordering = ("-last_used_at",)
    fields: ClassVar = [*list_display]
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: TokenSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TokenSession | None = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_tokensession")

    @admin.action(description="End: its tokens are refused at once", permissions=["end"])
    def end(self, request: HttpRequest, chosen: QuerySet[TokenSession]) -> None:
        with transaction.atomic():
            for session in chosen.filter(ended_at=None).select_related("user"):
                sessions.end(session_id=session.id)
                _record("session.ended", request, session.user, f"ended an API session of the account {session.user}")
        self.message_user(request, f"{len(chosen)} ended.", messages.SUCCESS)


def _record(
    action: str, request: HttpRequest, about: User, summary: str, changes: dict[str, tuple[Any, Any]] | None = None
) -> None:
    """About the account alone; its owner sees it on the security page."""
    audit.record(action, user=_user(request), target=about.public_id, summary=summary, changes=changes)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin lets nobody else in
    return request.user
