"""Plans and subscriptions in the admin."""

from django.contrib import admin
from django.db import transaction
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from accounts import generation
from billing.models import Plan, Subscription


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    """A plan's numbers reach the gateways as snapshots age, within 30 s: it would be too many to announce at once."""

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


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):
    """Its numbers count from the next request on."""

    list_display = ("organization", "plan", "requests_per_minute", "requests_per_month", "started_at")
    list_filter = ("plan",)
    list_select_related = ("organization", "plan")
    search_fields = ("organization__name", "organization__memberships__user__email")
    autocomplete_fields = ("organization", "plan")

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> tuple[str, ...]:
        return ("organization",) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Subscription, form: "ModelForm[Subscription]", change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        generation.bump(obj.organization_id)

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        super().delete_model(request, obj)
        generation.bump(obj.organization_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        with transaction.atomic():
            organization_ids = sorted(queryset.values_list("organization_id", flat=True))
            super().delete_queryset(request, queryset)
            for organization_id in organization_ids:
                generation.bump(organization_id)
