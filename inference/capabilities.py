"""What people are told that a model can do."""

from typing import Final

from inference.catalogue import Model
from inference.models import Capability
from inference.providers.adapter import Operation

_BY_OPERATION: Final = {
    Operation.CHAT: Capability.CHAT,
    Operation.COMPLETION: Capability.COMPLETIONS,
    Operation.EMBEDDING: Capability.EMBEDDINGS,
}


def of(model: Model) -> tuple[Capability, ...]:
    """What its row says; where that says nothing, what the kinds of its providers do. Who chats here, streams."""
    found = set(model.capabilities)
    if not found:
        operations = {operation for each in model.deployments for operation in each.adapter.operations}
        found = {_BY_OPERATION[operation] for operation in operations}
    if Capability.CHAT in found:
        found.add(Capability.STREAMING)
    return tuple(each for each in Capability if each in found)


def chats(model: Model) -> bool:
    return Capability.CHAT in of(model)
