"""Colours for the few languages of our snippets: comments, strings, keywords and numbers, and nothing cleverer."""

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

_STRING = r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`"""
_NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])"


def _language(*, keywords: str, comment: str, string: str = _STRING, number: str = _NUMBER) -> re.Pattern[str]:
    return re.compile(f"(?P<c>{comment})|(?P<s>{string})|(?P<k>{keywords})|(?P<n>{number})", re.MULTILINE)


def _words(text: str) -> str:
    return rf"\b(?:{'|'.join(text.split())})\b"


LANGUAGES = {
    "shell": _language(
        keywords=r"^(?:curl|export|pip|npm|go|openssl)\b|(?<=\s)--?[A-Za-z][\w-]*",
        comment=r"(?:^|(?<=\s))#.*$",
        number=r"(?!)",  # those of addresses and ports say nothing
    ),
    "python": _language(
        keywords=_words(
            "import from for in if else try except as def class return raise while continue not or print with True "
            "False None async await"
        ),
        comment=r"#.*$",
    ),
    "javascript": _language(
        keywords=_words(
            "import from const let for of await async new if else try catch throw return function true false null"
        ),
        comment=r"//.*$",
    ),
    "go": _language(
        keywords=_words(
            "package import func type struct var const for range if else continue return go defer map string any nil "
            "true false"
        ),
        comment=r"//.*$",
    ),
    # In JSON the names are the keywords.
    "json": re.compile(
        rf'(?P<k>"[^"\n]*"(?=\s*:))|(?P<s>"(?:\\.|[^"\\\n])*")|(?P<n>{_NUMBER}|\b(?:true|false|null)\b)'
    ),
    "http": _language(keywords=r"^[A-Za-z-]+(?=:)", comment=r"^#.*$", string=r"(?!)"),
}


def highlight(code: str, language: str) -> SafeString:
    """``code`` as HTML, everything escaped; an unknown language comes out plain."""
    pattern = LANGUAGES.get(language)
    if pattern is None:
        return mark_safe(escape(code))  # noqa: S308  # escaped
    parts: list[str] = []
    end = 0
    for match in pattern.finditer(code):
        parts.append(escape(code[end : match.start()]))
        parts.append(f'<span class="{match.lastgroup}">{escape(match.group())}</span>')
        end = match.end()
    parts.append(escape(code[end:]))
    return mark_safe("".join(parts))  # noqa: S308  # every part is escaped
