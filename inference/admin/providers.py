"""Providers in the admin: connect one, try the connection, import its models."""

import uuid
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import TextInput
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from inference import probing
from inference.admin.base import CatalogueAdmin, enabled_deployments, models_of_provider
from inference.forms import ImportedModels, ImportOptions, ProviderForm, suggested_name
from inference.importing import Imported, import_models
from inference.models import Deployment, Model, Provider, ProviderKind

MOST_AT_ONCE: Final = 300


@admin.register(Provider)
@method_decorator(sensitive_post_parameters("credential"), name="changeform_view")
class ProviderAdmin(CatalogueAdmin):
    form = ProviderForm
    change_form_template = "admin/inference/provider_form.html"
    list_display = ("name", "kind", "base_url", "has_credential", "enabled_deployments", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "base_url")
    ordering = ("name",)
    fieldsets: ClassVar = [
        (None, {"fields": ["kind", "name"]}),
        ("Where it is", {"fields": ["preset", "base_url", "region", "project", "api_version"]}),
        ("Credential", {"fields": ["credential", "forget_credential"]}),
        ("How it is used", {"fields": ["enabled", "stream_always"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(enabled_total=enabled_deployments())

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> list[Any]:
        if obj is not None and obj.sealed_credential:
            return list(self.fieldsets)
        nothing_to_forget = ("Credential", {"fields": ["credential"]})
        return [nothing_to_forget if name == "Credential" else (name, rest) for name, rest in self.fieldsets]

    def get_urls(self) -> list[URLPattern]:
        pages: list[URLPattern] = self.page_urls(test=require_POST(self.test), models=self.import_page)
        return pages + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = (extra_context or {}) | {"may_import": self.may_import(request)}
        return super().change_view(request, object_id, form_url, context)

    def models_of(self, row: Provider) -> QuerySet[Model]:
        return models_of_provider(row)

    @admin.display(description="credential", boolean=True)
    def has_credential(self, provider: Provider) -> bool:
        return bool(provider.sealed_credential)

    @admin.display(description="enabled deployments", ordering="enabled_total")
    def enabled_deployments(self, provider: Provider) -> int:
        return getattr(provider, "enabled_total", 0)

    def test(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        provider = self.to_change(request, pk)
        report, may_import = probing.ask_models(provider), self.may_import(request)
        return self.report_page(request, provider, report, "its list of models", may_import=may_import)

    def import_page(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """List, choose, confirm: three steps at one address. What is chosen travels in the form."""
        provider = self.to_change(request, pk)
        if not self.may_import(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._list(request, provider)
        if "confirmed" in request.POST:
            return self._import(request, provider)
        chosen = list(dict.fromkeys(request.POST.getlist("chosen")))
        if not chosen or len(chosen) > MOST_AT_ONCE:
            self.message_user(request, f"Choose at least one model, and at most {MOST_AT_ONCE}.", messages.WARNING)
            return self._list(request, provider)
        owner = provider.preset or (provider.name if provider.kind == ProviderKind.COMPATIBLE else provider.kind)
        options = ImportOptions(initial={"owned_by": owner})
        rows = [{"upstream_model": name, "name": suggested_name(name)} for name in chosen]
        return self._confirm(request, provider, options, ImportedModels(initial=rows))

    @staticmethod
    def may_import(request: HttpRequest) -> bool:
        return request.user.has_perms(["inference.add_model", "inference.add_deployment"])

    def _list(self, request: HttpRequest, provider: Provider) -> HttpResponse:
        report = probing.ask_models(provider)
        known: dict[str, list[str]] = {}
        for name, model in provider.deployments.values_list("upstream_model", "model__name"):
            known.setdefault(name, []).append(model)
        listed = [(name, known.get(name, [])) for name in dict.fromkeys(report.models)]
        title = f"Import models of {provider}"
        return self.page(request, "import_list.html", title=title, original=provider, report=report, listed=listed)

    def _confirm(self, request: HttpRequest, provider: Provider, options: ImportOptions, rows: Any) -> HttpResponse:
        """Azure lists models, while its requests name deployments: only their operator knows those names."""
        if provider.kind == ProviderKind.AZURE:
            for row in rows:
                row.fields["upstream_model"].widget = TextInput(attrs={"size": 40})
        names = [row["name"].value() for row in rows]
        here = set(Model.objects.filter(name__in=names).values_list("name", flat=True))
        marked = [(row, name in here) for row, name in zip(rows, names, strict=True)]
        title = f"Import models of {provider}"
        context = {"title": title, "original": provider, "options": options, "rows": rows, "marked": marked}
        return self.page(request, "import_confirm.html", **context)

    def _import(self, request: HttpRequest, provider: Provider) -> HttpResponse:
        options, rows = ImportOptions(request.POST), ImportedModels(request.POST)
        if not (options.is_valid() and rows.is_valid()):
            return self._confirm(request, provider, options, rows)
        chosen = [(row["upstream_model"], row["name"]) for row in rows.cleaned_data if row]
        imported = import_models(provider=provider, chosen=chosen, **options.cleaned_data)
        self._tell(request, provider, imported)
        return redirect("admin:inference_deployment_changelist", permanent=False)

    def _tell(self, request: HttpRequest, provider: Provider, imported: Imported) -> None:
        for model in imported.models:
            self.log_addition(request, model, f"Imported from {provider}")
        for deployment in imported.deployments:
            self.log_addition(request, deployment, f"Imported from {provider}")
        names = ", ".join(deployment.upstream_model for deployment in imported.deployments) or "nothing"
        self.log_change(request, provider, f"Imported {names}"[:2000])
        text = f"{_count(imported.models, 'model')} and {_count(imported.deployments, 'deployment')} added."
        if imported.present:
            text += f" {_count(imported.present, 'deployment')} there already."
        self.message_user(request, text, messages.SUCCESS)


def _count(rows: list[Model] | list[Deployment], noun: str) -> str:
    return f"{len(rows)} {noun}{'' if len(rows) == 1 else 's'}"
