"""The pages of ``/docs`` in their order. Their texts are templates/site/docs/<slug>.html."""

import functools
import html
import re
from typing import Final, NamedTuple

from django.conf import settings
from django.template.loader import render_to_string

_HEADING: Final = re.compile(r'<h2 id="(?P<id>[^"]+)" class="anchored">(?P<title>.*?)<a class="anchor"', re.DOTALL)
_VARIABLE: Final = re.compile(r"# (?P<name>[A-Z][A-Z0-9_]+)=(?P<default>.*)$")
_TAG: Final = re.compile(r"<[^>]+>")
_WORD: Final = re.compile(r"\w+(?:[-/_.]\w+)*")


class Page(NamedTuple):
    slug: str
    title: str
    summary: str

    @property
    def href(self) -> str:
        return f"/docs/{self.slug}"


class Group(NamedTuple):
    title: str
    pages: tuple[Page, ...]


class Heading(NamedTuple):
    id: str
    title: str


GROUPS: Final = (
    Group(
        "Start",
        (
            Page("quickstart", "Quickstart", "From nothing to an answer in three steps."),
            Page("authentication", "Authentication", "API keys, access tokens, and a second factor."),
            Page("sdks", "SDKs", "Packages for Python, JavaScript and Go: ours, and OpenAI's pointed here."),
        ),
    ),
    Group(
        "Build",
        (
            Page("chat", "Chat and streaming", "Conversations, whole or as they are written; texts and embeddings."),
            Page("models", "Models and fallbacks", "Names, deployments, stand-ins and deadlines."),
            Page("errors", "Errors and retries", "What went wrong, when to try again, and how not to pay twice."),
            Page("limits", "Limits and quotas", "Requests by minute and month, budgets, and the headers."),
            Page("usage", "Usage and receipts", "What you have used, over time and request by request."),
            Page("webhooks", "Webhooks", "Be told instead of asking: events, signatures, retries."),
            Page("batch", "Batch", "Many requests at once, inline or by file: progress, results, retries."),
        ),
    ),
    Group(
        "Manage",
        (
            Page(
                "accounts", "Playground, team and security", "The dashboard: trying models, people, and what happened."
            ),
            Page("self-hosting", "Self-hosting", "Running HelixFlow yourself, on a laptop or in production."),
        ),
    ),
)
PAGES: Final = tuple(page for group in GROUPS for page in group.pages)
BY_SLUG: Final = {page.slug: page for page in PAGES}


def around(page: Page) -> tuple[Page | None, Page | None]:
    """The page before it and the one after it."""
    at = PAGES.index(page)
    return (PAGES[at - 1] if at else None, PAGES[at + 1] if at + 1 < len(PAGES) else None)


def headings(body: str) -> list[Heading]:
    """Of a rendered page, in order."""
    found = _HEADING.finditer(body)
    return [Heading(match["id"], html.unescape(_TAG.sub("", match["title"])).strip()) for match in found]


@functools.cache
def _bodies() -> dict[str, str]:
    """Each page by its slug, as a reader who isn't known sees it."""
    known = {"api_base_url": f"{settings.PUBLIC_URL}/v1", "public_url": settings.PUBLIC_URL}
    return {page.slug: render_to_string(page_template(page), known) for page in PAGES}


@functools.cache
def outline() -> dict[str, tuple[Heading, ...]]:
    """The headings of each page by its slug. They are the same for every reader, so they are read once."""
    return {slug: tuple(headings(body)) for slug, body in _bodies().items()}


def words_below(page: Page) -> dict[str, str]:
    """Each word once of what stands below each heading, by the heading's id; below none yet: an empty one."""
    first, *rest = _HEADING.split(_bodies()[page.slug])  # an id, a title, what follows, and again
    below = {"": first} | dict(zip(rest[::3], rest[2::3], strict=True))
    return {each: " ".join(sorted(_words(body))) for each, body in below.items()}


def _words(body: str) -> set[str]:
    return {word for word in _WORD.findall(html.unescape(_TAG.sub("", body)).lower()) if len(word) > 2}


def page_template(page: Page) -> str:
    return f"site/docs/{page.slug.replace('-', '_')}.html"


class Variable(NamedTuple):
    name: str
    default: str


class Variables(NamedTuple):
    title: str
    rows: tuple[Variable, ...]


@functools.cache
def environment() -> tuple[Variables, ...]:
    """Every variable with its default, by chapter, as .env.example lists them."""
    _, *blocks = (settings.BASE_DIR / ".env.example").read_text().split("\n\n")
    return tuple(chapter for block in blocks if (chapter := _chapter(block)).rows)


def _chapter(block: str) -> Variables:
    lines = block.splitlines()
    found = [match for line in lines if (match := _VARIABLE.match(line))]
    title = re.split(r"[.:;]", lines[0].removeprefix("# "))[0]
    return Variables(title, tuple(Variable(match["name"], match["default"]) for match in found))
