"""What operators enter of providers, and of the models they import from them."""

import re
from typing import Any, ClassVar, Final

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from helixflow.lib import crypto
from inference.models import Provider, ProviderKind, valid_name
from inference.probing import new_adapter
from inference.providers.adapter import Account
from inference.providers.presets import CHOICES
from inference.upstream import Origin

# Of the fields that only some kinds have, those of each. The others are emptied when it is saved.
KIND_FIELDS: Final[dict[str, frozenset[str]]] = {
    ProviderKind.COMPATIBLE: frozenset({"preset"}),
    ProviderKind.OPENAI: frozenset(),
    ProviderKind.AZURE: frozenset({"api_version"}),
    ProviderKind.ANTHROPIC: frozenset({"api_version"}),
    ProviderKind.BEDROCK: frozenset({"region"}),
    ProviderKind.GEMINI: frozenset(),
    ProviderKind.VERTEX: frozenset({"region", "project", "api_version"}),
}
SOME_KINDS: Final = frozenset().union(*KIND_FIELDS.values())
# What each needs, beside the form's fields.
KIND_HELP: Final[dict[str, str]] = {
    ProviderKind.COMPATIBLE: (
        "Choose the server under preset, or enter its base URL, up to and including /v1. The credential is its API "
        "key; a server of your own may need none."
    ),
    ProviderKind.OPENAI: "The credential is an API key (sk-…). The base URL may stay empty.",
    ProviderKind.AZURE: (
        "The base URL is the resource's endpoint, https://NAME.openai.azure.com; the credential one of its two keys. "
        "A deployment's upstream model is the name of the deployment at Azure."
    ),
    ProviderKind.ANTHROPIC: "The credential is an API key (sk-ant-…). The base URL may stay empty.",
    ProviderKind.BEDROCK: (
        "Enter the region, such as us-east-1. The credential is a Bedrock API key, or ACCESS_KEY_ID:SECRET_ACCESS_KEY, "
        "with :SESSION_TOKEN after it if there is one. The base URL may stay empty."
    ),
    ProviderKind.GEMINI: "The credential is an API key of Google AI Studio (AIza…). The base URL may stay empty.",
    ProviderKind.VERTEX: (
        "The credential is the whole JSON of a service account's key, whose project counts unless another is entered; "
        "empty, it is what this machine has (application default credentials), and the project must be entered. "
        "A region is one such as us-central1; empty, it is global."
    ),
}
BASE_URL_HELP: Final = (
    "Empty: the provider's own address, where its kind has one. That of an OpenAI-compatible server ends with its "
    "version, which mostly is /v1."
)
# A credential is for these; where one changes, it would go to somebody else.
TIED: Final = {"kind": "kind", "preset": "preset", "base_url": "base URL", "region": "region", "project": "project"}
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._:/@+-]+")


def _kinds_explained() -> SafeString:
    """The style sheet shows the line of the kind that is chosen."""
    return format_html_join("", '<span class="kind kind--{}">{}</span>', KIND_HELP.items())


class WriteOnlyTextarea(forms.Textarea):
    """Several lines go in, and nothing comes out."""

    def __init__(self) -> None:
        super().__init__({"rows": 3, "cols": 60, "class": "write-only", "autocomplete": "off", "spellcheck": "false"})

    def format_value(self, value: Any) -> None:
        return None


class ProviderForm(forms.ModelForm):
    """The credential goes in and never comes out."""

    credential = forms.CharField(
        required=False,
        max_length=20_000,
        widget=WriteOnlyTextarea,
        help_text="Stored encrypted and never shown. Empty: the one that is stored, if any, stays.",
    )
    forget_credential = forms.BooleanField(label="Forget the stored credential", required=False)

    class Meta:
        model = Provider
        fields = (
            *("kind", "name", "preset", "base_url", "region", "project", "api_version"),
            *("stream_always", "enabled"),
        )
        widgets: ClassVar = {
            "base_url": AdminTextInputWidget(attrs={"placeholder": "https://"}),
            "preset": forms.Select(choices=[("", "another"), *CHOICES]),
        }
        help_texts: ClassVar = {"kind": _kinds_explained(), "base_url": BASE_URL_HELP}

    def clean_base_url(self) -> str:
        base_url: str = self.cleaned_data["base_url"]
        try:
            if base_url:
                Origin.parse(base_url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        return base_url

    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.cleaned_data
        if not self.errors:
            for name in SOME_KINDS - KIND_FIELDS[fields["kind"]]:
                fields[name] = ""
            self._keep_the_credential_where_it_was()
        if not self.errors:
            self._try_the_settings()
        return fields

    def _keep_the_credential_where_it_was(self) -> None:
        """A stored one is sent to the address it was entered for, never to one of somebody else's choice."""
        fields = self.cleaned_data
        if not self.instance.sealed_credential or fields["credential"] or fields["forget_credential"]:
            return
        moved = " and ".join(words for name, words in TIED.items() if fields[name] != self.initial[name])
        if moved:
            self.add_error(
                "credential", f"The stored credential is for the old {moved}. Enter the one for this, or forget it."
            )

    def _try_the_settings(self) -> None:
        fields = self.cleaned_data
        try:
            stored = "" if fields["credential"] or fields["forget_credential"] else self.instance.credential
        except crypto.Undecryptable:
            self.add_error("credential", "The stored one can't be opened any more. Enter it again, or forget it.")
            return
        settings = {name: fields[name] for name in (*TIED, "api_version")}
        try:
            new_adapter(Account(credential=fields["credential"] or stored, **settings))
        except ValueError as error:
            self.add_error(None, str(error))

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["credential"]:
            self.instance.credential = self.cleaned_data["credential"]
        elif self.cleaned_data["forget_credential"]:
            self.instance.credential = ""
        return super().save(commit)


class ImportOptions(forms.Form):
    """What holds for everything that is imported in one go."""

    owned_by = forms.CharField(
        max_length=100, help_text="Of models that are new here. Callers see it in the list of models."
    )
    priority = forms.IntegerField(min_value=0, max_value=32767, initial=0, help_text="Lower is tried first.")
    weight = forms.IntegerField(min_value=1, max_value=32767, initial=1)
    enabled = forms.BooleanField(
        required=False, initial=True, label="Enable at once", help_text="Otherwise new models and deployments wait."
    )


class ImportedModel(forms.Form):
    """One of the provider's models, and the name callers shall ask for."""

    upstream_model = forms.CharField(max_length=200, widget=forms.HiddenInput)
    name = forms.CharField(max_length=200, validators=[valid_name], widget=forms.TextInput(attrs={"size": 40}))


ImportedModels = forms.formset_factory(ImportedModel, extra=0, max_num=300, absolute_max=300)


def suggested_name(upstream_model: str) -> str:
    """The provider's name for it, as far as ours may look like that."""
    return _STRANGE.sub("-", upstream_model).lstrip("._:/@+-")[:200]
