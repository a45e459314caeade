"""The template tags of the components, and the colours of snippets."""

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django import forms
from django.conf import settings
from django.template import Context, Template
from django.template.loader import render_to_string

from helixflow.site.highlight import LANGUAGES, highlight
from helixflow.templatetags import ui

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SNIPPETS = sorted((Path(settings.BASE_DIR) / "templates" / "snippets").glob("*.txt"))


def render(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (NOW, "just now"),
        (NOW - timedelta(seconds=59), "just now"),
        (NOW - timedelta(minutes=1), "1 minute ago"),
        (NOW - timedelta(hours=5, minutes=59), "5 hours ago"),
        (NOW - timedelta(days=1), "yesterday"),
        (NOW - timedelta(days=45), "last month"),
        (NOW - timedelta(days=800), "2 years ago"),
        (NOW + timedelta(days=1), "tomorrow"),
        (NOW + timedelta(days=1) - timedelta(seconds=2), "tomorrow"),
        (NOW + timedelta(seconds=20), "in 1 minute"),
        (NOW + timedelta(days=3), "in 3 days"),
    ],
)
def test_times_are_told_relatively(moment: datetime, words: str) -> None:
    with time_machine.travel(NOW, tick=False):
        assert ui.ago(moment) == words


def test_a_time_carries_the_exact_moment() -> None:
    with time_machine.travel(NOW, tick=False):
        shown = render("{% time at %}", at=NOW - timedelta(hours=2))
    assert '<time datetime="2026-03-01T10:00:00Z"' in shown
    assert 'title="1 Mar 2026, 10:00:00 UTC"' in shown
    assert "2 hours ago" in shown
    assert "Never" in render("{% time None %}")
    assert render("Used {% time None %}.").endswith("</span>.")


@pytest.mark.parametrize(("used", "limit", "percent"), [(0, 100, 0), (80, 100, 80), (150, 100, 100), (0, 0, 100)])
def test_a_quota_is_never_over_full(used: int, limit: int, percent: int) -> None:
    assert ui.percent_of(used, limit) == percent


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("api_key", ["", "hflow_key"])
def test_colours_change_nothing_of_a_snippet(path: Path, api_key: str) -> None:
    name, language, _ = path.name.split(".")
    known = {"api_base_url": "https://api.example.com/v1", "model": "a/model", "api_key": api_key}
    text = render_to_string(f"snippets/{path.name}", known)
    coloured = highlight(text, "shell" if language == "curl" else language)
    assert html.unescape(re.sub(r"</?span[^>]*>", "", coloured)) == text
    assert coloured != html.escape(text), f"{name} has no colours"
    if language == "python":
        compile(text, path.name, "exec")


def test_a_snippet_has_a_tab_for_each_language_that_it_is_kept_in() -> None:
    addresses = {"api_base_url": "https://api.example.com/v1", "public_url": "https://api.example.com"}
    tabs = {name: render(f'{{% code_tabs "x" "{name}" first="go" %}}', **addresses) for name in ("chat", "webhook")}
    kept = {name: re.findall(r'id="x-(\w+)-tab"', shown) for name, shown in tabs.items()}
    assert kept == {"chat": ["curl", "python", "javascript", "go"], "webhook": ["python", "javascript", "go"]}


@pytest.mark.parametrize("language", [*LANGUAGES, "unknown"])
def test_colours_escape_everything(language: str) -> None:
    coloured = highlight("</code><script>\"<b>\" '<i>' # <u> // <s>", language)
    assert re.findall(r"<(?!/?span\b)", coloured) == []


def test_a_button_is_a_link_where_it_leads_somewhere() -> None:
    link = render('{% include "components/_button.html" with label="Read the docs" href="/docs" only %}')
    assert link.strip().startswith('<a href="/docs" class="button"')
    button = render('{% include "components/_button.html" with label="Revoke key" kind="danger" only %}')
    assert button.strip().startswith('<button type="submit" class="button button--danger"')


class Example(forms.Form):
    name = forms.CharField(help_text="What you call it.")
    password = forms.CharField(widget=forms.PasswordInput)
    colour = forms.ChoiceField(choices=[("r", "Red"), ("g", "Green")], widget=forms.RadioSelect, required=False)
    agree = forms.BooleanField()


def field(form: forms.Form, name: str) -> str:
    return render('{% include "components/_field.html" with field=field only %}', field=form[name])


def test_a_field_ties_hint_and_error_to_its_input() -> None:
    shown = field(Example({"name": ""}), "name")
    assert 'aria-describedby="id_name_helptext id_name_error"' in shown
    assert 'aria-invalid="true"' in shown
    assert 'id="id_name_helptext"' in shown
    assert 'id="id_name_error"' in shown
    assert '<label for="id_name">' in shown


def test_a_hint_that_a_page_takes_from_its_data_is_text() -> None:
    template = '{% include "components/_field.html" with field=field hint=hint only %}'
    shown = render(template, field=Example()["name"], hint="<form action=/evil>")
    assert "<form" not in shown
    assert "&lt;form action=/evil&gt;" in shown


def test_a_password_can_be_shown_and_is_never_sent_back() -> None:
    shown = field(Example({"password": "a secret"}), "password")
    assert 'data-reveal="id_password"' in shown
    assert "a secret" not in shown


def test_choices_are_a_group_with_a_legend() -> None:
    shown = field(Example(), "colour")
    assert "<fieldset" in shown
    assert "<legend" in shown
    assert "Optional" in shown
    assert shown.count('type="radio"') == 2


def test_the_current_page_is_marked(rf: object) -> None:
    def marked(path: str, href: str, *, exact: bool = False) -> bool:
        request = rf.get(path)  # type: ignore[attr-defined]  # a factory of pytest-django
        return bool(ui.nav_link({"request": request}, href, "Label", exact=exact)["current"])

    assert marked("/dashboard/api-keys", "/dashboard/api-keys")
    assert marked("/dashboard/api-keys/key_1", "/dashboard/api-keys")
    assert not marked("/dashboard/api-keys", "/dashboard", exact=True)
    assert not marked("/docs/apiary", "/docs/api")
