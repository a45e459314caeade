"""How each deployment has been doing, as this process and the others see it."""

from dataclasses import dataclass
from typing import Protocol


class Trial(Protocol):
    """One attempt at a deployment. The first of ``answered``, ``failed``, ``limited`` and ``left`` counts."""

    def first_token(self) -> None:
        """Something was produced: the time since the beginning is the deployment's latency. Later calls do nothing."""

    def answered(self) -> None: ...

    def failed(self, reason: str, retry_after_s: float | None = None) -> None: ...

    def limited(self, retry_after_s: float | None = None) -> None:
        """It is well, but wants to be left alone for a while (429)."""

    def left(self) -> None:
        """It ended through no doing of the deployment's."""


@dataclass(slots=True)
class _Nothing:
    def first_token(self) -> None: ...

    def answered(self) -> None: ...

    def failed(self, reason: str, retry_after_s: float | None = None) -> None: ...

    def limited(self, retry_after_s: float | None = None) -> None: ...

    def left(self) -> None: ...


class Board:
    """What this process knows of all deployments, by id."""

    def begin(self, deployment_id: str, *, stream: bool) -> Trial:
        return _Nothing()


board = Board()
