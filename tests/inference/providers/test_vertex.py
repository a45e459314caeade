"""Vertex AI: its addresses, and the tokens that google-auth asks of a fake token service."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from inference.providers import adapter_for, google_tokens
from inference.providers.adapter import Account, CredentialError
from inference.providers.google_tokens import Tokens
from inference.providers.vertex import VertexAdapter
from tests.factories import deploy, reread_catalogue
from tests.fakes import answers
from tests.fakes.gemini import Gemini
from tests.fakes.google_tokens import TokenService, private_pem
from tests.inference.chat_bodies import parse


@pytest.fixture
def service() -> Iterator[TokenService]:
    with TokenService() as server:
        yield server
    assert server.refused == []


@pytest.fixture
def vertex() -> Iterator[Gemini]:
    with Gemini(token="ya29.fake-1") as server:
        yield server


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(service, clock) -> Tokens:
    return Tokens(google_tokens.service_account(service.service_account()).source, clock=clock)


def account(**changes) -> Account:
    return Account(**{"kind": "vertex", "project": "our-project", "region": "europe-west4"} | changes)


def connect(vertex: Gemini, service: TokenService, *, credential: str | None = None, **options) -> None:
    made = deploy(vertex, kind="vertex", region="europe-west4", **options)
    made.provider.credential = service.service_account() if credential is None else credential
    made.provider.save()
    made.upstream_model = "gemini-2.5-pro"
    made.save()
    reread_catalogue()


def get(tokens: Tokens) -> str:
    return asyncio.run(tokens.get())


def wait_until_idle(tokens: Tokens) -> None:
    asking = tokens._asking
    if asking is not None:
        asking.result(20)


# Through the gateway


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_comes_through(plane, token, vertex, service, stream):
    connect(vertex, service)
    response = plane.chat(token, stream=stream)
    assert response.status_code == 200, response.text
    if stream:
        frames = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]]
        assert "".join(frame["choices"][0]["delta"].get("content", "") for frame in frames) == answers.TEXT
    else:
        assert response.json()["choices"][0]["message"]["content"] == answers.TEXT
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    model = "projects/our-project/locations/europe-west4/publishers/google/models/gemini-2.5-pro"
    assert vertex.last.path == f"/v1/{model}:{method}"
    assert not vertex.refused


def test_one_token_serves_many_requests_at_once(plane, token, vertex, service):
    connect(vertex, service)
    threads = [threading.Thread(target=plane.chat, args=(token,)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert len(vertex.requests) == 8
    assert service.requests == 1


def test_without_a_token_another_deployment_answers(plane, token, vertex, service, upstream, caplog):
    connect(vertex, service)
    deploy(upstream, name="second", priority=1)
    service.failure = (400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
    assert plane.chat(token).headers["x-helixflow-upstream"] == "second"
    assert not vertex.requests
    assert "invalid_grant" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_a_token_that_the_model_s_server_repeats_reaches_nobody(plane, token, vertex, service, caplog):
    connect(vertex, service)
    vertex.token = "another"
    response = plane.chat(token)
    assert response.status_code == 503
    assert vertex.requests
    assert "ya29.fake-1" not in response.text + caplog.text


# Tokens


def test_a_token_is_used_until_it_is_nearly_over(tokens, service, clock):
    assert get(tokens) == "ya29.fake-1"
    clock.now += 2900
    assert get(tokens) == "ya29.fake-1"
    wait_until_idle(tokens)
    assert service.requests == 1


def test_a_token_is_renewed_behind_the_one_that_is_still_valid(tokens, service, clock):
    get(tokens)
    clock.now += 3600 - 301
    service.open.clear()
    for _ in range(5):
        assert get(tokens) == "ya29.fake-1"  # no waiting: the service is silent
    service.open.set()
    wait_until_idle(tokens)
    assert get(tokens) == "ya29.fake-2"
    assert service.requests == 2


def test_a_short_lived_token_is_renewed_at_half_its_life(tokens, service, clock):
    service.expires_in = 100
    get(tokens)
    clock.now += 45
    assert get(tokens) == "ya29.fake-1"
    wait_until_idle(tokens)
    assert service.requests == 1
    clock.now += 10
    assert get(tokens) == "ya29.fake-1"
    wait_until_idle(tokens)
    assert get(tokens) == "ya29.fake-2"


def test_those_who_wait_for_the_first_token_share_one_request(tokens, service):
    async def many():
        return await asyncio.gather(*(tokens.get() for _ in range(20)))

    assert asyncio.run(many()) == ["ya29.fake-1"] * 20
    assert service.requests == 1


def test_a_failed_renewal_leaves_the_token_that_is_valid(tokens, service, clock):
    get(tokens)
    clock.now += 3600 - 301
    service.failure = (400, b'{"error": "invalid_grant"}')
    for _ in range(5):
        assert get(tokens) == "ya29.fake-1"
        wait_until_idle(tokens)
    assert service.requests == 2  # then a pause
    clock.now += 1.5
    assert get(tokens) == "ya29.fake-1"
    wait_until_idle(tokens)
    assert service.requests == 3
    clock.now += 1.5  # the pause has doubled
    assert get(tokens) == "ya29.fake-1"
    wait_until_idle(tokens)
    assert service.requests == 3
    service.failure = None
    clock.now += 300
    assert get(tokens) == "ya29.fake-2"


def test_without_any_token_the_reason_is_told_and_nobody_asks_in_the_pause(tokens, service):
    service.failure = (400, b'{"error": "invalid_grant", "error_description": "Account disabled."}')
    for _ in range(3):
        with pytest.raises(CredentialError, match="invalid_grant") as caught:
            get(tokens)
        assert "BEGIN" not in str(caught.value)
    assert service.requests == 1


def test_nobody_waits_for_a_silent_service_for_ever(tokens, service, monkeypatch):
    monkeypatch.setattr(google_tokens, "WAIT_S", 0.1)
    service.open.clear()
    with pytest.raises(CredentialError, match="in time"):
        get(tokens)
    assert service.asked.wait(10)
    service.open.set()
    wait_until_idle(tokens)
    assert get(tokens) == "ya29.fake-1"  # what was asked for wasn't lost
    assert service.requests == 1


def test_a_token_that_has_expired_already_is_none(tokens, service):
    service.expires_in = -10
    for _ in range(3):
        with pytest.raises(CredentialError, match="expired"):
            get(tokens)
    assert service.requests == 1


def test_whoever_leaves_takes_the_token_from_nobody(tokens, service):
    async def one_leaves():
        service.open.clear()
        leaving, staying = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
        await asyncio.to_thread(service.asked.wait, 10)
        leaving.cancel()
        service.open.set()
        return await staying

    assert asyncio.run(one_leaves()) == "ya29.fake-1"


def test_requests_carry_the_newest_token(service, tokens, clock):
    adapter = VertexAdapter(account())
    adapter._tokens = tokens
    for number in (1, 2):
        for _ in range(2):
            wire = asyncio.run(adapter.wire(parse(), upstream_model="gemini-2.5-pro", stream=False))
            assert wire.headers == b"Authorization: Bearer ya29.fake-%d\r\n" % number
        clock.now += 4000
    assert {"ya29.fake-1", "ya29.fake-2"} <= set(adapter.secrets)


def test_surroundings_can_name_the_account(service, monkeypatch, tmp_path):
    path = tmp_path / "account.json"
    path.write_text(service.service_account())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    adapter = adapter_for(account(region="us-east1"))
    wire = asyncio.run(adapter.wire(parse(), upstream_model="gemini-2.5-pro", stream=False))
    assert wire.headers == b"Authorization: Bearer ya29.fake-1\r\n"


def test_surroundings_without_an_account_are_no_server_error(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    adapter = VertexAdapter(account())
    with pytest.raises(CredentialError, match="no access token"):
        asyncio.run(adapter.wire(parse(), upstream_model="gemini-2.5-pro", stream=False))


# Settings


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("", "aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_each_region_has_its_address(region, host):
    adapter = VertexAdapter(account(region=region))
    assert (adapter.origin.host, adapter.origin.prefix) == (host, "/v1")
    assert adapter.resource("gemini-2.5-pro").startswith(f"/projects/our-project/locations/{region or 'global'}/")


def test_a_model_can_be_said_with_its_place():
    adapter = VertexAdapter(account(api_version="v1beta1"))
    root = "/projects/our-project/locations/europe-west4"
    assert adapter.resource("publishers/meta/models/llama-4") == f"{root}/publishers/meta/models/llama-4"
    assert adapter.resource("endpoints/123") == f"{root}/endpoints/123"
    assert adapter.origin.prefix == "/v1beta1"


def test_the_project_is_the_service_account_s_unless_another_is_said(service):
    named = VertexAdapter(account(project="", credential=service.service_account()))
    assert named.resource("m").startswith("/projects/our-project/")
    other = VertexAdapter(account(project="other", credential=service.service_account()))
    assert other.resource("m").startswith("/projects/other/")


@pytest.mark.parametrize(
    "changes",
    [
        {"project": ""},
        {"project": "a/b"},
        {"region": "Not a region"},
        {"region": "evil.example/"},
        {"base_url": "ftp://x"},
    ],
)
def test_settings_that_can_t_work_are_refused(changes):
    with pytest.raises(ValueError, match=r"project|region|base URL"):
        VertexAdapter(account(**changes))


@pytest.mark.parametrize(
    "base_url", ["https://evil.example/v1", "https://googleapis.com.evil.example", "http://x.googleapis.com"]
)
def test_the_machine_s_own_credential_goes_to_google_alone(base_url, service):
    """Who may enter a provider would otherwise have it sent to wherever they like."""
    with pytest.raises(ValueError, match="Google alone"):
        VertexAdapter(account(base_url=base_url))
    VertexAdapter(account(base_url="https://us-east1-aiplatform-ours.p.googleapis.com/v1"))
    VertexAdapter(account(base_url=base_url, credential=service.service_account()))


def test_a_request_is_printed_without_its_token(tokens):
    adapter = VertexAdapter(account())
    adapter._tokens = tokens
    wire = asyncio.run(adapter.wire(parse(), upstream_model="gemini-2.5-pro", stream=False))
    assert b"ya29" in wire.headers
    assert "ya29" not in repr(wire)
    assert "ya29" not in repr(asyncio.run(adapter.listing()))


@pytest.mark.parametrize(
    "credential",
    [
        "sk-not-json-at-all-0123456789",
        "[]",
        '"text"',
        '{"type": "authorized_user", "client_secret": "hidden-0123456789"}',
        '{"type": "service_account", "private_key": "hidden-0123456789"}',
        '{"type": "service_account", "private_key": 5, "client_email": "a@b", "token_uri": "https://x"}',
        '{"type": "service_account", "private_key": "hidden-0123456789", "client_email": "a@b", "token_uri": "https://x"}',
    ],
)
def test_a_credential_of_another_kind_is_refused_without_being_repeated(credential):
    with pytest.raises(ValueError, match="service account") as caught:
        VertexAdapter(account(credential=credential))
    assert "hidden" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_the_key_and_the_token_are_secrets(service):
    adapter = VertexAdapter(account(credential=service.service_account()))
    asyncio.run(adapter.headers())
    for secret in (private_pem(), private_pem().splitlines()[1], "ya29.fake-1"):
        assert secret in adapter.secrets
    shown = [
        adapter,
        adapter.account,
        adapter._tokens._token,
        google_tokens.service_account(adapter.account.credential),
    ]
    assert private_pem().splitlines()[1] not in repr(shown)
    assert "ya29" not in repr(shown)


def test_gemini_s_models_are_listed(service):
    adapter = VertexAdapter(account(credential=service.service_account()))
    listing: Any = asyncio.run(adapter.listing())
    assert listing.origin.host == "europe-west4-aiplatform.googleapis.com"
    assert (listing.origin.prefix, listing.path.partition("?")[0]) == ("/v1beta1", "/publishers/google/models")
    body = {"publisherModels": [{"name": f"publishers/google/models/{name}"} for name in ("gemini-2.5-pro", "veo-3")]}
    assert adapter.read_listing(json.dumps(body).encode()) == ["gemini-2.5-pro"]


def test_a_gateway_without_such_a_provider_does_not_load_google_s_library():
    program = "import django, sys; django.setup(); import inference.providers; print('google.auth' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("False")
