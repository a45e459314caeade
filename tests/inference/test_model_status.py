"""How models are doing: for operators at GET /v1/models?status=true, for everybody on the status page."""

import asyncio

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import Organization, User
from billing.admission import snapshots
from inference import catalogue, health, health_shared, model_status
from inference.breaker import State
from inference.health_sync import HealthSync
from inference.models import Deployment, Model
from tests.factories import MODEL, deploy
from tests.inference.routing_world import World

URL = "/v1/models"
SINGLE = f"{URL}/{MODEL}"


@pytest.fixture(autouse=True)
def _cold(monkeypatch):
    snapshots.cache.clear()
    monkeypatch.setattr(model_status, "board", health.Board())
    yield
    snapshots.cache.clear()
    catalogue.keeper.forget()


@pytest.fixture
def deployments(db) -> list[Deployment]:
    return [deploy("http://127.0.0.1:9/v1", name=name, priority=number) for number, name in enumerate("ab")]


def token_of(user: User, organization: Organization) -> str:
    return api_keys.create(organization=organization, user=user, name="CI")[1]


@pytest.fixture
def operator(owner: User, organization: Organization) -> str:
    """The key of a member of staff."""
    owner.is_staff = True
    owner.save()
    return token_of(owner, organization)


def get(token: str, path: str):
    return Client(headers={"Authorization": f"Bearer {token}"}).get(path)


def cut_off(*deployments: Deployment) -> None:
    board = health.Board()
    for each in deployments:
        standing = board.standing(each.id.hex, MODEL, each.name)
        for _ in range(5):
            health.Trial(standing, board.budget(MODEL), board.clock, stream=True, paid=False).failed("status 500")
    asyncio.run(HealthSync(board).exchange())


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ("closed", "healthy"),
        ("closed closed", "healthy"),
        ("closed open", "degraded"),
        ("closed limited", "degraded"),
        ("half_open open", "degraded"),
        ("open limited", "unavailable"),
        ("open", "unavailable"),
    ],
)
def test_a_model_is_as_well_as_what_is_left_of_it(states, told):
    assert health_shared.worst(State(state) for state in states.split()) == told


def test_an_operator_sees_how_each_deployment_is_doing(operator, deployments):
    cut_off(deployments[0])
    model = get(operator, f"{URL}?status=true").json()["data"][0]
    assert (model["id"], model["status"]) == (MODEL, "degraded")
    first, second = model["deployments"]
    assert first["until"].endswith("Z")
    assert first["since"] < first["until"]
    assert first["latency_ms"] is None
    del first["until"], first["since"]
    assert first == {
        "name": "a",
        "provider": "provider-a",
        "priority": 0,
        "weight": 1,
        "state": "open",
        "reason": "status 500",
        "requests": 5,
        "failures": 5,
        "latency_ms": None,
        "in_flight": 0,
    }
    assert (second["name"], second["state"], second["since"], second["requests"]) == ("b", "closed", None, 0)


def test_so_does_one_who_asks_for_a_single_model(operator, deployments):
    assert get(operator, f"{SINGLE}?status=true").json()["status"] == "healthy"
    cut_off(*deployments)
    assert get(operator, f"{SINGLE}?status=true").json()["status"] == "unavailable"


def test_models_are_as_ever_unless_it_is_asked_for(operator, deployments):
    for path in (SINGLE, f"{SINGLE}?status=false"):
        assert set(get(operator, path).json()) == {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize("path", [f"{URL}?status=true", f"{SINGLE}?status=true"])
def test_nobody_else_may_see_it(owner, organization, deployments, path):
    response = get(token_of(owner, organization), path)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "authorization_failed"
    assert "provider-a" not in response.content.decode()


def test_nor_a_former_member_of_staff(operator, owner, deployments):
    owner.is_active = False
    owner.save()
    assert get(operator, f"{URL}?status=true").status_code in {401, 403}


def test_it_wants_credentials(deployments):
    assert Client().get(f"{URL}?status=true").status_code == 401


@pytest.mark.parametrize("value", ["1", "yes", "", "TRUE", "%00"])
def test_a_value_that_means_nothing_is_refused(operator, deployments, value):
    response = get(operator, f"{URL}?status={value}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "status")


def test_without_redis_a_process_tells_what_it_has_seen_itself(deployments, settings, monkeypatch):
    world = World(catalogue.current().models[MODEL])
    monkeypatch.setattr(model_status, "board", world.board)
    standing = world.board.standing(deployments[0].id.hex, MODEL, "a")
    for _ in range(5):
        health.Trial(standing, world.board.budget(MODEL), world.board.clock, stream=True, paid=False).failed("gone")
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    found = model_status.known()
    assert found[deployments[0].id.hex].state is State.OPEN
    assert model_status.status(world.models[0], found) == "degraded"


# The status page


def test_the_status_page_tells_of_models_and_not_of_deployments(deployments, organization):
    cut_off(deployments[0])
    deploy("http://127.0.0.1:9/v1", name="c", model="well")
    deploy("http://127.0.0.1:9/v1", name="d", model="of-one-customer")
    Model.objects.get(name="of-one-customer").only_for.add(organization)
    catalogue.keeper.forget()
    catalogue.current()
    html = Client().get("/status").content.decode()
    assert MODEL in html
    assert "Degraded" in html
    assert "Operational" in html
    assert "of-one-customer" not in html
    assert "provider-a" not in html


def test_a_model_that_nobody_answers_for_is_said_to_be_unavailable(deployments):
    assert ">Down<" not in Client().get("/status").content.decode()
    cut_off(*deployments)
    assert ">Down<" in Client().get("/status").content.decode()


def test_the_status_page_has_no_models_where_none_are_known(db):
    catalogue.keeper.forget()
    assert "Models" not in Client().get("/status").content.decode().split("<main")[-1]
