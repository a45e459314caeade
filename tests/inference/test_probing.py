"""What an operator is told of a provider that is asked something."""

import asyncio
import socket
import threading

import pytest

from helixflow.lib import crypto
from inference import probing
from inference.catalogue import account_of
from inference.models import Deployment, ProviderKind
from inference.upstream import UpstreamClient
from tests.factories import deploy
from tests.fakes.behaviours import LEAKY_ADDRESS, LEAKY_KEY, body
from tests.fakes.gemini import KEY, Gemini, google_error
from tests.fakes.google_tokens import TokenService
from tests.fakes.upstream import Upstream

CREDENTIAL = "sk-provider-secret-0123456789"


@pytest.fixture
def deployment(db: None, upstream: Upstream) -> Deployment:
    return deploy(upstream)


def ask(deployment: Deployment, behaviour: str = "") -> probing.Report:
    deployment.upstream_model = behaviour or deployment.upstream_model
    return probing.ask_deployment(deployment)


def test_a_deployment_that_answers(deployment, upstream):
    report = ask(deployment)
    assert report.ok, report
    assert (report.status, report.address) == (200, f"{upstream.url}/chat/completions")
    assert report.said
    assert report.connect_ms is not None and report.first_token_ms is not None  # noqa: PT018  # narrows both for mypy
    assert 0 <= report.connect_ms <= report.first_token_ms <= report.total_ms
    assert upstream.last.json["model"] == deployment.upstream_model
    assert upstream.last.json["max_tokens"] <= 32
    assert upstream.last.headers["authorization"] == f"Bearer {CREDENTIAL}"


def test_a_provider_that_lists_its_models(deployment, upstream):
    report = probing.ask_models(deployment.provider)
    assert report.ok, report
    assert report.models == upstream.models
    assert report.address == f"{upstream.url}/models"
    assert (upstream.last.method, upstream.last.headers["authorization"]) == ("GET", f"Bearer {CREDENTIAL}")


@pytest.mark.parametrize("behaviour", ["one-read", "bytewise", "crlf", "comments", "no-done", "drip"])
def test_streams_of_every_make(deployment, behaviour):
    plain = ask(deployment, "normal").said
    assert ask(deployment, behaviour).said == plain


@pytest.mark.parametrize(
    ("behaviour", "status", "hint"),
    [
        ("status-400", 400, "model's name"),
        ("status-401", 401, "credential"),
        ("status-403", 403, "permissions"),
        ("status-404", 404, "model's name"),
        ("status-429", 429, "limits this account"),
        ("status-500", 500, "trouble of its own"),
        ("html-502", 502, "trouble of its own"),
        ("redirect", 302, "leads elsewhere"),
        ("not-http", None, "http or https"),
        ("close-before-head", None, "cut it"),
        ("cut-before-first", 200, "cut it"),
        ("cut-fin", 200, "cut it"),
        ("garbage-frame", 200, "API of this kind"),
        ("error-frame", 200, "status page"),
        ("html-200", 200, "API of this kind"),
        ("not-json", 200, "API of this kind"),
        ("empty", 200, "API of this kind"),
        ("empty-stream", 200, "API of this kind"),
        ("only-done", 200, "API of this kind"),
        ("endless-line", 200, "API of this kind"),
        ("endless-comment", 200, "API of this kind"),
    ],
)
def test_a_failure_says_what_it_is_and_what_to_do(deployment, behaviour, status, hint):
    report = ask(deployment, behaviour)
    assert not report.ok
    assert report.status == status
    assert hint in report.hint


@pytest.mark.parametrize("behaviour", ["status-400", "status-401"])
def test_what_a_provider_says_of_us_is_cleaned(deployment, behaviour):
    report = ask(deployment, behaviour)
    assert not report.ok
    for secret in (LEAKY_KEY, LEAKY_ADDRESS, CREDENTIAL):
        assert secret not in str(report)


def test_a_credential_that_is_echoed_is_not_shown(deployment, upstream):
    upstream.script(body(f'{{"error": "who is {CREDENTIAL}?"}}'.encode(), code=401))
    report = ask(deployment)
    assert report.error == "who is [key]?"
    assert CREDENTIAL not in str(report)


@pytest.mark.parametrize("behaviour", ["stall-before-head", "stall-before-first", "stall-in-the-middle"])
def test_silence_is_waited_for_within_bounds(deployment, monkeypatch, behaviour):
    monkeypatch.setattr(probing, "WITHIN_S", 1.0)
    report = ask(deployment, behaviour)
    assert report.error.startswith("No answer in time.")
    assert "firewall" in report.hint


def test_nobody_listening(deployment, upstream):
    upstream.stop()
    report = ask(deployment)
    assert report.error.startswith("No connection.")
    assert "Nothing listens" in report.hint
    assert (report.status, report.connect_ms) == (None, None)
    assert report.address.startswith("http://127.0.0.1:")


def test_the_wrong_scheme(deployment, upstream):
    deployment.provider.base_url = upstream.tls_mismatch_url
    report = ask(deployment)
    assert not report.ok
    assert "http or https" in report.hint


def test_an_address_that_swallows_everything(deployment, monkeypatch):
    async def hang(*arguments):
        await asyncio.sleep(60)

    monkeypatch.setattr(UpstreamClient, "_dial", hang)
    monkeypatch.setattr(probing, "WITHIN_S", 0.2)
    report = ask(deployment)
    assert report.error == "No connection. (TimeoutError)"
    assert "Nobody answers there" in report.hint


def test_a_name_that_nobody_knows(deployment, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    deployment.provider.base_url = "http://nowhere.invalid/v1"
    report = ask(deployment)
    assert "check its spelling" in report.hint


def test_a_name_server_that_hangs_does_not_hold_the_page(deployment, monkeypatch):
    hung = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: hung.wait(60) and [])
    monkeypatch.setattr(probing, "WITHIN_S", 1.0)
    deployment.provider.base_url = "http://somewhere.invalid/v1"
    report = ask(deployment)
    assert report.error.startswith("No connection.")
    assert not hung.is_set()  # it hangs still
    hung.set()


@pytest.mark.parametrize("data", [b"<html>", b'{"models": []}', b"[1]", b'{"data": [{"name": "x"}]}'])
def test_a_list_that_is_none(deployment, upstream, monkeypatch, data):
    monkeypatch.setattr(upstream, "_list_models", body(data))
    report = probing.ask_models(deployment.provider)
    assert report.error.startswith("The answer makes no sense.")
    assert report.models == []


def test_a_server_without_a_list(deployment, upstream, monkeypatch):
    monkeypatch.setattr(upstream, "_list_models", body(b"{}", code=405))
    report = probing.ask_models(deployment.provider)
    assert "test a deployment instead" in report.hint


def test_a_list_that_is_not_there_says_nothing_of_a_model(deployment, upstream):
    deployment.provider.base_url = upstream.url.replace("/v1", "/v2")
    report = probing.ask_models(deployment.provider)
    assert report.status == 404
    assert "base URL" in report.hint
    assert "model's name" not in report.hint


def test_a_key_that_google_refuses_with_a_400(db):
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    with Gemini() as gemini:
        made = deploy(gemini, kind="gemini")
        made.provider.credential = KEY
        gemini.script(google_error(400, "INVALID_ARGUMENT", "API key not valid.", reason))
        report = ask(made, "gemini-2.5-pro")
    assert report.error == "API key not valid."
    assert "credential is wrong" in report.hint


def test_a_vertex_without_a_list_has_its_credential_tried_all_the_same(db, upstream):
    provider = deploy(upstream, kind="vertex", region="europe-west4").provider
    with TokenService() as service:
        provider.credential = service.service_account()
        assert "need not mean" in probing.ask_models(provider).hint
        service.failure = (400, b'{"error": "invalid_grant"}')
        report = probing.ask_models(provider)
    assert report.error.startswith("No access token")
    assert "credential" in report.hint


def test_settings_that_cannot_work_are_told_without_a_call(deployment, upstream):
    deployment.provider.kind = ProviderKind.COMPATIBLE
    deployment.provider.base_url = "ftp://127.0.0.1"
    report = ask(deployment)
    assert "http://" in report.error
    assert upstream.requests == []


def test_a_credential_that_no_key_opens(deployment, settings):
    settings.ENCRYPTION_KEYS = ["bm9ub25vbm9ub25vbm9ub25vbm9ub25vbm9ub25vbm8="]
    report = ask(deployment)
    assert "HELIXFLOW_ENCRYPTION_KEYS" in report.error
    with pytest.raises(crypto.Undecryptable):
        _ = deployment.provider.credential


def test_the_data_planes_adapter_is_left_alone(deployment):
    account = account_of(deployment.provider)
    assert probing.new_adapter(account) is not probing.new_adapter(account)
