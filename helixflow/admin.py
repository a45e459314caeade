"""Incidents for the status page: operators write them here. docs/status.md says how."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.forms import CheckboxSelectMultiple, MultipleChoiceField
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helixflow.models import Incident, IncidentUpdate
from helixflow.status import history
from helixflow.status.components import COMPONENTS


class IncidentForm(forms.ModelForm):  # the stubs' generic is not subscriptable at run time
    components = MultipleChoiceField(
        required=False, widget=CheckboxSelectMultiple, help_text="What it touches. Users see the names."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = [(each.key, each.name) for each in history.current().models]
        named = {each.key for each in COMPONENTS} | {key for key, _ in models}
        gone = [(key, key) for key in self.instance.components if key not in named]
        choices = [*((each.key, each.name) for each in COMPONENTS), *models, *gone]
        self.fields["components"].choices = choices  # type: ignore[attr-defined]  # a MultipleChoiceField has them


class UpdateInline(admin.StackedInline):
    model = IncidentUpdate
    extra = 1
    verbose_name = "update"
    fields = (("phase", "told_at"), "text")
    ordering = ("-told_at",)


@admin.register(Incident)
class IncidentAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    form = IncidentForm
    inlines = (UpdateInline,)
    list_display = ("title", "impact", "starts_at", "ends_at", "updates_told", "page")
    list_filter = ("impact",)
    search_fields = ("title",)
    ordering = ("-starts_at",)
    readonly_fields = ("page",)

    class Media:
        css: ClassVar = {"all": ["css/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("updates")

    @admin.display(description="updates")
    def updates_told(self, incident: Incident) -> int:
        return len(incident.updates.all())

    @admin.display(description="page")
    def page(self, incident: Incident) -> SafeString | str:
        if incident._state.adding:  # noqa: SLF001  # Django's own word for it
            return "After it is saved."
        return format_html('<a href="/status/incidents/{}">As users see it</a>', incident.public_id)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        history.keeper.forget()  # who has just written wants to see it; other processes follow in seconds
