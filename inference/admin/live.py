"""How deployments are doing now, beside their rows in the admin: brought up to date every few seconds."""

from collections.abc import Iterable, Mapping
from typing import Final

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from inference.breaker import State
from inference.health_shared import DeploymentHealth, worst
from inference.models import Deployment

WORDS: Final = {
    State.CLOSED: "healthy",
    State.OPEN: "cut off",
    State.HALF_OPEN: "being tried",
    State.LIMITED: "limited",
}


def cell(
    deployment: Deployment, health: DeploymentHealth | None, *, can_change: bool, again: bool = False
) -> SafeString:
    """``again``: to take the place of the one that the page has."""
    context = {
        "deployment": deployment,
        "asked": deployment.enabled and deployment.provider.enabled,
        "health": health,
        "words": WORDS[health.state] if health else "",
    }
    return render_to_string("admin/inference/_live.html", context | {"can_change": can_change, "again": again})


def summary(deployments: Iterable[Deployment], healths: Mapping[str, DeploymentHealth]) -> str:
    """Of a model, by its deployments that may be asked."""
    states = [healths.get(each.id.hex, DeploymentHealth()).state for each in deployments]
    if not states:
        return "no deployment"
    away = sum(state in {State.OPEN, State.LIMITED} for state in states)
    return f"{worst(states)}: {away} of {len(states)} cut off" if away else worst(states)
