import pytest

from billing.models import Plan
from billing.seeds import seed_plans

pytestmark = pytest.mark.django_db


def test_it_makes_the_three_plans():
    seed_plans()
    limits = {plan.slug: (plan.requests_per_minute, plan.requests_per_month) for plan in Plan.objects.all()}
    assert limits == {"starter": (100, 10_000), "pro": (1_000, 100_000), "enterprise": (None, None)}


def test_it_keeps_what_an_operator_changed():
    seed_plans()
    Plan.objects.filter(slug="pro").update(requests_per_minute=5)
    seed_plans()
    assert Plan.objects.get(slug="pro").requests_per_minute == 5
    assert Plan.objects.count() == 3
