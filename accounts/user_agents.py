"""What a User-Agent says to its owner: ``Firefox on Linux``. For eyes only; anybody can send anything."""

from typing import Final

# The first that is found: most browsers name others as well.
BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Safari/", "Safari"),
)
PROGRAMS: Final = (
    ("curl/", "curl"),
    ("python-requests/", "Python (requests)"),
    ("python-httpx/", "Python (httpx)"),
    ("Python-urllib/", "Python (urllib)"),
    ("aiohttp/", "Python (aiohttp)"),
    ("Go-http-client/", "Go"),
    ("node", "Node.js"),
    ("PostmanRuntime/", "Postman"),
    ("Wget/", "Wget"),
)
SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
SHOWN: Final = 40  # characters of one that is none of these


def describe(user_agent: str) -> str:
    program = _first(PROGRAMS, user_agent)
    if program:
        return program
    browser, system = _first(BROWSERS, user_agent), _first(SYSTEMS, user_agent)
    if browser and system:
        return f"{browser} on {system}"
    if browser or system:
        return browser or f"A program on {system}"
    short = user_agent.split(" ", maxsplit=1)[0][:SHOWN]
    return short if short.isprintable() and short else "An unknown program"


def _first(known: tuple[tuple[str, str], ...], text: str) -> str:
    return next((name for mark, name in known if mark in text), "")
