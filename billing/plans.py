"""The plan an organization is on and the limits that follow."""

from dataclasses import dataclass
from typing import Final

from django.db.models import CharField, Expression, Subquery, Value
from django.db.models.functions import Coalesce

from accounts.models import Organization
from billing.models import STARTER, STARTER_PER_MINUTE, STARTER_PER_MONTH, Plan

_FALLBACKS: Final = {
    "requests_per_minute": STARTER_PER_MINUTE,
    "requests_per_month": STARTER_PER_MONTH,
}


@dataclass(frozen=True, slots=True)
class PlanInForce:
    name: str
    requests_per_minute: int
    requests_per_month: int


def limit_expressions(organization: str = "") -> dict[str, Expression]:
    """Annotations with the limits in force: the subscription's own numbers, else its plan's, else Starter's.

    ``organization`` is the path to it from the rows that are annotated, such as ``organization__``.
    """
    starter = Plan.objects.filter(slug=STARTER)
    return {
        name: Coalesce(
            f"{organization}subscription__{name}",
            f"{organization}subscription__plan__{name}",
            Subquery(starter.values(name)[:1]),
            Value(fallback),
        )
        for name, fallback in _FALLBACKS.items()
    }


def in_force(organization: Organization) -> PlanInForce:
    starter = Subquery(Plan.objects.filter(slug=STARTER).values("name")[:1])
    name = Coalesce("subscription__plan__name", starter, Value("Starter"), output_field=CharField())
    row = Organization.objects.annotate(plan=name, **limit_expressions()).get(id=organization.id)
    return PlanInForce(row.plan, row.requests_per_minute, row.requests_per_month)  # type: ignore[attr-defined]  # annotated
