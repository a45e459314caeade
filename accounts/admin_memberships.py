"""Memberships in the admin, on pages of their own and beside a user's or an organization's.

Whoever looks after an organization reads in its audit log what support changed of its people. As on the team's page,
what changes bumps the generation, a key of the playground ends with its membership, and an owner remains.
"""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import audit, generation, members, playground
from accounts.models import Membership, Organization, Role, User
from helixflow.lib import errors

Rows = Mapping[int, Membership]


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user", "organization")
    readonly_fields = ("created_at",)


class WithMemberships(admin.ModelAdmin):
    """For admins with memberships inline."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if formset.model is not Membership:
            super().save_formset(request, form, formset, change)
            return
        before = _rows([saved.instance.pk for saved in formset.forms if saved.instance.pk])
        super().save_formset(request, form, formset, change)
        _finish(request, before, _rows([*before, *(made.pk for made in formset.new_objects)]))


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "user__username", "organization__name")
    autocomplete_fields = ("user", "organization")
    readonly_fields = ("created_at",)

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        """Whom it joins is fixed: another pair is another membership."""
        return ("created_at",) if obj is None else ("user", "organization", "created_at")

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        before = _rows([obj.pk] if change else [])
        super().save_model(request, obj, form, change)
        _finish(request, before, _rows([obj.pk]))

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        before = _rows([obj.pk])
        super().delete_model(request, obj)
        _finish(request, before, {})

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        with transaction.atomic():
            before = _rows(list(queryset.values_list("pk", flat=True)))
            super().delete_queryset(request, queryset)
            _finish(request, before, {})


def _rows(keys: list[int]) -> Rows:
    return Membership.objects.select_related("user", "organization").in_bulk(keys)


def _finish(request: HttpRequest, before: Rows, after: Rows) -> None:
    """What has to follow a change, in its transaction. Raises InvalidRequest where an owner was the last one."""
    touched: set[Organization] = set()
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old and new and (old.user_id, old.organization_id) == (new.user_id, new.organization_id):
            if old.role == new.role:
                continue
            members.withdraw_invitations(sent_by=new, role=new.role, user=_user(request))
            _record(request, "role_changed", new, f"made {new.user.email} {new.role}", (old.role, new.role))
        else:
            if old:
                playground.revoke(old)
                members.withdraw_invitations(sent_by=old, role=None, user=_user(request))
                _record(request, "removed", old, f"removed {old.user.email}", (old.role, None))
            if new:
                _record(request, "added", new, f"took in {new.user.email} as {new.role}", (None, new.role))
        touched |= {row.organization for row in (old, new) if row}
        if old and old.role == Role.OWNER:
            _require_owner(old.organization)
    for organization in sorted(touched, key=lambda each: each.id):
        generation.bump(organization.id)


def _require_owner(organization: Organization) -> None:
    if not organization.memberships.filter(role=Role.OWNER).exists():
        raise errors.InvalidRequest(f"{organization.name} would have no owner. Make somebody else one first.")


def _record(
    request: HttpRequest, verb: str, row: Membership, summary: str, role: tuple[str | None, str | None]
) -> None:
    audit.record(
        f"member.{verb}",
        user=_user(request),
        organization=row.organization,
        target=row.user.public_id,
        summary=summary,
        changes={"role": role},
    )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin knows no strangers
    return request.user
