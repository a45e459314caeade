"""The catalogue's pages in the admin, in a real browser: an operator's way from a provider's form to live numbers.

The ``page`` fixture fails a test on any console error, violations of the Content-Security-Policy among them.
"""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect

from inference import health_shared
from inference.breaker import State
from inference.health_shared import DeploymentHealth
from inference.models import Deployment, Model, Provider
from tests import factories
from tests.e2e import axe
from tests.fakes.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

# Django's own lists and inlines don't do them: labels of fields in tables, room around filters.
LEFT_OUT = ("label", "label-title-only", "target-size")
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture
def catalogue(live_server: Any, context: BrowserContext) -> str:
    """Its address, signed in to as an operator."""
    client = Client()
    client.force_login(factories.superuser("root"))
    name = settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": str(live_server.url)}])
    return f"{live_server.url}/admin/inference"


def test_from_a_providers_form_to_an_answer(page: Page, catalogue: str, upstream: Upstream) -> None:
    upstream.models = ["gpt-4o", "gpt-4o-mini", "o3", "normal"]
    page.goto(f"{catalogue}/provider/add/")
    page.get_by_label("Kind:").select_option("vertex")
    expect(page.get_by_label("Region:")).to_be_visible()
    expect(page.get_by_label("Preset:")).to_be_hidden()
    page.get_by_label("Kind:").select_option("compatible")
    expect(page.get_by_label("Region:")).to_be_hidden()
    page.get_by_label("Name:").fill("ours")
    page.get_by_label("Base URL:").fill(upstream.url)
    page.get_by_label("Credential:", exact=True).fill("sk-0123456789abcdef")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("4: gpt-4o, gpt-4o-mini, o3, normal")).to_be_visible()

    page.get_by_role("link", name="Import models").click()
    page.get_by_label("normal").check()
    page.get_by_label("Search").fill("MINI 4o")
    expect(page.get_by_text("1 of 4")).to_be_visible()
    expect(page.get_by_label("o3")).to_be_hidden()
    page.get_by_label("gpt-4o-mini").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Name of gpt-4o-mini").fill("small")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("2 models and 2 deployments added.")).to_be_visible()
    assert set(Model.objects.values_list("name", flat=True)) == {"normal", "small"}

    page.get_by_role("link", name="ours/normal").click()
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_text("Hello! How can I help you today?")).to_be_visible()


def test_the_news_come_by_themselves(
    page: Page, catalogue: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = factories.deploy(upstream)
    told: dict[str, DeploymentHealth] = {}
    monkeypatch.setattr(health_shared, "shared", lambda: told)
    for path in ("deployment/", f"model/{deployment.model_id}/change/"):
        told.clear()
        page.goto(f"{catalogue}/{path}")
        expect(page.locator(".live").get_by_text("no news")).to_be_visible()
        told[deployment.id.hex] = DeploymentHealth(State.HALF_OPEN, reason="status 500")
        expect(page.locator(".live").get_by_text("being tried")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("no news")).to_have_count(0)
    page.get_by_label("Owned by").fill("somebody else")
    page.get_by_role("button", name="Let through").click()
    expect(page.get_by_text("gets requests again within a second")).to_be_visible()
    deployment.model.refresh_from_db()
    assert deployment.model.owned_by == "openai"  # what is being edited is not sent along


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pages_are_accessible_and_keep_to_their_width(
    page: Page, catalogue: str, upstream: Upstream, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    deployment = factories.deploy(upstream, name="a-provider-with-a-long-name/and-a-model-with-a-longer-one")
    found = {}
    for path in _paths(deployment):
        page.goto(f"{catalogue}/{path}")
        found[path] = _problems(page)
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_text("Hello! How can I help you today?")).to_be_visible()
    found["report"] = _problems(page)
    page.goto(f"{catalogue}/provider/{deployment.provider_id}/models/")
    page.get_by_label("gpt-4o-mini").check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Name of gpt-4o-mini")).to_be_visible()
    found["confirm"] = _problems(page)
    assert {path: problems for path, problems in found.items() if problems} == {}


def _problems(page: Page) -> list[Any]:
    too_wide = page.evaluate(OVERFLOW)
    violations = axe.violations(page, within="#content", left_out=LEFT_OUT)
    return violations + ([f"{too_wide} px too wide"] if too_wide > 0 else [])


def _paths(deployment: Deployment) -> list[str]:
    provider: Provider = deployment.provider
    return [
        *("provider/", "provider/add/", f"provider/{provider.pk}/change/", f"provider/{provider.pk}/models/"),
        *("model/", f"model/{deployment.model_id}/change/"),
        *("deployment/", f"deployment/{deployment.pk}/change/"),
    ]
