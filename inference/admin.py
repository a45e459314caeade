"""The catalogue in the admin: providers, models and deployments. Each change reaches every web process in a second."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import CharField, Count, Q, QuerySet
from django.http import HttpRequest

from inference import catalogue
from inference.models import Deployment, Model, Provider
from inference.upstream import Origin, header_lines


class CatalogueAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    def save_related(self, *args: Any, **kwargs: Any) -> None:
        """The last step of every save: of a page, of its inlines, of the list."""
        super().save_related(*args, **kwargs)
        catalogue.announce_change()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        catalogue.announce_change()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        catalogue.announce_change()


class ProviderForm(forms.ModelForm):
    """The credential goes in and never comes out."""

    api_key = forms.CharField(
        label="API key",
        required=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted and never shown. Empty: the one that is stored stays.",
    )
    forget_api_key = forms.BooleanField(label="Forget the stored API key", required=False)

    class Meta:
        model = Provider
        fields = ("name", "kind", "base_url", "stream_always", "enabled")

    def clean_base_url(self) -> str:
        base_url: str = self.cleaned_data["base_url"]
        try:
            Origin.parse(base_url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        return base_url

    def clean_api_key(self) -> str:
        api_key: str = self.cleaned_data["api_key"]
        try:
            header_lines({"Authorization": f"Bearer {api_key}"})
        except ValueError:
            raise forms.ValidationError("This key holds characters that no header can carry.") from None
        return api_key

    def clean(self) -> dict[str, Any]:
        """A stored key is sent to the address it was entered for, never to one of somebody else's choice."""
        fields: dict[str, Any] = self.cleaned_data
        replaced = fields.get("api_key") or fields.get("forget_api_key")
        if self.instance.sealed_credential and "base_url" in self.changed_data and not replaced:
            self.add_error("api_key", "The stored key is for the old base URL. Enter the one for this, or forget it.")
        return fields

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["api_key"]:
            self.instance.credential = self.cleaned_data["api_key"]
        elif self.cleaned_data["forget_api_key"]:
            self.instance.credential = ""
        return super().save(commit)


@admin.register(Provider)
class ProviderAdmin(CatalogueAdmin):
    form = ProviderForm
    list_display = ("name", "kind", "base_url", "has_api_key", "enabled_deployments", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "base_url")
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(enabled_total=_enabled_deployments())

    @admin.display(description="API key", boolean=True)
    def has_api_key(self, provider: Provider) -> bool:
        return bool(provider.sealed_credential)

    @admin.display(description="enabled deployments", ordering="enabled_total")
    def enabled_deployments(self, provider: Provider) -> int:
        return getattr(provider, "enabled_total", 0)


class DeploymentInline(admin.TabularInline):
    model = Deployment
    extra = 0
    # Django's own are so wide that the row leaves the page.
    formfield_overrides: ClassVar = {CharField: {"widget": forms.TextInput(attrs={"size": 24})}}
    autocomplete_fields = ("provider",)


@admin.register(Model)
class ModelAdmin(CatalogueAdmin):
    list_display = ("name", "owned_by", "context_length", "enabled_deployments", "offered_to", "enabled")
    list_editable = ("enabled",)
    list_filter = ("enabled", "owned_by")
    search_fields = ("name", "owned_by", "description")
    autocomplete_fields = ("only_for",)
    inlines = (DeploymentInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        counts = {"enabled_total": _enabled_deployments(), "only_for_total": Count("only_for", distinct=True)}
        rows: QuerySet[Model] = super().get_queryset(request)
        return rows.annotate(**counts)

    @admin.display(description="enabled deployments", ordering="enabled_total")
    def enabled_deployments(self, model: Model) -> int:
        return getattr(model, "enabled_total", 0)

    @admin.display(ordering="only_for_total")
    def offered_to(self, model: Model) -> str:
        count = getattr(model, "only_for_total", 0)
        return f"{count} organizations" if count else "everyone"


@admin.register(Deployment)
class DeploymentAdmin(CatalogueAdmin):
    list_display = ("name", "model", "provider", "upstream_model", "priority", "weight", "enabled")
    list_editable = ("priority", "weight", "enabled")
    list_filter = ("enabled", "provider")
    list_select_related = ("model", "provider")
    search_fields = ("name", "model__name", "provider__name", "upstream_model")
    autocomplete_fields = ("model", "provider")


def _enabled_deployments() -> Count:
    return Count("deployments", filter=Q(deployments__enabled=True), distinct=True)
