"""The documentation: whom it greets, what can be found in it, and what it costs."""

import pytest
from django.conf import settings
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts import api_keys
from accounts.models import Organization, User
from helixflow.site import doc_search, docs
from helixflow.site.openapi import reference
from tests import factories

pytestmark = pytest.mark.django_db

ALL = ("/docs", *(page.href for page in docs.PAGES), "/docs/api", *(each.href for each in reference.chapters()))


def shown(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("path", ALL)
def test_strangers_cost_no_query(
    client: Client, path: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(1 if path == "/docs/limits" else 0):  # the plans
        html = shown(client, path)
    assert 'class="reader"' not in html


def test_readers_see_their_organization_and_how_their_newest_key_begins(
    client: Client, owner: User, organization: Organization, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    _, older = api_keys.create(organization=organization, user=owner, name="Old", environment="development")
    key, secret = api_keys.create(organization=organization, user=owner, name="New", environment="development")
    client.force_login(owner)
    with django_assert_max_num_queries(6):
        html = shown(client, "/docs/quickstart")
    assert organization.name in html
    assert f"HELIXFLOW_API_KEY=&quot;{secret[:10]}…&quot;" in html
    assert f"# HELIXFLOW_API_KEY: yours begins with {secret[:10]}…" in html
    assert f"{settings.PUBLIC_URL}/v1" in html
    assert secret[:11] not in html
    assert older[:10] not in html
    assert key.hint not in html


def test_readers_without_a_key_are_told_where_to_make_one(
    client: Client, owner: User, organization: Organization
) -> None:
    client.force_login(owner)
    html = shown(client, "/docs/chat")
    assert 'no key yet: <a href="/dashboard/api-keys/new">' in html
    assert "yours begins with" not in html


def test_readers_in_no_organization_are_strangers(client: Client) -> None:
    client.force_login(factories.user("nobody"))
    assert 'class="reader"' not in shown(client, "/docs")


def test_a_key_of_another_organization_is_not_shown(
    client: Client, owner: User, organization: Organization, outsider: User
) -> None:
    _, secret = api_keys.create(organization=organization, user=owner, name="Ours", environment="development")
    client.force_login(outsider)
    assert secret[:10] not in shown(client, "/docs/quickstart")


def test_what_a_reader_sees_is_kept_by_no_cache(client: Client, owner: User, organization: Organization) -> None:
    client.force_login(owner)
    assert client.get("/docs/chat")["Cache-Control"] == "private, no-store"


def test_each_page_leads_to_the_next(client: Client) -> None:
    for page, following in zip(docs.PAGES, docs.PAGES[1:], strict=False):
        assert f'<a href="{following.href}" rel="next">' in shown(client, page.href)
        assert f'<a href="{page.href}" rel="prev">' in shown(client, following.href)


@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/api/nothing"])
def test_an_unknown_page_is_404(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("retries", "/docs/errors"),
        ("TWO-factor", "/docs/authentication#two-factor"),
        ("rotate key", "/docs/api/api-keys#rotateApiKey"),
        ("post /embeddings", "/docs/api/embeddings#createEmbedding"),
        ("idempotency-key", "/docs/errors#idempotency"),
        ("top_p", "/docs/api/chat#createChatCompletion"),
    ],
)
def test_what_is_sought_is_found(client: Client, text: str, found: str) -> None:
    assert found in [entry.href for entry in doc_search.search(text)]
    assert f'href="{found}"' in client.get("/docs/search", {"q": text}).content.decode()


def test_a_search_that_finds_nothing_says_so_and_escapes(client: Client) -> None:
    html = client.get("/docs/search", {"q": "<b>zebra"}).content.decode()
    assert "Nothing says “&lt;b&gt;zebra”" in html


def test_titles_are_found_before_texts() -> None:
    found = doc_search.search("limits")
    assert found[0].href == "/docs/limits"
    titled = ["limits" in entry.words for entry in found]
    assert titled == sorted(titled, reverse=True)
    assert not all(titled)


def test_the_index_of_the_search_box_is_that_of_the_page(client: Client) -> None:
    assert [tuple(entry) for entry in client.get("/docs/search.json").json()] == list(doc_search.entries())


def test_every_heading_is_in_the_outline() -> None:
    assert {slug for slug, headings in docs.outline().items() if not headings} == set()


def test_self_hosting_lists_every_variable(client: Client) -> None:
    html = shown(client, "/docs/self-hosting")
    listed = (settings.BASE_DIR / ".env.example").read_text()
    names = [
        line[2:].split("=")[0] for line in listed.splitlines() if line.startswith("# ") and "=" in line.split(" ")[1]
    ]
    assert len(names) > 30
    assert [name for name in names if f"<code>{name}</code>" not in html] == []
