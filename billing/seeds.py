"""The three plans (contract §5). Rows that are there stay as they are: they are the operator's."""

from typing import Final

from billing.models import STARTER, Plan

PLANS: Final = (
    Plan(slug=STARTER, name="Starter", requests_per_minute=100, requests_per_month=10_000),
    Plan(slug="pro", name="Pro", requests_per_minute=1_000, requests_per_month=100_000),
    Plan(slug="enterprise", name="Enterprise"),  # limits are set per organization
)


def seed_plans() -> None:
    Plan.objects.bulk_create(PLANS, ignore_conflicts=True)
