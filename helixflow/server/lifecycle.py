"""Where this process stands: starting, ready or draining. Told by `/readyz`; moved by the lifespan and the server."""

from typing import Literal

Phase = Literal["starting", "ready", "draining"]

_phase: Phase = "ready"  # servers without a lifespan (runserver, the test client) have nothing to wait for


def phase() -> Phase:
    return _phase


def enter(new: Phase) -> None:
    global _phase  # noqa: PLW0603  # one process has one phase
    _phase = new
