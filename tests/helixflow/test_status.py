"""The status page: what the probe finds, what is kept of it, and what people, programs and feed readers are told."""

import datetime as dt
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest
import time_machine
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from helixflow.lib import redis
from helixflow.models import Impact, Incident, IncidentUpdate, State, StatusDay
from helixflow.server import health
from helixflow.status import components, history, probing
from helixflow.status.components import Component, Found
from inference import catalogue
from inference.breaker import State as BreakerState
from inference.health_shared import DeploymentHealth
from inference.models import Deployment, Model, Provider
from tests import factories
from tests.helixflow.serving import Served

ATOM = "{http://www.w3.org/2005/Atom}"
NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch, db: None) -> Iterator[None]:
    async def services(*, wait_s: float) -> dict[str, str]:
        return {"database": "healthy", "redis": "healthy"}

    monkeypatch.setattr(health.services, "status", services)
    monkeypatch.setattr(catalogue.keeper, "catalogue", None)
    redis.sync_client().delete(probing.WAITING)
    history.keeper.forget()
    yield
    history.keeper.forget()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """One round of components that do as they are told: a state, or an error to raise."""

    def run(**does: State | Exception) -> None:
        def check(what: State | Exception) -> Callable[[], Found]:
            def answer() -> Found:
                if isinstance(what, Exception):
                    raise what
                return Found(what)

            return answer

        rows = [Component(key, key.title(), "", check(what)) for key, what in does.items()]
        monkeypatch.setattr(probing, "COMPONENTS", rows)
        monkeypatch.setattr(probing, "models", lambda _: {})
        probing.run()
        history.keeper.forget()

    return run


def day(component: str, back: int = 0, **counts: int) -> StatusDay:
    """A row of ``back`` days ago, with a hundred checks."""
    now = timezone.now() - dt.timedelta(days=back)
    return StatusDay.objects.create(
        component=component, day=now.date(), state=State.OPERATIONAL, checked_at=now, **{"checks": 100} | counts
    )


def told(client: Client) -> dict[str, dict[str, object]]:
    return {each["id"]: each for each in client.get("/status.json").json()["components"]}


def incident(title: str = "Slow answers", *, hours_ago: float = 1, **fields: object) -> Incident:
    begins = timezone.now() - dt.timedelta(hours=hours_ago)
    return Incident.objects.create(title=title, starts_at=begins, **fields)


# What the probe finds


def test_what_was_found_is_added_to_the_day(probe: Callable[..., None]) -> None:
    with time_machine.travel(NOON, tick=False):
        probe(api=State.OPERATIONAL)
        probe(api=State.DEGRADED)
        probe(api=RuntimeError("no route"))
    with time_machine.travel(NOON + dt.timedelta(days=1), tick=False):
        probe(api=State.OPERATIONAL)
    first, second = StatusDay.objects.order_by("day")
    assert (first.checks, first.degraded, first.down) == (3, 1, 1)
    assert (first.state, first.note, first.checked_at) == (State.DOWN, "RuntimeError", NOON)
    assert (second.checks, second.down, second.state) == (1, 0, State.OPERATIONAL)


def test_one_that_raises_does_not_keep_the_others_from_being_asked(probe: Callable[..., None]) -> None:
    probe(api=ValueError("?"), database=State.OPERATIONAL)
    assert dict(StatusDay.objects.values_list("component", "state")) == {
        "api": State.DOWN,
        "database": State.OPERATIONAL,
    }


def test_what_is_found_while_the_database_is_away_is_written_when_it_is_back(
    probe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(findings: object) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as without:
        without.setattr(probing, "_write", away)
        # The connection is the test's own, with all it has written.
        without.setattr("helixflow.status.probing.connection.close", lambda: None)
        with time_machine.travel(NOON, tick=False):
            probe(webhooks=State.DOWN)
            probe(webhooks=State.DOWN)
    assert not StatusDay.objects.exists()
    with time_machine.travel(NOON + dt.timedelta(minutes=2), tick=False):
        probe(webhooks=State.OPERATIONAL)
        probe(webhooks=State.OPERATIONAL)
    row = StatusDay.objects.get()
    assert (row.checks, row.down, row.state) == (4, 2, State.OPERATIONAL)


def test_a_database_that_is_down_is_asked_nothing_else(
    probe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs would keep the worker, and nothing be told of all the time that it hung."""
    monkeypatch.setattr(probing, "_write", lambda _: pytest.fail("asked to write"))
    monkeypatch.setattr(catalogue, "current", lambda: pytest.fail("asked for the models"))
    probe(database=State.DOWN, api=State.OPERATIONAL)
    assert [each.component for each in probing._waiting()] == ["database", "api"]


def test_findings_that_cannot_be_read_keep_no_others_back(probe: Callable[..., None]) -> None:
    redis.sync_client().rpush(probing.WAITING, b'{"of": "another version"}')
    probe(database=State.OPERATIONAL)
    assert StatusDay.objects.get().checks == 1
    assert probing._waiting() == []


def test_the_real_checks_of_a_running_platform_find_it_well(site: Served, settings: Settings) -> None:
    settings.STATUS_URL = f"http://127.0.0.1:{site.port}"
    found = {each.key: each.check() for each in components.COMPONENTS}
    assert {key: (each.state, each.note) for key, each in found.items() if each.state is State.DOWN} == {}


def test_an_api_that_nobody_reaches_is_down(probe: Callable[..., None], settings: Settings) -> None:
    settings.STATUS_URL = "http://127.0.0.1:1"
    api = next(each for each in components.COMPONENTS if each.key == "api")
    assert probing._ask(api).state is State.DOWN


def test_models_are_as_the_gateways_meet_them_and_only_those_offered_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider.objects.create(name="one", kind="openai", base_url="http://127.0.0.1:1/v1")
    rows = [Model.objects.create(name=name, owned_by="us") for name in ("everybodys", "somebodys")]
    rows[1].only_for.add(factories.organization(owner=factories.user("owner")))
    deployment, _ = (
        Deployment.objects.create(name=f"one/{row.name}", model=row, provider=provider, upstream_model="m")
        for row in rows
    )
    down = {deployment.id.hex: DeploymentHealth(BreakerState.OPEN)}
    monkeypatch.setattr("inference.model_status.known", lambda: down)
    found = components.models(catalogue.read())
    assert found["everybodys"] is State.DOWN
    assert "somebodys" not in found


def test_old_days_are_dropped() -> None:
    day("api", back=200)
    kept = day("api", back=30)
    assert probing.drop_old() == 1
    assert StatusDay.objects.get() == kept


# What people and programs are told


def test_the_page_with_nothing_measured_yet_says_so(client: Client) -> None:
    html = client.get("/status").content.decode()
    assert "the rest is being measured" in html
    assert "not measured yet" in html
    assert "None so far" in html


def test_all_is_well(client: Client) -> None:
    for each in components.COMPONENTS:
        day(each.key)
    assert "Everything works" in client.get("/status").content.decode()
    answer = client.get("/status.json")
    assert answer.json()["status"] == "operational"
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_days_are_told_with_their_share(client: Client) -> None:
    day("api", back=3, down=10)
    day("api", back=2, degraded=5)
    day("api", back=1, checks=1440, down=1)
    day("api")
    api = told(client)["api"]
    states = [each["status"] for each in api["days"][-5:]]  # type: ignore[index]  # a list
    assert states == [None, "down", "degraded", "degraded", "operational"]
    assert len(api["days"]) == history.DAYS  # type: ignore[arg-type]  # a list
    assert api["uptime"] == pytest.approx((0.9 + 1 + 1439 / 1440 + 1) / 4)
    assert "97.48% up in 4 days" in client.get("/status").content.decode()


def test_a_minute_of_trouble_is_never_rounded_to_none() -> None:
    assert history.share(1439 / 1440) == "99.93%"
    assert history.share(0.99999) == "99.99%"
    assert history.share(1.0) == "100%"


def test_what_no_probe_has_seen_for_minutes_is_unknown(client: Client) -> None:
    row = day("webhooks")
    StatusDay.objects.filter(pk=row.pk).update(checked_at=timezone.now() - dt.timedelta(minutes=6))
    assert told(client)["webhooks"]["status"] == "unknown"


def test_a_component_that_is_down_is_the_verdict(client: Client) -> None:
    for each in components.COMPONENTS:
        day(each.key)
    StatusDay.objects.filter(component="webhooks").update(state=State.DOWN)
    assert client.get("/status.json").json()["status"] == "down"
    assert "working</h1>" in client.get("/status").content.decode()


def test_a_model_that_is_gone_from_the_catalogue_leaves_the_page(client: Client) -> None:
    day("model:here")
    row = day("model:gone")
    StatusDay.objects.filter(pk=row.pk).update(checked_at=timezone.now() - dt.timedelta(days=2))
    assert "model:here" in told(client)
    assert "model:gone" not in told(client)


def test_a_model_that_is_now_for_some_alone_is_named_no_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("everybodys", "somebodys"):
        day(f"model:{name}")
        model = Model.objects.create(name=name, owned_by="us")
    assert {"model:everybodys", "model:somebodys"} <= told(client).keys()
    model.only_for.add(factories.organization(owner=factories.user("owner")))
    monkeypatch.setattr(catalogue.keeper, "catalogue", catalogue.read())
    assert "model:somebodys" not in told(client)
    assert "somebodys" not in client.get("/status").content.decode()


def test_with_the_database_away_the_last_reading_stays(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    day("api", down=50)
    assert told(client)["api"]["uptime"] == 0.5

    def away() -> None:
        raise OperationalError

    monkeypatch.setattr(history, "read", away)
    monkeypatch.setattr("helixflow.status.history.connection.close", lambda: None)
    monkeypatch.setattr(history, "FRESH_S", -1.0)
    assert told(client)["api"]["uptime"] == 0.5
    history.keeper.forget()
    assert client.get("/status").status_code == 200
    assert told(client)["api"]["uptime"] is None


def test_the_page_costs_few_queries_and_none_at_once_again(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    IncidentUpdate.objects.create(incident=incident(), text="We know.")
    with django_assert_num_queries(3):
        client.get("/status")
    client.cookies["helixflow_session"] = "some-session-that-would-be-looked-up"
    with django_assert_num_queries(0):
        client.get("/status")


# Incidents


def test_incidents_are_told_in_their_places(client: Client) -> None:
    open_one = incident("Slow answers", impact=Impact.MAJOR, components=["api"])
    IncidentUpdate.objects.create(incident=open_one, text="A provider is slow.")
    incident("Moving house", impact=Impact.MAINTENANCE, hours_ago=-24)
    incident("Old trouble", hours_ago=100, ends_at=timezone.now())
    html = client.get("/status").content.decode()
    assert html.index("Slow answers") < html.index("Planned maintenance") < html.index("Past incidents")
    assert html.index("Past incidents") < html.index("Old trouble")
    found = client.get("/status.json").json()
    assert found["status"] == "down"
    assert [each["title"] for each in found["incidents"]] == ["Slow answers", "Moving house"]
    assert found["incidents"][0]["updates"][0]["text"] == "A provider is slow."


def test_an_incident_has_a_page_and_others_have_none(client: Client) -> None:
    found = incident("<script>alert(1)</script>", components=["api", "model:gpt-4"])
    html = client.get(f"/status/incidents/{found.public_id}").content.decode()
    assert "<script>alert" not in html
    assert "gpt-4" in html
    for wrong in ("inc_nothing", f"inc_{'0' * 22}", "nothing"):
        assert client.get(f"/status/incidents/{wrong}").status_code == 404


def test_the_feed_is_atom_and_changes_with_each_word(client: Client) -> None:
    found = incident("Slow & late")
    first = client.get("/status/feed")
    assert first["Content-Type"].startswith("application/atom+xml")
    entry = ET.fromstring(first.content).find(f"{ATOM}entry")
    assert entry is not None
    assert entry.findtext(f"{ATOM}title") == "Slow & late"
    later = timezone.now() + dt.timedelta(hours=1)
    IncidentUpdate.objects.create(incident=found, text="Mended <b>now</b>.", phase="resolved", told_at=later)
    history.keeper.forget()
    changed = ET.fromstring(client.get("/status/feed").content).find(f"{ATOM}entry")
    assert changed is not None
    assert changed.findtext(f"{ATOM}updated") == later.isoformat()
    assert "Mended <b>now</b>." in (changed.findtext(f"{ATOM}summary") or "")


def test_the_feed_holds_whatever_was_pasted_into_an_incident(client: Client) -> None:
    found = incident("Slow\x0banswers <b>")
    IncidentUpdate.objects.create(incident=found, text="a\x1bb ]]> <script>")
    feed = client.get("/status/feed").content.decode()
    assert "Slowanswers &lt;b&gt;" in feed
    assert "ab ]]&gt; &lt;script&gt;" in feed


def test_operators_write_incidents_in_the_admin(admin_client: Client) -> None:
    day("model:gpt-4")
    history.keeper.forget()
    form = {
        "title": "Slow answers",
        "impact": "minor",
        "components": ["api", "model:gpt-4"],
        "starts_at_0": "2026-11-20",
        "starts_at_1": "12:00:00",
        "ends_at_0": "",
        "ends_at_1": "",
        "updates-TOTAL_FORMS": "1",
        "updates-INITIAL_FORMS": "0",
        "updates-0-phase": "identified",
        "updates-0-told_at_0": "2026-11-20",
        "updates-0-told_at_1": "12:05:00",
        "updates-0-text": "A provider is slow.",
    }
    assert admin_client.post("/admin/helixflow/incident/add/", form).status_code == 302
    found = Incident.objects.get()
    assert (found.components, found.updates.get().phase) == (["api", "model:gpt-4"], "identified")
    assert "Slow answers" in admin_client.get("/admin/helixflow/incident/").content.decode()
    refused = admin_client.post(
        "/admin/helixflow/incident/add/", form | {"ends_at_0": "2026-11-19", "ends_at_1": "12:00:00"}
    )
    assert "before it begins" in refused.content.decode()
