"""What pages cost: queries, however much an organization has, and what a browser has to fetch for them.

The addresses come from the URL list itself. Times are measured by bench/dashboard.py, with a million records.
"""

import gzip
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import api_keys
from accounts.models import AuditEvent, Invitation, Organization, User
from billing import subscriptions
from billing.seeds import seed_plans
from helixflow.lib import ids
from helixflow.models import Incident, StatusDay
from tests import belongings, factories, sitemap

KEYS = 200
MEMBERS = 50
MOST_QUERIES = 12
MOST_CSS = 30_000
MOST_JS = 150_000
MOST_HTML = 100_000  # compressed
PAGES = [
    route
    for route in sitemap.routes()
    if not route.is_api and "token" not in route.parameters and route.template != "/logout"
]


@pytest.fixture
def site(organization: Organization, owner: User) -> tuple[Client, dict[str, str]]:
    """An organization that has a lot, its owner's browser, and an id of each thing."""
    seed_plans()
    named = belongings.shared() | belongings.of(organization, owner)
    keys = [
        api_keys.create(organization=organization, user=owner, name=f"key {number}")[0] for number in range(KEYS - 1)
    ]
    for number in range(MEMBERS):
        factories.user(f"member{number}", organization=organization)
        Invitation.objects.create(
            organization=organization,
            email=f"new{number}@example.com",
            digest=number.to_bytes(32, "big"),
            invited_by=owner,
            expires_at=timezone.now() + timedelta(days=7),
        )
        endpoint = factories.endpoint(organization, f"https://hooks.example.com/{number}", created_by=owner)
        factories.delivery(endpoint)
        subscriptions.set_caps(organization=organization, user=owner, max_parallel=number + 1)
    for number, key in enumerate(keys):
        belongings.usage_record(
            organization,
            key.id,
            id=ids.first_at(timezone.now() - timedelta(hours=number)),
            model=f"model-{number % 30}",
            error_code="server_error" if number % 9 == 0 else "",
            status=500 if number % 9 == 0 else 200,
        )
        AuditEvent.objects.create(
            organization_id=organization.id, user_id=owner.id, actor=owner.email, action="api_key.created", summary="-"
        )
    for number in range(60):
        Incident.objects.create(title=f"Trouble {number}")
        day = (timezone.now() - timedelta(days=number)).date()
        StatusDay.objects.create(component="api", day=day, checks=1, state="operational", checked_at=timezone.now())
    browser = Client()
    browser.force_login(owner)
    return browser, named


def test_pages_ask_little_of_the_database_and_of_the_browser(site: tuple[Client, dict[str, str]]) -> None:
    browser, named = site
    browser.get("/support")  # what is read once a process
    found = {route.template: list(problems(browser, route.template.format(**named))) for route in PAGES}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def problems(browser: Client, url: str) -> Iterator[str]:
    with CaptureQueriesContext(connection) as queries:
        answer = browser.get(url)
        body = b"".join(answer) if answer.streaming else answer.content
    if answer.status_code in {302, 405}:
        return
    if answer.status_code != 200:
        yield f"status {answer.status_code}"
    if len(queries) > MOST_QUERIES:
        yield "\n".join([f"{len(queries)} queries", *(query["sql"][:200] for query in queries)])
    if len(gzip.compress(body)) > MOST_HTML:
        yield f"{len(gzip.compress(body)):,} bytes of HTML"
    styles, scripts = assets(body.decode(errors="replace"))
    if sum(map(compressed, styles)) > MOST_CSS:
        yield f"{sum(map(compressed, styles)):,} bytes of CSS"
    if sum(map(compressed, scripts)) > MOST_JS:
        yield f"{sum(map(compressed, scripts)):,} bytes of JavaScript"


def assets(html: str) -> tuple[set[str], set[str]]:
    """Names of the stylesheets and of the scripts, with the modules that they import."""
    styles = set(re.findall(r'<link rel="stylesheet" href="/static/([^"]+)"', html))
    scripts = set(re.findall(r'<script [^>]*src="/static/([^"]+)"', html))
    return styles, {name for script in scripts for name in with_imports(script)}


@cache
def with_imports(name: str) -> frozenset[str]:
    text = read(name).decode()
    imported = re.findall(r'(?:import|from) ?"\./([^"]+)"', text)
    folder = name.rpartition("/")[0]
    return frozenset({name}.union(*(with_imports(f"{folder}/{each}") for each in imported)))


@cache
def compressed(name: str) -> int:
    return len(gzip.compress(read(name)))


def read(name: str) -> bytes:
    path = finders.find(name)
    assert isinstance(path, str), name
    return Path(path).read_bytes()


def test_pages_are_made_of_files_that_are_found() -> None:
    """Else the sums above would be of nothing."""
    html = Client().get("/support").content.decode()
    styles, scripts = assets(html)
    assert len(styles) >= 5
    assert {"js/main.js", "js/copy.js", "js/theme.js"} <= scripts
    assert sum(map(compressed, styles)) > 3_000
