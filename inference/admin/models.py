"""Models in the admin: what callers ask for, the deployments that answer, who stands in, what it costs."""

from decimal import Decimal
from functools import cache, cached_property
from typing import Any, ClassVar, Final

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import CharField, Count, Prefetch, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing import prices
from billing.models import Price
from inference import health_shared
from inference.admin import live
from inference.admin.base import CatalogueAdmin, enabled_deployments
from inference.models import Capability, Deployment, Fallback, Model

# Django's own are so wide that the row leaves the page.
NARROW: Any = {CharField: {"widget": forms.TextInput(attrs={"size": 18})}}

WHO_ANSWERS: Final = (
    "The deployments with the lowest priority number share the traffic; the next ones are asked when those can't. "
    "After the last the fallback models are asked in their order, unless the caller refuses that. Only one level of "
    "fallbacks is followed, so two models may stand in for each other."
)


TOLD: Final = ("context_length", "capabilities", "created_at")


class DeploymentInline(admin.TabularInline):
    model = Deployment
    extra = 0
    fields = ("name", "now", "provider", "upstream_model", "priority", "weight", "enabled")
    readonly_fields = ("now",)
    formfield_overrides: ClassVar = NARROW
    autocomplete_fields = ("provider",)
    show_change_link = True
    can_change = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        self.can_change = self.has_change_permission(request)
        rows: QuerySet[Deployment] = super().get_queryset(request)
        return rows.select_related("provider")

    def get_formset(self, request: HttpRequest, obj: Model | None = None, **kwargs: Any) -> Any:
        """Without the three signs beside each provider, which has a page of its own."""
        formset = super().get_formset(request, obj, **kwargs)
        widget = formset.form.base_fields["provider"].widget
        widget.can_add_related = widget.can_change_related = widget.can_view_related = False
        return formset

    @cached_property
    def healths(self) -> dict[str, health_shared.DeploymentHealth]:
        """Once a page: each has an inline of its own."""
        return health_shared.shared()

    @admin.display(description="now")
    def now(self, deployment: Deployment) -> SafeString | str:
        if deployment._state.adding:  # noqa: SLF001  # the documented way to ask
            return "–"
        return live.cell(deployment, self.healths.get(deployment.id.hex), can_change=self.can_change)


class ModelForm(forms.ModelForm):
    """Capabilities as boxes to tick."""

    capabilities = forms.MultipleChoiceField(
        required=False,
        choices=[each for each in Capability.choices if each[0] != Capability.STREAMING],  # all that chat do
        widget=forms.CheckboxSelectMultiple,
        help_text=Model._meta.get_field("capabilities").help_text,  # noqa: SLF001  # the documented way to ask
    )


class FallbackForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.cleaned_data
        if fields.get("to") is not None and fields["to"] == fields.get("model"):
            self.add_error("to", "A model can't stand in for itself.")
        return fields


class FallbackInline(admin.TabularInline):
    model = Fallback
    form = FallbackForm
    fk_name = "model"
    extra = 0
    fields = ("to", "position")
    autocomplete_fields = ("to",)


@admin.register(Model)
class ModelAdmin(CatalogueAdmin):
    form = ModelForm
    change_form_template = "admin/inference/watching_form.html"
    list_display = ("name", "owned_by", "enabled_deployments", "routing", "offered_to", "enabled")
    list_editable = ("enabled",)
    list_filter = ("enabled", "owned_by", "routing")
    search_fields = ("name", "owned_by", "description")
    ordering = ("name",)  # the model's own is dropped where rows are counted
    autocomplete_fields = ("only_for",)
    readonly_fields = ("price",)
    inlines = (DeploymentInline, FallbackInline)
    fieldsets: ClassVar = [
        (None, {"fields": ["name", "enabled", "price", "only_for"]}),
        ("Who answers", {"fields": ["routing"], "description": WHO_ANSWERS}),
        ("What callers are told", {"fields": ["owned_by", "description", *TOLD]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        counts = {"enabled_total": enabled_deployments(), "only_for_total": Count("only_for", distinct=True)}
        rows: QuerySet[Model] = super().get_queryset(request)
        answering = Deployment.objects.filter(enabled=True, provider__enabled=True)
        return rows.annotate(**counts).prefetch_related(Prefetch("deployments", answering, "answering"))

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """With columns that read once per page how all are doing, and what all cost."""
        healths, in_force = cache(health_shared.shared), cache(prices.in_force)

        @admin.display(description="now")
        def now(model: Any) -> str:
            return live.summary(model.answering, healths())

        @admin.display(description=f"price ({settings.CURRENCY} per million tokens)")
        def cost(model: Model) -> str:
            return _amounts(in_force().get(model.name))

        return ("name", now, *self.list_display[1:-1], cost, "enabled")

    def models_of(self, row: Model) -> QuerySet[Model]:
        return Model.objects.filter(id=row.id)

    @admin.display(description="deployments", ordering="enabled_total")
    def enabled_deployments(self, model: Model) -> int:
        return getattr(model, "enabled_total", 0)

    @admin.display(ordering="only_for_total")
    def offered_to(self, model: Model) -> str:
        count = getattr(model, "only_for_total", 0)
        return f"{count} organization{pluralize(count)}" if count else "everyone"

    @admin.display(description="price")
    def price(self, model: Model) -> SafeString | str:
        if model._state.adding:  # noqa: SLF001  # the documented way to ask
            return "Set it once the model is saved: until then it costs nothing."
        return format_html(
            '{} {} · <a href="{}?q={}">all versions</a> · <a href="{}?model={}">add one</a>',
            _amounts(prices.in_force(model.name).get(model.name)),
            f"({settings.CURRENCY} per million tokens)",
            reverse("admin:billing_price_changelist"),
            model.name,
            reverse("admin:billing_price_add"),
            model.name,
        )


def _amounts(price: Price | None) -> str:
    if price is None:
        return "none, so it is free"
    return f"{_short(price.input)} in, {_short(price.output)} out"


def _short(amount: Decimal | None) -> str:
    return f"{(amount or Decimal()).normalize():f}"
