"""A real browser for the tests in this folder: ``browser`` for a module, ``page`` for one test.

A test with a ``page`` fails on anything the console calls an error: a script that throws, a broken link to an asset,
a violation of the Content-Security-Policy. Where an error is the point, the test takes it out of ``console_errors``.
"""

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.requirements import require_browser

_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright's synchronous API keeps an event loop running on this thread.

    So it ends with the module, since others call asyncio.run, and meanwhile Django is told to allow its ORM here.
    """
    path = require_browser()
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def console_errors() -> list[str]:
    return []


@pytest.fixture
def page(context: BrowserContext, console_errors: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    page = context.new_page()
    page.on("console", lambda message: console_errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: console_errors.append(str(error)))
    yield page
    failed = request.node.stash.get(_failed, True)
    if failed or console_errors:
        folder = Path(tempfile.mkdtemp(prefix="helixflow-browser-"))
        page.screenshot(path=folder / f"{request.node.name}.png", full_page=True)
        print(f"Screenshot: {folder}")
    if not failed:
        assert console_errors == []


@pytest.fixture(autouse=True)
def _new_tries(request: pytest.FixtureRequest) -> None:
    """More people sign up in these tests than may from one address."""
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").forget_tries()
