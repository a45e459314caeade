"""How pages look and behave in a real browser: accessible, still, of this site alone, in both themes and on a phone.

The ``page`` fixture fails a test on any console error, violations of the Content-Security-Policy among them.
"""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.conf import settings
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect

from accounts import api_keys
from accounts.models import ApiKey, User
from billing import key_limits, subscriptions
from billing.seeds import seed_plans
from tests import belongings, factories, sitemap
from tests.e2e import axe
from tests.sitemap import Route
from webhooks.models import Delivery, DeliveryState, DisabledReason, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)

LEAST_PAGES = 8
ENDS_SESSIONS = {"logout"}
FIND_SMALL_TARGETS = """() =>
  [...document.querySelectorAll("button, summary, select, input:not([type=hidden]), .button, .menu__item, nav a")]
    .filter((element) => element.checkVisibility())
    .filter((element) => Math.max(element.offsetHeight, element.closest("label, .choice")?.offsetHeight ?? 0) < 44)
    .map((element) => element.outerHTML)"""
WATCH_SHIFTS = """
  window.shift = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture
def user(live_server: Any) -> User:
    seed_plans()
    user = factories.user("ada")
    organization = factories.organization(owner=user)
    for name in ("Website", "Nightly evaluation"):
        key, _ = api_keys.create(organization=organization, user=user, name=name, environment="production")
    subscriptions.set_caps(organization=organization, user=user, monthly_budget=Decimal(25), max_parallel=8)
    key_limits.set_limits(
        key=key, user=user, requests_per_minute=1_000, requests_per_month=500, monthly_budget=Decimal(5)
    )
    endpoint = factories.endpoint(organization, f"https://hooks.example.com/{'long' * 490}", description="Warehouse")
    failed: dict[str, Any] = {"state": DeliveryState.FAILED, "next_attempt_at": None}
    for delivery in (factories.delivery(endpoint, **failed), factories.delivery(endpoint, test=True, **failed)):
        answer = {"status": 500, "response_body": "no luck " * 100, "response_headers": {"Server": "hooks"}}
        factories.attempt(delivery, succeeded=False, error_code="status", error="The receiver answered 500.", **answer)
    factories.endpoint(
        organization,
        "https://gone.example.com/in",
        disabled_at=timezone.now(),
        disabled_reason=DisabledReason.GONE,
        rotation_ends_at=timezone.now() + timedelta(hours=24),
    )
    return user


@pytest.fixture
def site(live_server: Any, user: User) -> str:
    return str(live_server.url)


def paths(site: str, *, signed_in: bool) -> list[str]:
    """Every page there is, from the URL list itself, with one of everything that an organization can have."""
    if not signed_in:
        return pages(site, [route for route in sitemap.routes() if not route.is_dashboard], belongings.shared())
    user = User.objects.get(email="ada@example.com")
    named = belongings.shared() | belongings.of(user.memberships.get().organization, user)
    return pages(site, [route for route in sitemap.routes() if route.is_dashboard], named, user) + extras()


def pages(site: str, routes: list[Route], named: dict[str, str], user: User | None = None) -> list[str]:
    cookies = session_of(user) if user else {}
    found = []
    for route in routes:
        if route.is_api or route.parameters - named.keys() or route.name in ENDS_SESSIONS:
            continue
        path = route.template.format(**named)
        with requests.get(site + path, cookies=cookies, allow_redirects=False, stream=True, timeout=20) as answer:
            is_html = answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html")
            if is_html and answer.content.startswith(
                b"<!doctype html>"
            ):  # not a part that pages refresh themselves with
                found.append(path)
    return found


def extras() -> list[str]:
    """What has more to show than ``belongings`` has."""
    key = ApiKey.objects.get(name="Nightly evaluation").public_id
    endpoint = Endpoint.objects.get(description="Warehouse").public_id
    delivery, test = (Delivery.objects.get(test=test, endpoint__description="Warehouse") for test in (False, True))
    return [
        f"/dashboard/api-keys/{key}",
        f"/dashboard/webhooks/{endpoint}",
        f"/dashboard/webhooks/{endpoint}/test?delivery={test.public_id}",
        f"/dashboard/webhooks/deliveries/{delivery.public_id}",
    ]


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return {name: client.cookies[name].value}


def sign_in(context: BrowserContext, user: User, site: str) -> None:
    context.add_cookies([{"name": name, "value": value, "url": site} for name, value in session_of(user).items()])


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    yield context
    context.close()


@pytest.mark.parametrize("signed_in", [False, True])
def test_axe_finds_nothing_serious_in_either_theme_and_no_other_host_is_asked(
    page: Page, context: BrowserContext, site: str, user: User, signed_in: bool
) -> None:
    if signed_in:
        sign_in(context, user, site)
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    page.emulate_media(reduced_motion="reduce")
    found = {}
    for path in paths(site, signed_in=signed_in):
        page.goto(site + path)
        found[path] = axe.violations(page)
    assert {path: violations for path, violations in found.items() if violations} == {}
    assert len(found) > LEAST_PAGES
    assert {url for url in asked if not url.startswith(f"{site}/") and urlsplit(url).scheme != "data"} == set()


def test_axe_would_find_something(page: Page, site: str) -> None:
    page.goto(f"{site}/support")
    page.evaluate("document.querySelector('h1').className = 'faint'; document.querySelector('.logo svg').remove()")
    page.evaluate("document.querySelector('.logo').textContent = ''")
    assert [violation[0] for violation in axe.violations(page)] == ["link-name"]


def test_axe_would_find_what_is_too_faint_in_the_dark_alone(page: Page, site: str) -> None:
    page.goto(f"{site}/support")
    page.evaluate("document.querySelector('main p').style.color = 'light-dark(black, #333)'")
    assert [violation[:2] for violation in axe.violations(page)] == [["in the dark", "color-contrast"]]


@pytest.mark.parametrize("signed_in", [False, True])
def test_a_phone_never_scrolls_sideways_and_has_room_for_fingers(
    phone: BrowserContext, site: str, user: User, signed_in: bool
) -> None:
    if signed_in:
        sign_in(phone, user, site)
    page = phone.new_page()
    wide, small = [], {}
    for path in paths(site, signed_in=signed_in):
        page.goto(site + path)
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(path)
        if targets := page.evaluate(FIND_SMALL_TARGETS):
            small[path] = targets
    assert wide == []
    assert small == {}


def test_logging_out_is_in_sight_on_a_low_screen(page: Page, context: BrowserContext, site: str, user: User) -> None:
    sign_in(context, user, site)
    page.set_viewport_size({"width": 1280, "height": 620})
    page.goto(f"{site}/dashboard/profile")
    expect(page.get_by_role("button", name="Log out")).to_be_in_viewport(ratio=1)
    page.get_by_label("Dashboard", exact=True).get_by_role("link", name="Support").focus()
    expect(page.get_by_label("Dashboard", exact=True).get_by_role("link", name="Support")).to_be_in_viewport(ratio=1)


def test_pages_do_not_jump_while_they_load(page: Page, site: str) -> None:
    page.add_init_script(WATCH_SHIFTS)
    shifts = {}
    for path in ("/", "/docs", "/docs/api", "/login"):
        page.goto(site + path)
        page.wait_for_load_state("networkidle")
        shifts[path] = page.evaluate("window.shift")
    assert {path: shift for path, shift in shifts.items() if shift >= 0.02} == {}


def test_the_theme_is_remembered_and_there_before_the_first_paint(page: Page, site: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(site)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator('[data-theme-choice="dark"]').first.click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.add_init_script(
        "document.addEventListener('DOMContentLoaded', () => { window.early = document.documentElement.dataset.theme })"
    )
    page.goto(f"{site}/docs")
    assert page.evaluate("window.early") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    expect(page.locator('[data-theme-choice="dark"]').first).to_have_attribute("aria-pressed", "true")
    page.locator('[data-theme-choice="system"]').first.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light


def test_a_snippet_is_copied_in_the_language_that_shows(page: Page, context: BrowserContext, site: str) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site}/docs")
    block = page.locator("#qs-chat")
    block.get_by_role("tab", name="Python").click()
    block.get_by_role("button", name="Copy the code").click()
    expect(block.get_by_text("Copied")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Copied to the clipboard.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("import os\n")
    assert f'base_url="{settings.PUBLIC_URL}/v1"' in copied
    assert "curl" not in copied


def test_the_language_is_chosen_once_for_all_snippets(page: Page, site: str) -> None:
    page.goto(f"{site}/docs/chat")
    first = page.locator("#chat-chat")
    first.get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowLeft")
    expect(first.get_by_role("tab", name="Go")).to_be_focused()
    expect(page.locator("#docs-stream-go")).to_be_visible()
    expect(page.locator("#docs-stream-curl")).to_be_hidden()
    page.goto(f"{site}/docs/api/chat")
    expect(page.locator("#api-chat-go")).to_be_visible()


def test_everything_can_be_read_without_javascript(browser: Browser, site: str, user: User) -> None:
    context = browser.new_context(java_script_enabled=False)
    sign_in(context, user, site)
    page = context.new_page()
    page.goto(f"{site}/docs")
    for language in ("curl", "python", "javascript", "go"):
        expect(page.locator(f"#qs-chat-{language}")).to_be_visible()
    expect(page.locator(".js-only").first).to_be_hidden()
    page.goto(f"{site}/dashboard")
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{site}/dashboard")
    assert urlsplit(page.url).path == "/login"
    context.close()


def test_limits_are_set_without_javascript(browser: Browser, site: str, user: User) -> None:
    context = browser.new_context(java_script_enabled=False)
    sign_in(context, user, site)
    page = context.new_page()
    key = ApiKey.objects.get(name="Website")
    page.goto(f"{site}/dashboard/api-keys/{key.public_id}")
    per_minute = page.get_by_role("textbox", name="Requests per minute")
    per_minute.fill("12 or so")
    page.get_by_role("button", name="Save limits").click()
    expect(page.get_by_text("Enter a whole number")).to_be_visible()
    per_minute.fill("12")
    page.get_by_role("button", name="Save limits").click()
    expect(page.get_by_text("The limits of “Website” are saved.")).to_be_visible()
    expect(per_minute).to_have_value("12")
    context.close()


def test_the_status_refreshes_by_itself_and_says_when_it_cannot(
    page: Page, site: str, console_errors: list[str]
) -> None:
    page.clock.install()
    page.goto(f"{site}/status")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    with page.expect_response(f"{site}/status"):
        page.clock.run_for(15_000)
    expect(page.locator("[data-stale]")).to_be_hidden()
    page.route("**/status", lambda route: route.abort())
    page.clock.run_for(15_000)
    expect(page.get_by_text("This page is out of date.")).to_be_visible()
    page.unroute("**/status")
    page.clock.run_for(15_000)
    expect(page.locator("[data-stale]")).to_be_hidden()
    unexpected = [text for text in console_errors if not text.startswith(("htmx:", "Failed to load resource"))]
    assert unexpected == []
    console_errors.clear()


def test_a_menu_closes_on_escape_and_gives_the_focus_back(phone: BrowserContext, site: str) -> None:
    page = phone.new_page()
    page.goto(f"{site}/support")
    summary = page.locator(".site__menu > summary")
    summary.tap()
    expect(page.locator(".site__menu .menu__panel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".site__menu .menu__panel")).to_be_hidden()
    expect(summary).to_be_focused()


def test_the_contents_mark_the_section_being_read(page: Page, site: str) -> None:
    page.goto(f"{site}/docs/chat#streaming")
    contents = page.locator("nav[data-contents]")
    expect(contents.locator("[aria-current]")).to_have_text("Streaming")
    contents.get_by_role("link", name="Texts and embeddings").click()
    expect(contents.locator("[aria-current]")).to_have_text("Texts and embeddings")


def test_a_field_with_an_error_says_so(page: Page, context: BrowserContext, site: str, user: User) -> None:
    sign_in(context, user, site)
    page.goto(f"{site}/dashboard/api-keys/new")
    field = page.get_by_label("Name")
    calm = field.evaluate("(input) => getComputedStyle(input).borderColor")
    page.locator("main form").evaluate("(form) => { form.noValidate = true }")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("alert")).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    described = str(field.get_attribute("aria-describedby")).split()
    assert any("name" in page.locator(f"#{name}").inner_text() for name in described)
    assert field.evaluate("(input) => getComputedStyle(input).borderColor") != calm


def test_the_skip_link_leads_to_the_content(page: Page, site: str) -> None:
    page.goto(f"{site}/docs")
    page.keyboard.press("Tab")
    expect(page.locator(".skip-link")).to_be_focused()
    expect(page.locator(".skip-link")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
