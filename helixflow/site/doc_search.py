"""What the search box of the docs looks through: pages by heading, titles before texts; the reference's operations."""

import functools
from typing import Final, NamedTuple

from helixflow.site import docs
from helixflow.site.openapi import reference

MOST: Final = 30


class Entry(NamedTuple):
    """``at`` is where it stands: its page, or the reference's chapter. ``text``: the words of what stands below it."""

    title: str
    at: str
    href: str
    words: str
    text: str


@functools.cache
def entries() -> tuple[Entry, ...]:
    found = []
    for page in docs.PAGES:
        below = docs.words_below(page)
        found.append(Entry(page.title, "Guide", page.href, f"{page.title} {page.summary}".lower(), below[""]))
        for heading in docs.outline()[page.slug]:
            words = f"{heading.title} {page.title}".lower()
            found.append(Entry(heading.title, page.title, f"{page.href}#{heading.id}", words, below[heading.id]))
    for chapter in reference.chapters():
        for each in chapter.operations:
            words = f"{each.summary} {each.method} {each.path} {each.id} {chapter.title}".lower()
            text = " ".join(field.name for field in (*each.parameters, *each.headers, *each.body)).lower()
            found.append(
                Entry(each.summary, f"API reference · {chapter.title}", f"{chapter.href}#{each.id}", words, text)
            )
    return tuple(found)


def search(text: str) -> list[Entry]:
    """Those with every word of ``text``, at most ``MOST``: first where a title begins with it, then where a title or
    summary has it. static/js/docs.js does the same.
    """
    words = text.lower().split()
    if not words:
        return []
    found = [each for each in entries() if all(word in f"{each.words} {each.text}" for word in words)]
    return sorted(found, key=lambda each: _rank(each, words))[:MOST]


def _rank(entry: Entry, words: list[str]) -> int:
    if entry.title.lower().startswith(words[0]):
        return 0
    return 1 if all(word in entry.words for word in words) else 2
