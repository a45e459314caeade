"""Types of what is sent (``requests``) and of what comes back (``responses``)."""

from typing import TYPE_CHECKING, Any

from helixflow.types.responses import *  # noqa: F403

if TYPE_CHECKING:
    from helixflow.types.requests import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Types of requests are loaded when they are named, as only type checkers need them otherwise."""
    from importlib import import_module

    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("helixflow.types.requests"), name)
