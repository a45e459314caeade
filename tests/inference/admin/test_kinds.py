"""Each kind of provider, from the form to an answer: through its own adapter, against the fake that checks its wire."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from inference.models import Deployment, Model, Provider
from tests.factories import deploy
from tests.fakes import azure, bedrock, gemini
from tests.fakes.anthropic import KEY as ANTHROPIC_KEY
from tests.fakes.anthropic import AnthropicUpstream
from tests.fakes.google_tokens import TokenService
from tests.fakes.upstream import Upstream
from tests.inference.admin.pages import page_url

ADD = "/admin/inference/provider/add/"


@dataclass
class Cloud:
    """What an operator enters, and calls the model; ``lists``: whether it can be asked for its models."""

    fields: dict[str, str]
    upstream_model: str
    lists: bool = True


def compatible(stack: ExitStack) -> Cloud:
    return Cloud({"base_url": stack.enter_context(Upstream()).url, "preset": "vllm"}, "gpt-4o")


def openai(stack: ExitStack) -> Cloud:
    return Cloud({"base_url": stack.enter_context(Upstream()).url, "credential": "sk-0123456789abcdef"}, "gpt-4o")


def azure_v1(stack: ExitStack) -> Cloud:
    return Cloud({"base_url": stack.enter_context(azure.Azure()).endpoint, "credential": azure.KEY}, "our-gpt")


def azure_dated(stack: ExitStack) -> Cloud:
    resource = stack.enter_context(azure.Azure(api_version="2024-10-21"))
    fields = {"base_url": resource.endpoint, "credential": azure.KEY, "api_version": "2024-10-21"}
    return Cloud(fields, "our-gpt")


def anthropic(stack: ExitStack) -> Cloud:
    return Cloud({"base_url": stack.enter_context(AnthropicUpstream()).url, "credential": ANTHROPIC_KEY}, "claude-x")


def bedrock_signed(stack: ExitStack) -> Cloud:
    fields = {"region": bedrock.REGION, "credential": f"{bedrock.KEY_ID}:{bedrock.SECRET}"}
    url = stack.enter_context(bedrock.Bedrock()).url
    return Cloud({"base_url": url} | fields, "anthropic.claude-sonnet-4-5-20250929-v1:0")


def bedrock_by_key(stack: ExitStack) -> Cloud:
    signed = bedrock_signed(stack)
    signed.fields["credential"] = bedrock.API_KEY
    return signed


def google(stack: ExitStack) -> Cloud:
    url = stack.enter_context(gemini.Gemini()).url
    return Cloud({"base_url": url, "credential": gemini.KEY}, "gemini-3-flash")


def vertex(stack: ExitStack) -> Cloud:
    url = stack.enter_context(gemini.Gemini(token="ya29.fake-2")).url  # a test of the provider asks for the first
    account = stack.enter_context(TokenService()).service_account()
    fields = {"base_url": url, "region": "europe-west4", "project": "our-project", "credential": account}
    return Cloud(fields, "gemini-2.5-pro", lists=False)


CLOUDS: list[tuple[str, Callable[[ExitStack], Cloud]]] = [
    ("compatible", compatible),
    ("openai", openai),
    ("azure", azure_v1),
    ("azure", azure_dated),
    ("anthropic", anthropic),
    ("bedrock", bedrock_signed),
    ("bedrock", bedrock_by_key),
    ("gemini", google),
    ("vertex", vertex),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize(("kind", "start"), CLOUDS, ids=[start.__name__ for _, start in CLOUDS])
def test_from_the_form_to_an_answer(admin, stack, kind, start):
    cloud = start(stack)
    body = {"name": "ours", "kind": kind, "enabled": "on"} | cloud.fields
    response = admin.post(ADD, body)
    assert response.status_code == 302, response.context["errors"]
    provider = Provider.objects.get()
    page = admin.post(page_url(provider, "test")).content.decode()
    assert (">works<" in page) == cloud.lists, page
    model = Model.objects.create(name="m", owned_by="x")
    deployment = Deployment(name="d", model=model, provider=provider, upstream_model=cloud.upstream_model)
    deployment.save()
    page = admin.post(page_url(deployment, "test")).content.decode()
    assert ">works<" in page, page
    assert "first token after" in page
    credential = cloud.fields.get("credential", "")
    assert not credential or credential[-20:] not in page


BAD: list[tuple[str, dict[str, Any]]] = [
    ("azure", {"credential": "k"}),  # no endpoint
    ("anthropic", {"credential": "sk-\u2028x"}),
    ("bedrock", {"credential": "AKIA:secret"}),  # no region
    ("vertex", {"credential": '{"type": "service_account"}', "region": "us-central1", "project": "p"}),
    ("vertex", {"region": "us-central1"}),
    ("gemini", {"credential": "two\nlines"}),
    ("compatible", {}),
    ("nothing", {}),
]


@pytest.mark.parametrize(("kind", "fields"), BAD)
def test_what_cannot_work_is_refused_before_it_is_stored(admin, kind, fields):
    page = admin.post(ADD, {"name": "ours", "kind": kind, "enabled": "on"} | fields).content.decode()
    assert "errorlist" in page
    assert not Provider.objects.exists()
    if "credential" in fields and len(fields["credential"]) > 1:
        assert fields["credential"] not in page


def test_embeddings_are_asked_of_models_that_are_named_so_or_on_request(admin, db, upstream):
    deployment = deploy(upstream)
    page = admin.post(page_url(deployment, "test"), {"ask": "embeddings"}).content.decode()
    assert "A vector of" in page
    assert f"{upstream.url}/embeddings" in page
    assert "Ask for words instead" in page
    deployment.upstream_model = "text-embedding-3-small"
    deployment.save()
    assert "A vector of" in admin.post(page_url(deployment, "test")).content.decode()
    page = admin.post(page_url(deployment, "test"), {"ask": "words"}).content.decode()
    assert f"{upstream.url}/chat/completions" in page


def test_a_kind_without_embeddings_says_so(admin, stack):
    cloud = anthropic(stack)
    deployment = deploy(cloud.fields["base_url"], kind="anthropic")
    page = admin.post(page_url(deployment, "test"), {"ask": "embeddings"}).content.decode()
    assert "This kind of provider can&#x27;t be asked that." in page


def test_azures_deployments_are_named_by_the_operator(admin, stack):
    cloud = azure_v1(stack)
    admin.post(ADD, {"name": "ours", "kind": "azure", "enabled": "on"} | cloud.fields)
    page = admin.post(page_url(Provider.objects.get(), "models"), {"chosen": ["gpt-4o"]}).content.decode()
    assert '<input type="text" name="form-0-upstream_model" value="gpt-4o"' in page
