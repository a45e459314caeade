from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core.cache import cache
from django.urls import reverse
from redis import RedisError

from accounts.models import Organization
from billing.models import Price
from inference import model_uptime
from inference.models import Capability, Model
from tests import factories
from tests.billing.usage_events import usage, write

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _nothing_kept(db):
    cache.delete(model_uptime.CACHE_KEY)


@pytest.fixture
def deploy():
    """A model that somebody answers for: the pages know no others."""

    def deploy(name, **fields):
        factories.deploy("http://127.0.0.1:1/v1", name=f"at-{name.replace('/', '-')}", model=name)
        only_for = fields.pop("only_for", None)
        Model.objects.filter(name=name).update(**fields)
        model = Model.objects.get(name=name)
        if only_for:
            model.only_for.add(only_for)
        factories.reread_catalogue()
        return model

    return deploy


@pytest.fixture
def page(client, member):
    def page(path="/dashboard/models", *, user=member, status=200):
        client.force_login(user)
        answer = client.get(path)
        assert answer.status_code == status
        return answer.content.decode()

    return page


def names(html):
    return [part.partition('"')[0] for part in html.split('data-copy="')[1:]]


def test_it_lists_what_is_offered_and_nothing_else(page, deploy, organization, outsider):
    deploy("open-to-all")
    deploy("just-for-us", only_for=organization)
    deploy("switched-off", enabled=False)
    Model.objects.create(name="orphan", owned_by="openai")
    assert names(page()) == ["just-for-us", "open-to-all"]
    assert names(page(user=outsider)) == ["open-to-all"]


def test_a_model_of_others_is_not_found(page, deploy, organization, outsider):
    deploy("lab/just-for-us", only_for=organization)
    assert "lab/just-for-us" in page("/dashboard/models/lab/just-for-us")
    page("/dashboard/models/lab/just-for-us", user=outsider, status=404)
    page("/dashboard/models/lab/nothing", status=404)


@pytest.mark.parametrize("path", ["/dashboard/models", "/dashboard/models/any"])
def test_strangers_log_in_first(client, path):
    assert client.get(path)["Location"].startswith("/login")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=mini", ["gpt-mini"]),
        ("q=ANTHROPIC+quick", ["haiku"]),
        ("q=nothing", []),
        ("can=embeddings", ["embed"]),
        ("can=chat&q=i", ["gpt-mini", "haiku"]),
        ("can=flying", []),
    ],
)
def test_models_are_found_by_words_and_capability(page, deploy, query, found):
    deploy("gpt-mini", capabilities=[Capability.CHAT, Capability.TOOLS])
    deploy("haiku", owned_by="anthropic", description="Quick.", capabilities=[Capability.CHAT])
    deploy("embed", capabilities=[Capability.EMBEDDINGS])
    assert names(page(f"/dashboard/models?{query}")) == found


def test_a_long_catalogue_is_paged_by_name(page, deploy, monkeypatch):
    monkeypatch.setattr("inference.model_views.PAGE", 2)
    for name in ("a", "b", "c"):
        deploy(name)
    first = page("/dashboard/models?can=chat")
    assert names(first) == ["a", "b"]
    assert "can=chat&amp;after=b" in first
    assert names(page("/dashboard/models?after=b")) == ["c"]


def test_what_a_model_can_do_is_told_by_its_row_or_else_by_its_providers(page, deploy):
    deploy("told", capabilities=[Capability.CHAT, Capability.VISION])
    deploy("untold")
    told, untold = page("/dashboard/models/told"), page("/dashboard/models/untold")
    assert all(f">{label}<" in told for label in ("Chat", "Streaming", "Vision"))
    assert ">Embeddings<" not in told
    assert all(f">{label}<" in untold for label in ("Chat", "Streaming", "Embeddings", "Text completions"))


def test_a_model_shows_its_prices_and_their_history(page, deploy):
    deploy("gpt")
    now = datetime.now(UTC)
    for days, price in ((-9, "4"), (-1, "2.5"), (9, "0.0028")):
        Price.objects.create(model="gpt", starts_at=now + timedelta(days=days), input=Decimal(price), output=Decimal(1))
    html = page("/dashboard/models/gpt")
    assert html.index("0.0028") < html.index("To come") or html.index("To come") < html.index("0.0028")
    assert [html.count(text) for text in ("In force", "To come", "4.00", "0.0028")] == [1, 1, 3, 3]
    assert "2.50" in page()


def test_the_snippets_are_for_this_model(page, deploy):
    deploy("lab/gpt", capabilities=[Capability.CHAT])
    deploy("embed", capabilities=[Capability.EMBEDDINGS])
    assert "/dashboard/playground?model=lab/gpt" in page().replace("%2F", "/")
    html = page("/dashboard/models/lab/gpt")
    assert html.count("lab/gpt&quot;") >= 4
    assert reverse("model", args=["lab/gpt"]) == "/dashboard/models/lab/gpt"
    embed = page("/dashboard/models/embed")
    assert "/embeddings" in embed
    assert "playground?" not in embed


@pytest.fixture
def used(organization, outsider):
    """What two organizations' calls of one model came to: five fine, one our fault, two the callers' own."""
    theirs = Organization.objects.exclude(id=organization.id).get()
    calls = [(organization, "")] * 3 + [(theirs, "")] * 2
    calls += [(theirs, "timeout"), (organization, "invalid_request"), (organization, "client_disconnected")]
    write(*[usage(organization_id=each.id, model="gpt", error_code=code, at=NOON) for each, code in calls])


@time_machine.travel(NOON + timedelta(hours=2), tick=False)
def test_uptime_is_counted_over_everybody_without_the_callers_own_errors(used):
    found = model_uptime.all_models()["gpt"]
    assert found.uptime == pytest.approx(5 / 6)
    assert [hour.uptime is None for hour in found.hours] == [True] * 21 + [False] + [True] * 2
    assert found.text == "83.3%"
    assert found.state == "down"


@time_machine.travel(NOON + timedelta(hours=25), tick=False)
def test_what_is_older_than_a_day_counts_no_more(used):
    assert model_uptime.all_models() == {}
    assert (model_uptime.unknown().text, model_uptime.unknown().state) == ("", "unknown")


@time_machine.travel(NOON, tick=False)
def test_pages_add_up_once_and_do_without_a_cache(used, page, deploy, monkeypatch, django_assert_max_num_queries):
    deploy("gpt")
    assert "83.3%" in page()
    with django_assert_max_num_queries(12):
        assert "83.3%" in page("/dashboard/models/gpt")

    def away(key):
        raise RedisError

    monkeypatch.setattr(cache, "get", away)
    assert "No calls" in page()


@pytest.mark.parametrize(
    ("uptime", "text", "state"), [(1.0, "100%", "ok"), (0.9996, "99.9%", "ok"), (0.96, "96.0%", "degraded")]
)
def test_a_share_is_never_rounded_up(uptime, text, state):
    assert (model_uptime.shown(uptime), model_uptime.state_of(uptime)) == (text, state)
