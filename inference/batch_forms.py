"""The forms of the batches' pages. They turn text into values; the rules are ``inference.batch``'s."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from django import forms

from accounts.forms import ServiceForm
from accounts.models import ApiKey, Organization
from inference.batch import lines, reading, words
from inference.batch.lines import Line
from inference.batch.splitting import Splitter
from inference.batch_models import OPEN, BatchStatus, Operation

OPEN_ONES: Final = "open"
PROBLEMS: Final = 100  # lines that are named
ENOUGH: Final = 1_000  # lines that are wrong: the rest is not read
LABELS: Final = {
    Operation.CHAT: "Chat completions",
    Operation.COMPLETIONS: "Text completions",
    Operation.EMBEDDINGS: "Embeddings",
}


class FilterForm(forms.Form):
    """Of the list. What nobody knows is refused, not ignored."""

    status = forms.ChoiceField(
        required=False,
        choices=[
            ("", "All"),
            (OPEN_ONES, "Under way"),
            *((status.value, words.LABELS[status][0]) for status in BatchStatus if status not in OPEN),
        ],
        error_messages={"invalid_choice": "There is no such status."},
        widget=forms.Select(attrs={"data-autosubmit": ""}),
    )
    key = forms.ChoiceField(
        required=False,
        error_messages={"invalid_choice": "There is no API key with this id in your organization."},
        widget=forms.Select(attrs={"data-autosubmit": ""}),
    )

    def __init__(self, organization: Organization, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        rows = ApiKey.objects.of(organization).order_by("-id")[:200]
        self._keys = {key.public_id: key for key in rows}
        _choices(self, "key", [("", "All"), *((each, key.name) for each, key in self._keys.items())])

    def values(self) -> dict[str, Any]:
        """As ``reading.batches`` takes them."""
        status, key = self.cleaned_data["status"], self._keys.get(self.cleaned_data["key"])
        statuses = OPEN if status == OPEN_ONES else (status,) if status else ()
        return {"statuses": statuses, "api_key_id": key.id if key else None}


class NewBatchForm(ServiceForm):
    key = forms.ChoiceField(
        label="API key",
        help_text="In whose name it runs: its models, limits and budget hold, and usage is told under it.",
        error_messages={
            "required": "Choose a key.",
            "invalid_choice": "This key can't be used any more. Choose again.",
        },
    )
    operation = forms.ChoiceField(label="Endpoint", choices=[(each.value, LABELS[each]) for each in Operation])
    file = forms.FileField(
        required=False,
        label="JSONL file",
        help_text="A request a line, in OpenAI's batch format.",
        widget=forms.FileInput(attrs={"accept": ".jsonl,.ndjson,.txt,application/jsonl"}),
        error_messages={"empty": "This file is empty."},
    )
    lines = forms.CharField(
        required=False,
        label="Or its lines",
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "mono small", "autocomplete": "off"}),
    )

    once = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, organization: Organization, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: list[Line] = []
        self.problems: list[tuple[str, str]] = []  # where, what
        self.keys = {key.public_id: key for key in reading.usable_keys(organization)}
        _choices(self, "key", [(each, f"{key.name} · …{key.hint[-4:]}") for each, key in self.keys.items()])

    def clean(self) -> dict[str, Any]:
        file, pasted = self.cleaned_data.get("file"), self.cleaned_data.get("lines", "")
        if file and pasted.strip():
            self.add_error("lines", "Choose a file or paste lines, not both.")
        elif file or pasted.strip():
            self._read("file" if file else "lines", file.read() if file else pasted.encode())
        elif "file" not in self.errors:
            self.add_error("file", "Choose a file, or paste its lines below.")
        return self.cleaned_data

    @property
    def api_key(self) -> ApiKey:
        return self.keys[self.cleaned_data["key"]]

    def _read(self, field: str, contents: bytes) -> None:
        """All lines are looked at, bodies too, so that all that is wrong is told at once."""
        if "operation" not in self.cleaned_data:
            return
        seen: dict[str, int] = {}
        for number, raw in _numbered(contents):
            try:
                line = lines.parse(raw, number, self.cleaned_data["operation"])
            except lines.BadLine as bad:
                self.problems.append((f"Line {number}", f"{bad.param}: {bad.message}" if bad.param else bad.message))
                if len(self.problems) >= ENOUGH:
                    break
                continue
            if line.custom_id in seen:
                self.problems.append((f"Line {number}", f"It has the custom_id of line {seen[line.custom_id]}."))
            seen.setdefault(line.custom_id, number)
            self.requests.append(line)
        if self.problems:
            count = len(self.problems)
            self.add_error(field, f"{count} line{'s are' if count > 1 else ' is'} not valid: see below.")
            del self.problems[PROBLEMS:]


def _numbered(contents: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, but for blank ones."""
    splitter = Splitter(lines.MAX_BYTES)
    every = chain(splitter.feed(contents), splitter.end())
    return ((number, raw) for number, raw in enumerate(every, 1) if raw)


def _choices(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)  # noqa: S101  # for the type checker
    field.choices = choices
