"""The plan an organization is on and the limits that follow, for people to read. The data plane's way: snapshots."""

from dataclasses import dataclass

from accounts.models import Organization
from billing.models import STARTER, STARTER_PER_MINUTE, STARTER_PER_MONTH, Plan, Subscription


@dataclass(frozen=True, slots=True)
class PlanInForce:
    name: str
    requests_per_minute: int
    requests_per_month: int


def in_force(organization: Organization) -> PlanInForce:
    """The subscription's own numbers, else its plan's, else Starter's: as ``billing.snapshots`` reads them."""
    subscription = Subscription.objects.select_related("plan").filter(organization=organization).first()
    starter = Plan.objects.filter(slug=STARTER).first()
    sources = [source for source in (subscription, subscription and subscription.plan, starter) if source]

    def limit(name: str, fallback: int) -> int:
        return next((value for source in sources if (value := getattr(source, name)) is not None), fallback)

    plan = subscription.plan if subscription else starter
    return PlanInForce(
        name=plan.name if plan else "Starter",
        requests_per_minute=limit("requests_per_minute", STARTER_PER_MINUTE),
        requests_per_month=limit("requests_per_month", STARTER_PER_MONTH),
    )
