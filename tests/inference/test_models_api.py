"""GET /v1/models: OpenAI's shape, only what this key may call, no SQL when warm, the limits' headers everywhere."""

from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from accounts import api_keys, jwt, keys, sessions
from billing.admission import limits, snapshots
from billing.models import Plan, Subscription
from inference import catalogue
from inference.gateway import gateway
from inference.models import Deployment, Model, Provider
from tests import factories

URL = "/v1/models"
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture(autouse=True)
def _cold():
    snapshots.cache.clear()
    catalogue.keeper.forget()
    yield
    snapshots.cache.clear()
    catalogue.keeper.forget()


@pytest.fixture
def provider(db) -> Provider:
    return Provider.objects.create(name="somewhere", base_url="http://127.0.0.1:9/v1")


def make(provider: Provider, name: str, *, owned_by: str = "openai", **deployment: object) -> Model:
    model = Model.objects.create(name=name, owned_by=owned_by)
    Deployment.objects.create(
        name=f"{name}-1".replace("/", "-"), model=model, provider=provider, upstream_model="x", **deployment
    )
    return model


@pytest.fixture
def gpt(provider) -> Model:
    return make(provider, "gpt-3.5-turbo")


@pytest.fixture
def token(organization, owner) -> str:
    return api_keys.create(organization=organization, user=owner, name="CI")[1]


def caller(token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {token}"})


def names(token: str) -> list[str]:
    catalogue.keeper.forget()
    return [model["id"] for model in caller(token).get(URL).json()["data"]]


def test_the_list_is_shaped_as_the_reference_prints_it(token, gpt, provider):
    other = make(provider, "gpt-4")
    response = caller(token).get(URL)
    assert response.status_code == 200
    assert response["X-Request-ID"].startswith("req_")
    assert response.json() == {
        "object": "list",
        "data": [
            {"id": model.name, "object": "model", "created": int(model.created_at.timestamp()), "owned_by": "openai"}
            for model in (gpt, other)
        ],
    }


def test_one_model_is_shaped_as_the_reference_prints_it(token, gpt):
    response = caller(token).get(f"{URL}/gpt-3.5-turbo")
    assert response.status_code == 200
    assert response.json() == {
        "id": "gpt-3.5-turbo",
        "object": "model",
        "created": int(gpt.created_at.timestamp()),
        "owned_by": "openai",
    }


@pytest.mark.parametrize("path", ["meta-llama/Llama-3.1-8B:free", "meta-llama%2FLlama-3.1-8B:free"])
def test_names_may_hold_slashes(token, provider, path):
    make(provider, "meta-llama/Llama-3.1-8B:free")
    assert caller(token).get(f"{URL}/{path}").json()["id"] == "meta-llama/Llama-3.1-8B:free"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_trailing_slash_is_optional(token, gpt, slash):
    assert caller(token).get(URL + slash).json()["object"] == "list"
    assert caller(token).get(f"{URL}/gpt-3.5-turbo{slash}").json()["object"] == "model"


@pytest.mark.parametrize("name", ["nope", "gpt-3.5-turb", "%00", "%F0%9F%94%91", "a//b", "GPT-3.5-TURBO", "x" * 5000])
def test_an_unknown_model_is_404_in_openai_s_shape(token, gpt, name):
    response = caller(token).get(f"{URL}/{name}")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "invalid_request_error", "model")
    assert set(error) == {"code", "message", "type", "param", "details", "timestamp", "request_id"}
    assert error["request_id"] == response["X-Request-ID"]
    assert len(response.content) < 1500


def test_only_models_that_can_answer_are_listed(token, gpt, provider):
    make(provider, "switched-off", enabled=False)
    disabled = make(provider, "disabled")
    disabled.enabled = False
    disabled.save()
    Model.objects.create(name="nowhere", owned_by="nobody")
    make(Provider.objects.create(name="gone", base_url="http://127.0.0.1:9/v1", enabled=False), "of-a-gone-provider")
    assert names(token) == ["gpt-3.5-turbo"]
    for name in ("switched-off", "disabled", "nowhere", "of-a-gone-provider"):
        assert caller(token).get(f"{URL}/{name}").status_code == 404


def test_a_model_for_some_is_404_for_the_others(token, gpt, provider, organization, outsider):
    theirs = outsider.memberships.get().organization
    _, other_token = api_keys.create(organization=theirs, user=outsider, name="CI")
    make(provider, "exclusive").only_for.add(organization)
    assert names(token) == ["exclusive", "gpt-3.5-turbo"]
    assert names(other_token) == ["gpt-3.5-turbo"]
    assert caller(token).get(f"{URL}/exclusive").status_code == 200
    response = caller(other_token).get(f"{URL}/exclusive")
    unknown = caller(other_token).get(f"{URL}/excluded_")
    assert response.status_code == 404
    assert response.json()["error"]["message"].replace("exclusive", "excluded_") == unknown.json()["error"]["message"]


def test_a_key_with_a_list_sees_its_list(organization, owner, gpt, provider):
    make(provider, "gpt-4")
    _, token = api_keys.create(organization=organization, user=owner, name="CI", models=["gpt-4", "planned"])
    assert names(token) == ["gpt-4"]
    assert caller(token).get(f"{URL}/gpt-4").status_code == 200
    response = caller(token).get(f"{URL}/gpt-3.5-turbo")
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "authorization_failed"


@pytest.mark.parametrize("path", ["", "/gpt-3.5-turbo"])
def test_a_warm_call_makes_no_query(token, gpt, path, django_assert_num_queries):
    client = caller(token)
    client.get(URL + path)
    with django_assert_num_queries(0):
        assert client.get(URL + path).status_code == 200


def test_the_limits_show_and_nothing_is_counted(token, gpt):
    client = caller(token)
    for response in (client.get(URL), client.get(URL), client.get(f"{URL}/gpt-3.5-turbo"), client.get(f"{URL}/nope")):
        assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("100", "100")
        assert int(response["X-RateLimit-Reset"]) % 60 == 0


def test_the_abuse_limit_is_as_high_as_the_minute(organization, token, gpt):
    plan = Plan.objects.create(slug="tiny", name="Tiny", requests_per_minute=3, requests_per_month=100)
    Subscription.objects.create(organization=organization, plan=plan)
    client = caller(token)
    assert [client.get(URL).status_code for _ in range(4)] == [200, 200, 200, 429]
    response = client.get(f"{URL}/gpt-3.5-turbo")
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(response["Retry-After"]) <= 60
    assert response["X-RateLimit-Remaining"] == "3"  # inference is untouched
    limits.clock_offset_s += 60
    try:
        assert client.get(URL).status_code == 200
    finally:
        limits.clock_offset_s -= 60


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer 🔑", "Bearer \xff"])
def test_what_is_no_credential_is_authentication_failed(gpt, header):
    response = Client(headers={"Authorization": header}).get(URL)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "authentication_failed"
    assert not any(name in response for name in LIMIT_HEADERS)


def test_no_header_is_authentication_failed(client, gpt, owner):
    client.force_login(owner)
    response = client.get(URL)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "authentication_failed"


def test_a_key_in_the_query_string_is_no_credential(client, gpt, token):
    response = client.get(URL, {"api_key": token, "key": token, "access_token": token})
    assert response.status_code == 401
    assert token not in response.content.decode()


@pytest.mark.parametrize(
    "bad",
    [
        "' OR 1=1 --",
        "hflow_'; DROP TABLE accounts_apikey; --",
        "hflow_" + "a" * 49,
        "hflow_" + "a" * 65536,
        "hflow_" + "a" * 20 + "\0" + "a" * 28,
        "sk-proj-" + "x" * 40,
    ],
)
def test_a_malformed_key_is_invalid_without_a_look_up(gpt, bad, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = caller(bad).get(URL)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert bad not in response.content.decode()


def test_a_well_formed_key_nobody_made_is_invalid(db, gpt):
    unknown = keys.generate()
    response = caller(unknown).get(URL)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_lower_case_bearer_is_fine(token, gpt):
    assert Client(headers={"Authorization": f"bearer {token}"}).get(URL).status_code == 200


def test_two_authorization_headers_are_refused(token, gpt):
    response = Client(headers={"Authorization": f"Bearer {token},Bearer {token}"}).get(URL)  # as Django joins them
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "authentication_failed"


def test_a_jwt_is_told_that_a_key_is_needed(owner, organization, gpt):
    session = sessions.start(user=owner, address="127.0.0.1", user_agent="tests")
    response = caller(jwt.access_token(session)).get(URL)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert "hflow_" in response.json()["error"]["message"]


@pytest.mark.django_db(transaction=True)
def test_a_key_revoked_a_moment_ago_is_refused_though_it_was_warm(organization, owner, gpt):
    key, token = api_keys.create(organization=organization, user=owner, name="CI")
    assert caller(token).get(URL).status_code == 200
    api_keys.revoke(key=key, user=owner)
    response = caller(token).get(URL)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.django_db(transaction=True)
def test_a_rotated_key_works_for_its_grace_and_no_longer(organization, owner, gpt):
    key, old = api_keys.create(organization=organization, user=owner, name="CI")
    assert caller(old).get(URL).status_code == 200
    _, new = api_keys.rotate(key=key, user=owner, grace=timedelta(days=1))
    assert caller(old).get(URL).status_code == caller(new).get(URL).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(days=1, seconds=1)):
        assert caller(old).get(URL).status_code == 401
        assert caller(new).get(URL).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_key_of_an_old_pepper_still_works(organization, owner, gpt, settings):
    _, token = api_keys.create(organization=organization, user=owner, name="CI")
    settings.KEY_PEPPERS = ["a newer pepper", *settings.KEY_PEPPERS]
    assert caller(token).get(URL).status_code == 200
    settings.KEY_PEPPERS = ["a newer pepper"]
    snapshots.cache.clear()
    assert caller(token).get(URL).status_code == 401


def test_a_known_catalogue_outlives_postgresql(token, gpt, monkeypatch):
    client = caller(token)
    assert client.get(URL).status_code == 200
    monkeypatch.setattr(catalogue, "read", fail)
    monkeypatch.setattr(catalogue.keeper, "_read_at", float("-inf"))
    monkeypatch.setattr(catalogue.keeper, "_checked_at", float("-inf"))
    response = client.get(URL)
    assert [model["id"] for model in response.json()["data"]] == ["gpt-3.5-turbo"]


def test_without_postgresql_a_cold_process_says_503(token, gpt, monkeypatch):
    monkeypatch.setattr(catalogue, "read", fail)
    response = caller(token).get(URL)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "service_unavailable"
    assert int(response["Retry-After"]) >= 1


def fail() -> None:
    raise OperationalError("the server closed the connection")


def test_a_disabled_organization_is_403(organization, token, gpt):
    organization.disabled_at = timezone.now()
    organization.save()
    response = caller(token).get(URL)
    assert response.status_code == 403
    assert response["X-RateLimit-Limit"] == "100"


def test_other_methods_are_405_with_the_limits(token, gpt):
    response = caller(token).post(URL)
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "invalid_request"
    assert response["X-RateLimit-Limit"] == "100"


def test_a_call_counts_as_use_of_the_key(organization, owner, gpt):
    key, token = api_keys.create(organization=organization, user=owner, name="CI")
    caller(token).get(URL)
    assert key.id in gateway.uses


def test_another_organization_s_key_draws_on_its_own_limits(organization, owner, gpt):
    second = factories.organization(owner=owner, name="Second")
    plan = Plan.objects.create(slug="tiny", name="Tiny", requests_per_minute=1, requests_per_month=100)
    Subscription.objects.create(organization=second, plan=plan)
    _, theirs = api_keys.create(organization=second, user=owner, name="CI")
    _, ours = api_keys.create(organization=organization, user=owner, name="CI")
    assert [caller(theirs).get(URL).status_code for _ in range(2)] == [200, 429]
    assert caller(ours).get(URL).status_code == 200
