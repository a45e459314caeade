"""What the search box of the docs looks through: titles of pages, their headings, and the reference's operations."""

import functools
from typing import Final, NamedTuple

from helixflow.site import docs
from helixflow.site.openapi import reference

MOST: Final = 30


class Entry(NamedTuple):
    """``at`` is where it stands: its page, or the reference's chapter."""

    title: str
    at: str
    href: str
    words: str


@functools.cache
def entries() -> tuple[Entry, ...]:
    found = []
    for page in docs.PAGES:
        found.append(Entry(page.title, "Guide", page.href, f"{page.title} {page.summary}".lower()))
        found += [
            Entry(heading.title, page.title, f"{page.href}#{heading.id}", f"{heading.title} {page.title}".lower())
            for heading in docs.outline()[page.slug]
        ]
    for chapter in reference.chapters():
        for each in chapter.operations:
            words = f"{each.summary} {each.method} {each.path} {each.id} {chapter.title}".lower()
            found.append(Entry(each.summary, f"API reference · {chapter.title}", f"{chapter.href}#{each.id}", words))
    return tuple(found)


def search(text: str) -> list[Entry]:
    """Those with every word of ``text``, where a title begins with it first; at most ``MOST``."""
    words = text.lower().split()
    if not words:
        return []
    found = [entry for entry in entries() if all(word in entry.words for word in words)]
    return sorted(found, key=lambda entry: not entry.title.lower().startswith(words[0]))[:MOST]
