"""Plans, subscriptions, prices and limits of keys in the admin. What is saved goes through the services.

The ledger's pages are in ``billing.admin_ledger``, the support desk in ``billing.admin_desk``.
"""

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AdminBigIntegerFieldWidget, AdminSplitDateTime
from django.db import models
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from accounts.api_keys import MODEL_NAME
from accounts.models import User
from billing import (
    admin_decisions,  # noqa: F401  # registers itself
    admin_desk,  # noqa: F401  # registers itself
    admin_ledger,  # noqa: F401  # registers itself
    key_limits,
    prices,
    subscriptions,
)
from billing.models import KeyLimits, Plan, Price, Subscription, SubscriptionChange
from helixflow.lib import errors, ids

HISTORY = 50  # changes shown with a subscription
# Django's own are narrower than the millions that a month may have: the last digit would not be seen.
WIDE_NUMBERS: Any = {models.PositiveIntegerField: {"widget": AdminBigIntegerFieldWidget}}


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    """A plan's numbers reach the gateways as snapshots age, within 30 s: it would be too many to announce at once."""

    formfield_overrides: ClassVar = WIDE_NUMBERS
    list_display = ("name", "slug", "requests_per_minute", "requests_per_month", "subscribers")
    search_fields = ("name", "slug")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        rows: QuerySet[Plan] = super().get_queryset(request)
        return rows.annotate(subscriber_total=Count("subscriptions"))

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return ("slug",) if obj else ()

    @admin.display(ordering="subscriber_total")
    def subscribers(self, plan: Plan) -> int:
        return getattr(plan, "subscriber_total", 0)


class SubscriptionForm(forms.ModelForm):
    """Some plans leave their numbers to each organization."""

    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.cleaned_data
        if fields.get("plan"):
            try:
                subscriptions.require_numbers(
                    fields["plan"], **{name: fields.get(name) for name in subscriptions.LIMITS}
                )
            except errors.InvalidRequest as error:
                raise forms.ValidationError(error.details) from None
        return fields


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):
    """Its numbers count from the next request on. Deleting one puts the organization on Starter."""

    form = SubscriptionForm
    formfield_overrides: ClassVar = WIDE_NUMBERS
    list_display = (
        "organization",
        "plan",
        "requests_per_minute",
        "requests_per_month",
        "max_parallel",
        "monthly_budget",
        "started_at",
    )
    list_filter = ("plan",)
    list_select_related = ("organization", "plan")
    search_fields = ("organization__name", "organization__memberships__user__email")
    autocomplete_fields = ("organization", "plan")
    fields: ClassVar = [*list_display, "history"]

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> tuple[str, ...]:
        return ("organization", "started_at", "history") if obj else ("started_at", "history")

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        saved = subscriptions.change(
            organization=obj.organization,
            plan=obj.plan,
            user=_user(request),
            requests_per_minute=obj.requests_per_minute,
            requests_per_month=obj.requests_per_month,
            max_parallel=obj.max_parallel,
            monthly_budget=obj.monthly_budget,
        )
        obj.id = saved.id

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        subscriptions.end(organization=obj.organization, user=_user(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        for subscription in queryset.select_related("organization").order_by("organization_id"):
            self.delete_model(request, subscription)

    @admin.display(description="latest changes")
    def history(self, subscription: Subscription) -> SafeString | str:
        changes = SubscriptionChange.objects.filter(organization_id=subscription.organization_id)
        lines = changes.select_related("plan", "changed_by")[:HISTORY]
        return format_html_join("", "<p>{}: {}, by {}</p>", map(_line, lines)) or "None yet."


def _line(change: SubscriptionChange) -> tuple[str, str, str]:
    own = [
        f"{name.replace('_', ' ')} {value}"
        for name in subscriptions.TERMS[1:]
        if (value := getattr(change, name)) is not None
    ]
    return f"{change.created_at:%Y-%m-%d %H:%M}", ", ".join([change.plan.name, *own]), str(change.changed_by or "–")


class PriceForm(forms.ModelForm):
    starts_at = forms.SplitDateTimeField(
        required=False,
        widget=AdminSplitDateTime,
        help_text=f"UTC. Empty: in {prices.NOTICE.seconds} seconds. From then on this version stays as it is.",
    )

    def clean_model(self) -> str:
        model: str = self.cleaned_data["model"]
        if not MODEL_NAME.fullmatch(model):
            raise forms.ValidationError("Letters, digits and . _ : / @ + - only, as callers ask for it.")
        return model

    def clean_starts_at(self) -> datetime | None:
        starts_at: datetime | None = self.cleaned_data["starts_at"]
        if starts_at is None and self.initial.get("starts_at"):
            raise forms.ValidationError("Say when it starts.")
        if starts_at is not None:
            try:
                prices.require_notice(starts_at)
            except errors.InvalidRequest as error:
                raise forms.ValidationError(error.message) from None
        return starts_at


@admin.register(Price)
class PriceAdmin(admin.ModelAdmin):
    """A version that has started is history, since usage was charged by it; the next one is added beside it."""

    form = PriceForm
    list_display = ("model", "starts_at", "state", "currency", "input", "cached_input", "output", "reasoning")
    search_fields = ("model",)
    fieldsets: ClassVar = [
        (None, {"fields": ["model", "starts_at"]}),
        (
            "Amounts",
            {
                "fields": prices.CLASSES,
                "description": f"{settings.CURRENCY} per million tokens. A class without an amount costs what its base "
                "does: cached input, cache write and input audio as input; reasoning and output audio as output.",
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        rows: QuerySet[Price] = super().get_queryset(request)
        started = Price.objects.filter(model=OuterRef("model"), starts_at__lte=timezone.now())
        return rows.annotate(in_force_id=Subquery(started.order_by("-starts_at").values("id")[:1]))

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        return ("model",) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or not prices.has_started(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not prices.has_started(obj))

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in ("starts_at", *prices.CLASSES)}
        saved = prices.change(price=obj, **fields) if change else prices.add(model=obj.model, **fields)
        obj.id, obj.starts_at = saved.id, saved.starts_at

    def delete_model(self, request: HttpRequest, obj: Price) -> None:
        prices.withdraw(price=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Price]) -> None:
        for price in queryset:
            prices.withdraw(price=price)

    @admin.display(description="status")
    def state(self, price: Price) -> str:
        if getattr(price, "in_force_id", None) == price.id:
            return "in force"
        return "past" if price.starts_at <= timezone.now() else "to come"


class KeyLimitsForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.cleaned_data
        key = fields.get("api_key")
        if key is not None and key.revoked_at is not None:
            self.add_error("api_key", "This key is revoked.")
        if not self.errors and all(fields.get(name) is None for name in key_limits.LIMITS):
            raise forms.ValidationError("Set at least one limit; to lift all of them delete the row.")
        return fields


@admin.register(KeyLimits)
class KeyLimitsAdmin(admin.ModelAdmin):
    """They count from the next request on."""

    form = KeyLimitsForm
    formfield_overrides: ClassVar = WIDE_NUMBERS
    list_display = ("api_key", "organization", *key_limits.LIMITS)
    list_select_related = ("api_key__organization",)
    search_fields = ("api_key__name", "api_key__hint", "api_key__organization__name")
    search_help_text = "Name, hint or id (key_…) of the key, or organization."
    autocomplete_fields = ("api_key",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[KeyLimits], search_term: str
    ) -> tuple[QuerySet[KeyLimits], bool]:
        try:
            return queryset.filter(api_key_id=ids.parse_public_id(ids.API_KEY, search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    def get_readonly_fields(self, request: HttpRequest, obj: KeyLimits | None = None) -> tuple[str, ...]:
        return ("api_key",) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: KeyLimits | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.api_key.revoked_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: KeyLimits | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.api_key.revoked_at is None)

    def save_model(self, request: HttpRequest, obj: KeyLimits, form: Any, change: bool) -> None:
        limits = {name: getattr(obj, name) for name in key_limits.LIMITS}
        key_limits.set_limits(key=obj.api_key, user=_user(request), **limits)

    def delete_model(self, request: HttpRequest, obj: KeyLimits) -> None:
        key_limits.set_limits(key=obj.api_key, user=_user(request), **dict.fromkeys(key_limits.LIMITS))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[KeyLimits]) -> None:
        for limits in queryset.select_related("api_key"):
            self.delete_model(request, limits)

    @admin.display(ordering="api_key__organization__name")
    def organization(self, limits: KeyLimits) -> str:
        return limits.api_key.organization.name


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin knows no strangers
    return request.user
