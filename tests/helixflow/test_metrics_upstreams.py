"""What Prometheus sees of deployments."""

import pytest

from helixflow.lib import metrics
from helixflow.server import metrics as endpoint
from inference import catalogue
from tests.helixflow.test_metrics import Samples, samples, start_over
from tests.inference.routing_world import World, deployment, model

A = (("deployment", "a"), ("model", "model"))
MODEL = ("model", "model")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    start_over(monkeypatch)


@pytest.fixture
def world(monkeypatch) -> World:
    world = World(model(deployment("a"), deployment("b")))
    monkeypatch.setattr(catalogue.keeper, "catalogue", catalogue.Catalogue({"model": world.models[0]}))
    return world


def keep(world: World) -> None:
    world.board.keep({f"id-{name}": ("model", name) for name in "ab"})


def scraped() -> Samples:
    return samples(endpoint.exposition("")[0].decode())


def test_attempts_are_counted_by_how_they_ended_and_latencies_of_those_that_answered(world):
    world.answer("a", 0.2)
    world.begin("a").failed("status 500")
    world.begin("a").limited()
    world.begin("a").left()
    found = scraped()
    for outcome in ("answered", "failed", "limited", "left"):
        assert found["helixflow_upstream_attempts_total", *A, ("outcome", outcome)] == 1
    assert found["helixflow_upstream_latency_seconds_count", *A] == 1
    assert found["helixflow_upstream_latency_seconds_sum", *A] == pytest.approx(0.2)


def test_a_deployment_is_unavailable_until_it_has_answered_again(world):
    world.fail("a")
    world.answer("b", 0.1)
    keep(world)
    name = "helixflow_deployment_available"
    assert (scraped()[name, *A], scraped()[name, ("deployment", "b"), MODEL]) == (0, 1)
    world.now += 400
    keep(world)
    assert scraped()[name, *A] == 0
    world.answer("a", 0.1)
    keep(world)
    assert scraped()[name, *A] == 1


def test_one_that_left_the_catalogue_is_neither_available_nor_not(world, monkeypatch):
    world.fail("a")
    monkeypatch.setattr(catalogue.keeper, "catalogue", catalogue.Catalogue({}))
    found = scraped()
    assert ("helixflow_deployment_available", *A) not in found
    assert found["helixflow_upstream_attempts_total", *A, ("outcome", "failed")] == 5


def test_retries_and_those_that_were_not_allowed_are_counted(world):
    route = world.route()
    while (found := route.next()) is not None:
        route.begin(found).failed("status 500")
    for _ in range(100):
        world.board.budget("model").attempt_failed()
    route = world.route()
    while (found := route.next()) is not None:
        route.begin(found).failed("status 500")
    assert scraped()["helixflow_upstream_retries_total", MODEL] == 1
    assert scraped()["helixflow_retry_budget_exhausted_total", MODEL] == 1


def test_processes_add_up_and_one_that_is_replaced_no_longer_cuts_off(world, monkeypatch, tmp_path):
    for slot in (0, 1):
        start_over(monkeypatch)
        metrics.share(tmp_path / f"{slot}{metrics.SUFFIX}")
        upstream = metrics.upstream("model", "a")
        upstream.failed += 2
        upstream.cut_off = int(slot == 1)
        metrics.retries("model").made += 1
        metrics.fold()
    found = scraped()
    assert found["helixflow_upstream_attempts_total", *A, ("outcome", "failed")] == 4
    assert found["helixflow_upstream_retries_total", MODEL] == 2
    assert found["helixflow_deployment_available", *A] == 0
    start_over(monkeypatch)
    metrics.share(tmp_path / f"1{metrics.SUFFIX}")
    found = scraped()
    assert found["helixflow_upstream_attempts_total", *A, ("outcome", "failed")] == 4
    assert found["helixflow_deployment_available", *A] == 1


def test_names_are_bounded(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_NAMES", 2)
    for number in range(5):
        metrics.upstream("model", f"d{number}").failed += 1
        metrics.retries(f"m{number}").made += 1
    counts = metrics.total()
    assert set(counts.upstreams) == {("model", "d0"), ("model", "d1"), ("other", "other")}
    assert counts.upstreams["other", "other"].failed == 3
    assert set(counts.retries) == {"m0", "m1", "other"}
