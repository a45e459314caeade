"""The site's own pages, without a browser: what they say, what they refer to, and that the strict CSP can hold."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries, Settings

from accounts import api_keys
from accounts.models import Organization, User
from billing.seeds import seed_plans
from helixflow.lib import errors, ids
from helixflow.server import health
from helixflow.views import error_response
from tests import factories

PUBLIC = ("/", "/docs", "/docs/limits", "/docs/webhooks", "/docs/api", "/docs/api/api-keys", "/status", "/support")
STATIC = Path(settings.BASE_DIR) / "static"


@pytest.fixture(autouse=True)
def _services(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    seed_plans()
    found(monkeypatch)


def found(monkeypatch: pytest.MonkeyPatch, **states: str) -> None:
    async def status(*, wait_s: float) -> dict[str, str]:
        return {"database": "healthy", "redis": "healthy"} | states

    monkeypatch.setattr(health.services, "status", status)


class Page(HTMLParser):
    """What the tests ask of a page: its elements with their attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in {"script", "style"} and data.strip():
            self.inline.append(data)

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status
    assert response["Content-Type"].startswith("text/html")
    return str(response.content.decode())


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", ["Every model", "Starter", "10,000", "100,000", "Enterprise", "Set with you"]),
        ("/docs", ["Quickstart", "The first call", "Webhooks", "Self-hosting"]),
        ("/docs/limits", ["X-RateLimit-Remaining", "100,000", "Retry-After"]),
        ("/docs/sdks", ["OPENAI_BASE_URL"]),
        ("/docs/models", ["X-HelixFlow-Fallback: off", "X-HelixFlow-Timeout", "Cache-Control"]),
        ("/docs/errors", ["Idempotency-Key", "Idempotent-Replayed"]),
        ("/docs/api", ["/chat/completions", "/embeddings", "/auth/refresh", "{key_id}/rotate"]),
        ("/docs/api/chat", ["max_tokens", "default 150", "number 0–2"]),
        ("/docs/api/api-keys", ["grace_days", "integer 0–7, default 1"]),
        ("/status", ["is being measured", "Database", "Redis", "Past incidents"]),
        ("/support", [settings.SUPPORT_EMAIL, settings.COMMUNITY_URL, "/status", "/docs"]),
    ],
)
def test_a_public_page_says_what_it_is_for(client: Client, path: str, says: list[str]) -> None:
    html = page(client, path)
    assert [text for text in says if text not in html] == []


@pytest.mark.parametrize("path", [*PUBLIC, "/nowhere", "/dashboard", "/dashboard/models"])
def test_nothing_is_inline(client: Client, owner: User, organization: Organization, path: str) -> None:
    client.force_login(owner)
    html = Page(client.get(path).content.decode())
    assert html.inline == []
    assert html.all("style") == []
    assert [name for _, attrs in html.elements for name in attrs if name.startswith("on")] == []


@pytest.mark.parametrize("path", [*PUBLIC, "/nowhere", "/dashboard", "/dashboard/models"])
def test_ids_are_unique_and_links_within_a_page_lead_somewhere(
    client: Client, owner: User, organization: Organization, path: str
) -> None:
    client.force_login(owner)
    html = Page(client.get(path).content.decode())
    ids = html.all("id")
    assert sorted(ids) == sorted(set(ids))
    here = [href[1:] for href in html.all("href") if href.startswith("#")]
    named = [name for attr in ("aria-labelledby", "aria-controls", "for") for name in html.all(attr)]
    assert set(here + named) - set(ids) == set()


@pytest.mark.parametrize("path", [*PUBLIC, "/dashboard", "/dashboard/models"])
def test_links_within_the_site_lead_to_pages(
    client: Client, owner: User, organization: Organization, path: str
) -> None:
    client.force_login(owner)
    links = {
        href.split("#")[0]
        for tag, attrs in Page(page(client, path)).elements
        if tag == "a" and (href := attrs.get("href", "")).startswith("/")
    } - {""}
    assert links
    assert {link: client.get(link).status_code for link in links if client.get(link).status_code >= 400} == {}


@pytest.mark.parametrize("path", PUBLIC)
def test_nothing_is_loaded_from_elsewhere(client: Client, path: str) -> None:
    loads = [
        attrs.get("src") or attrs.get("href", "")
        for tag, attrs in Page(page(client, path)).elements
        if tag in {"script", "link", "img", "iframe", "source"}
    ]
    assert loads
    assert [address for address in loads if not address.startswith("/") or address.startswith("//")] == []


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/api/chat", "/docs/api/usage"])
def test_snippets_show_the_base_url(client: Client, settings: Settings, path: str) -> None:
    settings.PUBLIC_URL = "https://models.example.org"
    html = page(client, path)
    assert "https://models.example.org/v1/" in html
    assert re.findall(r"http://(?:127\.0\.0\.1|localhost)[:\d]*/v1", html) == []


def test_the_reference_lists_every_error_code(client: Client) -> None:
    def codes(error: type[errors.HelixError]) -> Iterator[str]:
        yield error.code
        for child in error.__subclasses__():
            yield from codes(child)

    html = page(client, "/docs/api")
    assert {code for code in codes(errors.HelixError) if f"<code>{code}</code>" not in html} == set()


def test_the_header_shows_where_to_go(client: Client, owner: User, organization: Organization) -> None:
    stranger = page(client, "/docs")
    assert 'href="/signup"' in stranger
    assert 'href="/login"' in stranger
    client.force_login(owner)
    known = page(client, "/docs")
    assert 'href="/login"' not in known
    assert '<a href="/dashboard" class="button' in known


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/models"])
def test_the_dashboard_asks_strangers_to_log_in(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={path}"


def test_the_status_page_is_honest(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, redis="unhealthy")
    html = page(client, "/status")
    assert "Something isn't working" in html.replace("&#x27;", "'")
    assert html.count(">Down<") == 1
    assert client.get("/status")["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("A field is missing."),
        errors.AuthorizationFailed(),
        errors.NotFound(),
        errors.MethodNotAllowed(),
        errors.BodyTooLarge(),
        errors.RateLimitExceeded(retry_after=7),
        errors.ServerError(),
        errors.ServiceUnavailable(retry_after=5),
    ],
)
def test_an_error_is_a_page_that_needs_no_database(
    rf: RequestFactory, django_assert_num_queries: DjangoAssertNumQueries, error: errors.HelixError
) -> None:
    request = rf.get("/dashboard")
    request.request_id = "req_made_for_this_test"  # type: ignore[attr-defined]  # as the middlewares leave it

    class Unreachable:
        def __getattr__(self, name: str) -> object:
            raise OperationalError("the database is down")

    request.user = Unreachable()  # type: ignore[assignment]  # as the middlewares leave it
    with django_assert_num_queries(0):
        response = error_response(request, error)
    html = response.content.decode()  # type: ignore[attr-defined]  # as the middlewares leave it
    assert response.status_code == error.status
    assert error.message.split("'")[0] in html
    assert "req_made_for_this_test" in html
    assert response.get("Retry-After") == (str(error.retry_after) if error.retry_after else None)


def test_support_is_written_to_about_the_request_that_a_link_names(client: Client) -> None:
    request_id = ids.new_id(ids.REQUEST)
    html = page(client, f"/support?request={request_id}")
    assert f"<code>{request_id}</code>" in html
    assert html.count(f'href="mailto:{settings.SUPPORT_EMAIL}?subject=Request%20{request_id}"') == 2


@pytest.mark.parametrize("query", ["", "?request=", "?request=req_<b>", "?request=key_0352qrS7NFZ90N37kTr1ym"])
def test_support_repeats_nothing_but_the_id_of_a_request(client: Client, query: str) -> None:
    html = page(client, f"/support{query}")
    assert "About one request" not in html
    assert "?subject=" not in html
    assert "req_&lt;b" not in html


def test_an_error_page_leads_to_support_with_its_request(client: Client) -> None:
    response = client.get("/nowhere")
    assert f'href="/support?request={response["X-Request-ID"]}"' in response.content.decode()


def test_an_unknown_page_is_a_404_page(client: Client) -> None:
    assert "isn't here" in page(client, "/nowhere", 404)


@pytest.mark.parametrize(
    ("path", "error", "way_on"),
    [
        ("/login", errors.RateLimitExceeded(retry_after=7), "/login"),
        ("/dashboard", errors.AuthorizationFailed(), "/logout"),  # someone without an organization
        ("/dashboard/models", errors.NotFound(), "/dashboard"),
        ("/nowhere", errors.NotFound(), "/"),
    ],
)
def test_an_error_page_leads_on(rf: RequestFactory, path: str, error: errors.HelixError, way_on: str) -> None:
    request = rf.get(path)
    request.request_id = ""  # type: ignore[attr-defined]  # as the middlewares leave it
    html = error_response(request, error).content.decode()  # type: ignore[attr-defined]  # as the middlewares leave it
    assert re.findall(r'<a href="([^"]+)" class="button button--primary"', html) == [way_on]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/docs/", "/docs"),
        ("/docs/api//", "/docs/api"),
        ("/login/?next=/dashboard", "/login?next=/dashboard"),
        ("/dashboard/api-keys/", "/dashboard/api-keys"),
    ],
)
def test_a_page_is_found_with_a_slash_at_its_end(client: Client, asked: str, found: str) -> None:
    assert client.get(asked)["Location"] == found
    assert client.post(asked).status_code == 404


@pytest.mark.parametrize("asked", ["/nowhere/", "//example.com//", "/docs\r\nX-Evil: 1/", "//docs.example.com/docs/"])
def test_a_slash_leads_to_no_other_site(client: Client, asked: str) -> None:
    assert client.get("/", PATH_INFO=asked).status_code == 404


def test_a_wrong_method_is_a_405_page(client: Client) -> None:
    response = client.delete("/docs")
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"
    assert "doesn't work here" in response.content.decode()


def test_the_small_files_of_a_site_are_there(client: Client) -> None:
    assert "Disallow: /dashboard" in client.get("/robots.txt").content.decode()
    contact = client.get("/.well-known/security.txt").content.decode()
    assert f"Contact: mailto:{settings.SUPPORT_EMAIL}" in contact
    assert re.search(r"^Expires: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", contact, re.MULTILINE)
    manifest = client.get("/manifest.webmanifest")
    assert manifest["Content-Type"] == "application/manifest+json"
    assert manifest.json()["name"] == "HelixFlow"
    assert "img/favicon" in client.get("/favicon.ico")["Location"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("static")


@pytest.fixture
def hashed(settings: Settings, collected: Path) -> Path:
    """As in production: hashed names, from a manifest that `collectstatic` wrote."""
    settings.STATIC_ROOT = collected
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": "helixflow.storage.StaticStorage"}}
    if not (collected / "staticfiles.json").exists():
        call_command("collectstatic", interactive=False, verbosity=0)
    return collected


def test_every_static_file_has_a_hashed_name(
    client: Client, owner: User, organization: Organization, hashed: Path
) -> None:
    client.force_login(owner)
    for path in (*PUBLIC, "/nowhere", "/dashboard", "/manifest.webmanifest"):
        text = client.get(path).content.decode()
        references = re.findall(r"/static/([^\"'<\s]+)", text)
        assert references
        for name in references:
            assert re.search(r"\.[0-9a-f]{12}\.\w+$", name), f"{path} names {name}"
            assert (hashed / name).is_file(), f"{path} names {name}"


def test_styles_and_modules_name_hashed_files(hashed: Path) -> None:
    main = next(hashed.glob("js/main.*[0-9a-f].js")).read_text()
    imports = re.findall(r'import ?"\./([^"]+)"', main)
    assert len(imports) >= 9
    assert [name for name in imports if not re.search(r"\.[0-9a-f]{12}\.js$", name)] == []
    base = next(path for path in hashed.glob("css/base.*.css") if re.search(r"\.[0-9a-f]{12}\.css$", path.name))
    assert len(re.findall(r"url\(\"\.\./vendor/[^\"]+\.[0-9a-f]{12}\.woff2\"\)", base.read_text())) == 2


def test_only_tokens_name_colours() -> None:
    """Else a page looks right in one theme only."""
    raw = re.compile(r"#[0-9a-f]{3,8}\b|\brgba?\(|\bhsla?\(|light-dark\(", re.IGNORECASE)
    named = {
        path.name: raw.findall(re.sub(r"/\*.*?\*/|url\([^)]*\)", "", path.read_text(), flags=re.DOTALL))
        for path in STATIC.glob("css/*.css")
        if path.name not in {"tokens.css", "admin.css"}  # Django's admin has variables and a switch of its own
    }
    assert {name: colours for name, colours in named.items() if colours} == {}


def test_names_from_people_are_escaped(client: Client, outsider: User) -> None:
    user = factories.user("mallory")
    user.name = "<script>alert(1)</script>"
    user.save()
    organization = factories.organization(owner=user, name="<img src=x>")
    api_keys.create(organization=organization, user=user, name="<b>bold</b>", environment="development")
    client.force_login(user)
    html = page(client, "/dashboard")
    for raw in ("<script>alert", "<img src=x>", "<b>bold"):
        assert raw not in html


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/api-keys", "/dashboard/models", "/dashboard/profile", "/"])
def test_no_cache_keeps_the_page_of_somebody(client: Client, owner: User, path: str) -> None:
    client.force_login(owner)
    kept = client.get(path)["Cache-Control"]
    assert "private" in kept
    assert "no-store" in kept


def test_files_for_everybody_may_be_kept(client: Client) -> None:
    assert "public" in client.get("/robots.txt")["Cache-Control"]
