"""How deployments are doing, tests of them, and switching them on and off."""

from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from helixflow.lib import redis
from inference import health_shared
from inference.breaker import State
from inference.health_shared import DeploymentHealth
from inference.models import Deployment, Model, Provider
from tests.factories import deploy
from tests.inference.admin.pages import change_url, page_url, version

LIST = "/admin/inference/deployment/"
LIVE = "/admin/inference/deployment/live/"
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def told(monkeypatch) -> dict[str, DeploymentHealth]:
    """What all processes together say."""
    found: dict[str, DeploymentHealth] = {}
    monkeypatch.setattr(health_shared, "shared", lambda: found)
    return found


@pytest.fixture
def deployment(model: Model) -> Deployment:
    return model.deployments.get()


def act(admin, action: str, *rows: Deployment, **fields: str):
    body = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return admin.post(LIST, body | fields, follow=True)


# Health


def test_the_list_shows_how_each_is_doing(admin, deployment, told):
    told[deployment.id.hex] = DeploymentHealth(
        State.OPEN, NOON, NOON, "status 500 <b>", requests=7, failures=5, latency_ms=12.6, in_flight=2
    )
    page = admin.get(LIST).content.decode()
    assert "cut off" in page
    assert "since 12:00:00, until 12:00:00: status 500 &lt;b&gt;" in page
    assert "7 requests, 5 failed, 2 under way, 13 ms" in page
    assert page_url(deployment, "reset") in page


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.CLOSED, "healthy"),
        (State.HALF_OPEN, "being tried"),
        (State.LIMITED, "limited"),
    ],
)
def test_each_state_has_its_words(admin, deployment, told, state, words):
    told[deployment.id.hex] = DeploymentHealth(state, NOON)
    page = admin.get(change_url(deployment.model)).content.decode()
    assert f">{words}<" in page
    assert (page_url(deployment, "reset") in page) == (state is not State.CLOSED)


def test_without_news_the_pages_say_so(admin, deployment, told):
    for url in (LIST, change_url(deployment.model)):
        assert "no news" in admin.get(url).content.decode()


@pytest.mark.parametrize("which", ["deployment", "provider"])
def test_what_is_disabled_is_off_whatever_is_remembered_of_it(admin, deployment, told, which):
    told[deployment.id.hex] = DeploymentHealth(State.OPEN, NOON)
    row = deployment if which == "deployment" else deployment.provider
    row.enabled = False
    row.save()
    for page in (
        admin.get(LIST),
        admin.get(change_url(deployment.model)),
        admin.get(LIVE, {"live": deployment.id.hex}),
    ):
        text = page.content.decode()
        assert ">off<" in text
        assert "cut off" not in text
        assert ("its provider is disabled" in text) == (which == "provider")


def test_the_pages_with_redis_away(admin, deployment, monkeypatch):
    monkeypatch.setattr(redis, "sync_client", _away)
    for url in (LIST, change_url(deployment.model), reverse("admin:inference_model_changelist")):
        assert admin.get(url).status_code == 200
    page = admin.post(page_url(deployment, "reset"), follow=True).content.decode()
    assert "Redis is away" in page


def _away():
    raise redis.RedisError("away")


def test_what_is_on_the_page_is_brought_up_to_date(admin, model, deployment, told):
    other = Deployment.objects.create(name="d2", model=model, provider=deployment.provider, upstream_model="x")
    told[deployment.id.hex] = DeploymentHealth(State.LIMITED, NOON)
    page = admin.get(LIVE, {"live": [deployment.id.hex, "nonsense"]}).content.decode()
    assert f'id="live-{deployment.id.hex}"' in page
    assert "hx-swap-oob" in page
    assert "limited" in page
    assert other.id.hex not in page


def test_the_news_are_for_staff_who_may_look(client, clerk, owner, deployment, told):
    told[deployment.id.hex] = DeploymentHealth(State.OPEN, NOON, reason="status 500")
    assert client.get(LIVE).status_code == 302
    client.force_login(owner)
    assert client.get(LIVE).status_code == 302
    client.force_login(clerk)
    page = client.get(LIVE, {"live": deployment.id.hex}).content.decode()
    assert "cut off" in page
    assert "Let through" not in page
    clerk.user_permissions.clear()
    assert client.get(LIVE).status_code == 403


def test_letting_requests_through_again(admin, deployment):
    page = admin.post(page_url(deployment, "reset"), follow=True).content.decode()
    assert "gets requests again within a second" in page
    assert health_shared.shared()[deployment.id.hex].state is State.CLOSED
    assert LogEntry.objects.get().get_change_message() == "Let requests through again."


# Tests


def test_a_deployment_that_answers(admin, db, upstream):
    deployment = deploy(upstream)
    page = admin.post(page_url(deployment, "test")).content.decode()
    assert f"{upstream.url}/chat/completions" in page
    assert "Hello! How can I help you" in page
    assert "first token after" in page
    assert LogEntry.objects.get().get_change_message().startswith("Tested: answered in ")


def test_a_deployment_that_does_not(admin, db, upstream):
    deployment = deploy(upstream)
    upstream.script("status-404")
    page = admin.post(page_url(deployment, "test")).content.decode()
    assert "The model does not exist." in page
    assert "Check the model&#x27;s name" in page


@pytest.mark.parametrize("page", ["test", "reset"])
def test_who_may_only_look_changes_and_asks_nothing(client, clerk, deployment, page):
    client.force_login(clerk)
    assert client.get(change_url(deployment)).status_code == 200
    assert client.post(page_url(deployment, page)).status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("page", ["test", "reset"])
def test_they_need_a_post(admin, deployment, page):
    assert admin.get(page_url(deployment, page)).status_code == 405


# On and off


@pytest.mark.django_db(transaction=True)
def test_switching_off_one_of_two(admin, model, deployment):
    other = Deployment.objects.create(name="d2", model=model, provider=deployment.provider, upstream_model="x")
    act(admin, "disable", other)
    other.refresh_from_db()
    assert not other.enabled
    assert version() is not None
    assert LogEntry.objects.get().get_change_message() == "Disabled."
    act(admin, "enable", other)
    other.refresh_from_db()
    assert other.enabled


def test_switching_off_the_last_one_asks_first(admin, model, deployment):
    page = act(admin, "disable", deployment).content.decode()
    assert "callers would get 404" in page
    assert "gpt-4" in page
    deployment.refresh_from_db()
    assert deployment.enabled
    act(admin, "disable", deployment, confirmed="yes")
    deployment.refresh_from_db()
    assert not deployment.enabled


@pytest.mark.parametrize("why", ["another", "model off", "off already"])
def test_it_does_not_ask_without_need(admin, model, deployment, why):
    if why == "another":
        Deployment.objects.create(name="d2", model=model, provider=deployment.provider, upstream_model="x")
    elif why == "model off":
        Model.objects.update(enabled=False)
    else:
        Provider.objects.update(enabled=False)
    act(admin, "disable", deployment)
    deployment.refresh_from_db()
    assert not deployment.enabled


def test_who_may_only_look_switches_nothing(client, clerk, deployment):
    client.force_login(clerk)
    act(client, "disable", deployment, confirmed="yes")
    deployment.refresh_from_db()
    assert deployment.enabled


def test_saving_the_last_one_as_disabled_warns(admin, deployment):
    body = {"name": "gpt-4-1", "model": str(deployment.model_id), "provider": str(deployment.provider_id)}
    response = admin.post(
        change_url(deployment), body | {"upstream_model": "x", "priority": "0", "weight": "1"}, follow=True
    )
    assert "No enabled deployment of an enabled provider answers for: gpt-4." in response.content.decode()


@pytest.mark.parametrize("field", ["connect_s", "first_token_s", "gap_s", "total_s"])
@pytest.mark.parametrize("value", ["0", "-1", "601", "nan", "inf", "soon"])
def test_deadlines_that_make_no_sense_are_refused(admin, deployment, field, value):
    body = {"name": "d", "model": str(deployment.model_id), "provider": str(deployment.provider_id)}
    body |= {"upstream_model": "x", "priority": "0", "weight": "1", field: value}
    assert "errorlist" in admin.post(change_url(deployment), body).content.decode()
    deployment.refresh_from_db()
    assert getattr(deployment, field) is None
