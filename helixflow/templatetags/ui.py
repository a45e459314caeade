"""The components that `{% include … only %}` can't express: icons, blocks with content, relative times, navigation.

docs/design.md shows each of them in use.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.conf import settings
from django.forms import BoundField
from django.template import Context
from django.template.loader import render_to_string
from django.utils import dateformat, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helixflow.lib import clock
from helixflow.site.highlight import highlight
from helixflow.site.icons import ICONS

register = template.Library()

UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60))
ROUNDED_UP_S = 59
ALONE = {"year": ("last year", "next year"), "month": ("last month", "next month"), "day": ("yesterday", "tomorrow")}
SNIPPETS = (("curl", "curl"), ("python", "Python"), ("javascript", "JavaScript"), ("go", "Go"))
NOT_KEPT = {
    ("webhook", "curl"),  # it is called, and calls nobody
    ("fallback", "go"),  # one header more than chat's
    ("idempotency", "go"),  # the same
    ("batch", "go"),  # a form and a file: what the package for Go is for
}
COMMENTS = {"curl": "#", "python": "#", "javascript": "//", "go": "//"}


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of ``helixflow.site.icons``, for the eye only: the text beside it, or an aria-label, says the same."""
    return format_html(
        '<svg class="icon" width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor" '
        'aria-hidden="true" focusable="false"><path d="{}"/></svg>',
        ICONS[name],
    )


@register.simple_block_tag
def table(content: str, caption: str, *, stacked: bool = True, shown_caption: bool = False) -> SafeString:
    """A table that scrolls inside itself; on phones ``stacked`` shows rows as cards (give each td a data-label)."""
    return format_html(
        '<div class="table-scroll" role="region" aria-label="{caption}" tabindex="0"><table class="{classes}">'
        '<caption class="{caption_class}">{caption}</caption>{content}</table></div>',
        caption=caption,
        classes="table table--stacked" if stacked else "table",
        caption_class="table__caption" if shown_caption else "visually-hidden",
        content=content,
    )


@register.simple_block_tag
def dialog(content: str, id: str, title: str, *, open: bool = False) -> SafeString:  # noqa: A002  # HTML's names
    """A modal ``<dialog>``; ``open`` shows it as the page comes, for a form that was sent back with errors."""
    return SafeString(
        render_to_string("components/_dialog.html", {"id": id, "title": title, "open": open, "content": content})
    )


@register.simple_block_tag
def code(content: str, id: str, language: str, title: str = "") -> SafeString:  # noqa: A002  # HTML's names
    """A code block with a copy button. ``language``: shell, python, javascript, go, json, http."""
    coloured = highlight(content.strip("\n"), language)
    return SafeString(
        render_to_string("components/_code.html", {"id": id, "title": title, "code": coloured, "language": language})
    )


@register.filter
def coloured(text: str, language: str) -> SafeString:
    """For code that is not the template's own: ``{{ body|coloured:"json" }}``, as ``code`` does it. Escapes."""
    return highlight(text, language)


@register.simple_tag(takes_context=True)
def code_tabs(context: Context, id: str, name: str, *, first: str = "curl", **values: Any) -> SafeString:  # noqa: A002  # HTML's names
    """The snippet ``name`` of templates/snippets in curl, Python, JavaScript and Go; not all are kept in curl.

    ``api_key`` puts a key in; without it the snippets read HELIXFLOW_API_KEY. ``model`` names the model;
    ``first`` is the language shown to those who have not chosen one.
    """
    known = {
        "api_base_url": context["api_base_url"],
        "public_url": context["public_url"],
        "model": settings.EXAMPLE_MODEL,
    }
    key_prefix = getattr(context.get("reader"), "key_prefix", None)  # of the docs: who is signed in
    snippets = []
    for slug, label in SNIPPETS:
        if (name, slug) in NOT_KEPT:
            continue
        text = render_to_string(f"snippets/{name}.{slug}.txt", known | values).strip("\n")
        if key_prefix and "HELIXFLOW_API_KEY" in text:
            text = f"{COMMENTS[slug]} HELIXFLOW_API_KEY: yours begins with {key_prefix}\n{text}"
        snippets.append({"slug": slug, "label": label, "code": highlight(text, "shell" if slug == "curl" else slug)})
    return SafeString(render_to_string("components/_code_tabs.html", {"id": id, "snippets": snippets, "first": first}))


@register.simple_tag(name="time")
def relative_time(at: datetime | None, never: str = "Never") -> SafeString:
    """``at`` told relatively, the exact time on hover. A template's last newline would stand before a full stop."""
    if at is None:
        return format_html('<span class="faint">{}</span>', never)
    exact = dateformat.format(at.astimezone(UTC), "j M Y, H:i:s")
    return format_html('<time datetime="{}" data-relative title="{} UTC">{}</time>', clock.rfc3339(at), exact, ago(at))


def ago(moment: datetime) -> str:
    """``3 minutes ago``, in the words that static/js/time.js goes on with."""
    seconds = (moment - timezone.now()).total_seconds()
    ahead = seconds > 0
    if ahead:  # what was just set to a day from now is "tomorrow", not "in 23 hours"
        seconds += ROUNDED_UP_S
    for unit, length in UNITS:
        count = int(abs(seconds) // length)
        if count:
            if count == 1 and unit in ALONE:
                return ALONE[unit][ahead]
            units = unit if count == 1 else f"{unit}s"
            return f"in {count} {units}" if ahead else f"{count} {units} ago"
    return "just now"


@register.filter
def percent_of(used: int | Decimal, limit: int | Decimal) -> int:
    """0 to 100; a spent or zero limit is 100."""
    return min(100, round(100 * used / limit)) if limit else 100


@register.filter
def is_widget(field: BoundField, names: str) -> bool:
    """Whether the field's widget is one of the comma-separated ``names`` (``checkbox,radioselect``)."""
    return field.widget_type in names.split(",")


@register.inclusion_tag("components/_nav_link.html", takes_context=True)
def nav_link(context: dict[str, Any], href: str, label: str, icon: str = "", *, exact: bool = False) -> dict[str, Any]:
    """A link of a navigation, marked current on its own page and, unless ``exact``, on those below it."""
    request = context.get("request")
    path = request.path.rstrip("/") if request else ""
    current = path == href or (not exact and path.startswith(f"{href}/"))
    return {"href": href, "label": label, "icon": icon, "current": current}
