"""How the catalogue's models are doing, out of how their deployments are."""

from inference.breaker import State
from inference.catalogue import Model
from inference.health import board
from inference.health_shared import DeploymentHealth, shared, worst


def known() -> dict[str, DeploymentHealth]:
    """By the id of the deployment. Where Redis can't tell: what this process has seen by itself."""
    found = shared()
    if found:
        return found
    now = board.clock()
    return {
        name: DeploymentHealth(standing.breaker.state(now), reason=standing.breaker.reason)
        for name, standing in list(board.standings.items())
    }


def status(model: Model, healths: dict[str, DeploymentHealth]) -> str:
    """Of the model by its own deployments: its fallbacks are other models."""
    return worst(healths[each.id].state if each.id in healths else State.CLOSED for each in model.deployments)
