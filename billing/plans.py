"""The plan an organization is on and the limits that follow."""

from dataclasses import dataclass
from typing import Final

from django.db.models import CharField, Expression, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from accounts.models import Organization
from billing import months
from billing.models import STARTER, STARTER_PER_MINUTE, STARTER_PER_MONTH, Plan
from billing.plan_models import QuotaGrant
from helixflow.lib import clock

_FALLBACKS: Final = {
    "requests_per_minute": STARTER_PER_MINUTE,
    "requests_per_month": STARTER_PER_MONTH,
}


@dataclass(frozen=True, slots=True)
class PlanInForce:
    name: str
    requests_per_minute: int
    requests_per_month: int


def limit_expressions(*, month: int | None = None) -> dict[str, Expression]:
    """Annotations of organizations with the limits in force in ``month``, else in this one: what was agreed, and for
    the month what was granted on top.
    """
    day = months.first_day(month or months.of(clock.now().timestamp()))
    granted = QuotaGrant.objects.filter(organization=OuterRef("pk"), month=day, revoked_at=None).order_by()
    total = granted.values("organization").annotate(total=Sum("units")).values("total")
    agreed = agreed_expressions()
    return agreed | {"requests_per_month": agreed["requests_per_month"] + Coalesce(Subquery(total), 0)}


def agreed_expressions(organization: str = "") -> dict[str, Expression]:
    """Annotations with the subscription's own numbers, else its plan's, else Starter's; no grants.

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
