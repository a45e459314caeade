"""A model's page: who answers, who stands in, what it costs."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from inference import health_shared
from inference.breaker import State
from inference.health_shared import DeploymentHealth
from inference.models import Deployment, Fallback, Model
from tests.inference.admin.pages import change_url

LIST = "/admin/inference/model/"


def price(name: str, amount: str, *, days: int) -> None:
    starts_at = timezone.now() + timedelta(days=days)
    Price.objects.create(model=name, input=Decimal(amount), output=Decimal(2) * Decimal(amount), starts_at=starts_at)


def save(admin, model: Model, fallbacks: list[Model], **fields: str):
    first = model.deployments.get()
    row = {"id": str(first.pk), "name": first.name, "provider": str(first.provider_id), "upstream_model": "x"}
    row |= {"model": str(model.pk), "priority": "0", "weight": "1", "enabled": "on"}
    body = {
        "name": model.name,
        "owned_by": "openai",
        "enabled": "on",
        "routing": "latency",
        "created_at_0": "2026-01-01",
        "created_at_1": "00:00:00",
        "deployments-TOTAL_FORMS": "1",
        "deployments-INITIAL_FORMS": "1",
        "fallbacks-TOTAL_FORMS": str(len(fallbacks)),
        "fallbacks-INITIAL_FORMS": "0",
    }
    body |= {f"deployments-0-{name}": value for name, value in (row | fields).items()}
    for n, fallback in enumerate(fallbacks):
        body |= {f"fallbacks-{n}-to": str(fallback.pk), f"fallbacks-{n}-position": str(n)}
        body |= {f"fallbacks-{n}-model": str(model.pk)}
    return admin.post(change_url(model), body, follow=True)


def test_the_price_in_force_is_beside_each(admin, model):
    Model.objects.create(name="unpriced", owned_by="x")
    price("gpt-4", "1", days=-9)
    price("gpt-4", "2.50", days=-1)
    price("gpt-4", "9", days=1)
    page = admin.get(LIST).content.decode()
    assert "2.5 in, 5 out" in page
    assert page.count("none, so it is free") == 1
    page = admin.get(change_url(model)).content.decode()
    assert "2.5 in, 5 out (USD per million tokens)" in page
    assert reverse("admin:billing_price_add") + "?model=gpt-4" in page


def test_the_list_sums_up_how_each_is_doing(admin, model, monkeypatch):
    one = model.deployments.get()
    other = Deployment.objects.create(name="d2", model=model, provider=one.provider, upstream_model="x")
    told: dict[str, DeploymentHealth] = {}
    monkeypatch.setattr(health_shared, "shared", lambda: told)
    assert "healthy" in admin.get(LIST).content.decode()
    told[one.id.hex] = DeploymentHealth(State.OPEN)
    assert "degraded: 1 of 2 cut off" in admin.get(LIST).content.decode()
    told[other.id.hex] = DeploymentHealth(State.LIMITED)
    assert "unavailable: 2 of 2 cut off" in admin.get(LIST).content.decode()
    Deployment.objects.update(enabled=False)
    assert "no deployment" in admin.get(LIST).content.decode()


def test_the_list_counts_those_it_is_offered_to(admin, model, organization):
    assert "everyone" in admin.get(LIST).content.decode()
    model.only_for.add(organization)
    assert ">1 organization<" in admin.get(LIST).content.decode()


def test_models_to_choose_from_come_by_their_names(admin, model):
    for name in ("c", "a", "b"):
        Model.objects.create(name=name, owned_by="x")
    field = {"app_label": "inference", "model_name": "deployment", "field_name": "model"}
    found = admin.get(reverse("admin:autocomplete"), field).json()["results"]
    assert [each["text"] for each in found] == ["a", "b", "c", "gpt-4"]


def test_fallbacks_are_kept_in_their_order(admin, model):
    others = [Model.objects.create(name=name, owned_by="x") for name in ("b", "a")]
    assert "errorlist" not in save(admin, model, others).content.decode()
    assert [fallback.to.name for fallback in model.fallbacks.all()] == ["b", "a"]
    model.refresh_from_db()
    assert model.routing == "latency"


def test_a_model_does_not_stand_in_for_itself(admin, model):
    page = save(admin, model, [model]).content.decode()
    assert "A model can&#x27;t stand in for itself." in page
    assert not Fallback.objects.exists()


def test_no_fallback_twice(admin, model):
    other = Model.objects.create(name="b", owned_by="x")
    assert "errorlist" in save(admin, model, [other, other]).content.decode()
    assert not Fallback.objects.exists()


def test_two_models_may_stand_in_for_each_other(admin, model):
    other = Model.objects.create(name="b", owned_by="x")
    Fallback.objects.create(model=other, to=model)
    page = save(admin, model, [other]).content.decode()
    assert "errorlist" not in page
    assert model.fallbacks.get().to == other


def test_disabling_the_last_deployment_inline_warns(admin, model):
    page = save(admin, model, [], enabled="").content.decode()
    assert "No enabled deployment of an enabled provider answers for: gpt-4." in page


@pytest.mark.parametrize(("field", "value"), [("weight", "0"), ("weight", "-1"), ("priority", "-1"), ("name", "a b")])
def test_bad_values_are_refused(admin, model, field, value):
    assert "errorlist" in save(admin, model, [], **{field: value}).content.decode()
