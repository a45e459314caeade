"""A first streamed call in four languages, ready to paste. Each one runs as it is: tests/e2e does it."""

from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.template.loader import render_to_string

LANGUAGES: Final = (("curl", "curl"), ("python", "Python"), ("javascript", "JavaScript"), ("go", "Go"))
PLACEHOLDER: Final = "YOUR_API_KEY"


@dataclass(frozen=True)
class Snippet:
    slug: str
    label: str
    code: str


def snippets(*, key: str = PLACEHOLDER, model: str | None = None) -> list[Snippet]:
    """``key`` and ``model`` go into the code unescaped: both must be in their own narrow alphabets."""
    values = {
        "base_url": f"{settings.PUBLIC_URL}/v1",
        "key": key,
        "model": model or settings.EXAMPLE_MODEL,
    }
    return [
        Snippet(slug, label, render_to_string(f"snippets/{slug}.txt", values).strip()) for slug, label in LANGUAGES
    ]
