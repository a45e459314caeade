"""The catalogue in memory: every process holds all models and deployments, so that a request needs no SQL for them.

A change sets a new version in Redis (``announce_change``). Each web process looks at it every second and reads
PostgreSQL again if it moved, and every 30 s in any case.
"""

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Final

from django.db import Error as DatabaseError
from django.db import close_old_connections, transaction

from helixflow.lib import crypto, errors, redis
from inference.models import Deployment as DeploymentRow
from inference.models import Model as ModelRow
from inference.models import Provider, Routing
from inference.providers import adapter_for
from inference.providers.adapter import Account, Adapter
from inference.upstream import Deadlines

logger = logging.getLogger(__name__)

VERSION_KEY: Final = "catalogue:version"
CHECK_EVERY_S: Final = 1.0
READ_EVERY_S: Final = 30.0
DEADLINES: Final = Deadlines()  # of deployments that say nothing else


@dataclass(frozen=True, slots=True)
class Deployment:
    """``id`` names it to all processes."""

    id: str
    name: str
    provider: str
    upstream_model: str
    adapter: Adapter
    priority: int = 0
    weight: int = 1
    # Its server stops work for a client that leaves only if the answer is a stream (llama.cpp).
    stream_always: bool = False
    deadlines: Deadlines = DEADLINES


@dataclass(frozen=True, slots=True)
class Model:
    """``created`` in epoch seconds; ``only_for`` None: offered to every organization; ``fallbacks`` are names."""

    name: str
    owned_by: str
    created: int
    only_for: frozenset[uuid.UUID] | None
    deployments: tuple[Deployment, ...]
    least_latency: bool = False
    fallbacks: tuple[str, ...] = ()
    # For people to read
    description: str = ""
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()

    def offered_to(self, organization_id: uuid.UUID) -> bool:
        return self.only_for is None or organization_id in self.only_for


@dataclass(frozen=True, slots=True)
class Catalogue:
    models: dict[str, Model]

    def get(self, name: str, organization_id: uuid.UUID) -> Model:
        """Raises ModelNotFound for a name nobody has and for one not offered to this organization alike."""
        model = self.models.get(name)
        if model is None or not model.offered_to(organization_id):
            raise errors.ModelNotFound(
                f"The model '{name[:200]}' does not exist or is not offered to you.", param="model"
            )
        return model

    def offered_to(self, organization_id: uuid.UUID) -> list[Model]:
        """By name."""
        return sorted(
            (model for model in self.models.values() if model.offered_to(organization_id)), key=lambda model: model.name
        )

    def check_offer(self, name: str, organization_id: uuid.UUID) -> None:
        """Raises ModelNotFound for a model that is there and not offered to this organization."""
        if name in self.models:
            self.get(name, organization_id)

    def fallbacks(self, model: Model, organization_id: uuid.UUID, allowed: frozenset[str] | None) -> list[Model]:
        """Those of its fallbacks that this organization, and a key that ``allowed`` these models, may use."""
        found = [self.models[name] for name in model.fallbacks if name in self.models]
        return [
            each for each in found if each.offered_to(organization_id) and (allowed is None or each.name in allowed)
        ]


def announce_change() -> None:
    """Tell every web process, once the running transaction has committed."""
    transaction.on_commit(_change_version)


def _change_version() -> None:
    try:
        redis.sync_client().set(VERSION_KEY, uuid.uuid4().hex)
    except redis.RedisError:
        logger.warning("catalogue change not announced; web processes see it within %d s", READ_EVERY_S)


def read() -> Catalogue:
    """From PostgreSQL: enabled models with at least one enabled deployment of an enabled provider."""
    deployments: dict[uuid.UUID, list[Deployment]] = {}
    rows = DeploymentRow.objects.filter(enabled=True, provider__enabled=True).select_related("provider")
    for row in rows.order_by("priority", "name"):
        try:
            deployments.setdefault(row.model_id, []).append(_deployment(row))
        except (crypto.Undecryptable, ValueError) as error:
            logger.error("deployment %s is left out: %s", row.name, error)  # noqa: TRY400  # a trace says no more
    models = {}
    rows_of_models = ModelRow.objects.filter(enabled=True, id__in=deployments)
    for model in rows_of_models.prefetch_related("only_for", "fallbacks__to"):
        only_for = frozenset(organization.id for organization in model.only_for.all())
        models[model.name] = Model(
            name=model.name,
            owned_by=model.owned_by,
            created=int(model.created_at.timestamp()),
            only_for=only_for or None,
            deployments=tuple(deployments[model.id]),
            least_latency=model.routing == Routing.LATENCY,
            fallbacks=tuple(fallback.to.name for fallback in model.fallbacks.all()),
            description=model.description,
            context_length=model.context_length,
            capabilities=tuple(model.capabilities),
        )
    return Catalogue(models)


def _deployment(row: DeploymentRow) -> Deployment:
    usual = DEADLINES
    adapter = adapter_for(account_of(row.provider))
    return Deployment(
        id=row.id.hex,
        name=row.name,
        provider=row.provider.name,
        upstream_model=row.upstream_model,
        adapter=adapter,
        priority=row.priority,
        weight=row.weight,
        stream_always=row.provider.stream_always or adapter.stream_always,
        deadlines=Deadlines(
            row.connect_s or usual.connect_s,
            row.first_token_s or usual.first_byte_s,
            row.gap_s or usual.gap_s,
            row.total_s or usual.total_s,
        ),
    )


def account_of(provider: Provider) -> Account:
    """Raises crypto.Undecryptable."""
    return Account(
        kind=provider.kind,
        base_url=provider.base_url,
        credential=provider.credential,
        preset=provider.preset,
        region=provider.region,
        project=provider.project,
        api_version=provider.api_version,
    )


class _Keeper:
    """Holds the catalogue and when it was last looked at. Safe between threads."""

    def __init__(self) -> None:
        self.catalogue: Catalogue | None = None
        self._version: bytes | str | None = None
        self._checked_at = self._read_at = float("-inf")
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Look at the version, and read again if it moved or the last reading is old. Raises django.db.Error.

        Whoever has a catalogue doesn't wait for a thread that is looking already: PostgreSQL may be hung.
        """
        if not self._lock.acquire(blocking=self.catalogue is None):
            return
        try:
            self._look()
        finally:
            self._lock.release()

    def _look(self) -> None:
        now = time.monotonic()
        if self.catalogue is not None and now - self._checked_at < CHECK_EVERY_S:
            return
        self._checked_at = now
        try:
            version = redis.sync_client().get(VERSION_KEY)
        except redis.RedisError:
            version = self._version
        if self.catalogue is None or version != self._version or now - self._read_at > READ_EVERY_S:
            self.catalogue = read()
            self._version = version
            self._read_at = now

    def forget(self) -> None:
        self.catalogue = None


keeper = _Keeper()


def current() -> Catalogue:
    """For Django's threads. Raises django.db.Error if it was never read and PostgreSQL is down."""
    try:
        keeper.refresh()
    except DatabaseError:
        if keeper.catalogue is None:
            raise
        logger.warning("the catalogue could not be read; the one that is known stays")
    if keeper.catalogue is None:
        raise errors.ServiceUnavailable
    return keeper.catalogue


def latest() -> Catalogue:
    """For the event loop: what is there, without looking; ``refresh_in_thread`` keeps it young."""
    if keeper.catalogue is None:
        raise errors.ServiceUnavailable("The model catalogue is being loaded. Try again.")
    return keeper.catalogue


def refresh_in_thread() -> None:
    close_old_connections()
    try:
        keeper.refresh()
    except Exception:  # a keeper that stopped would freeze the catalogue; the next second tries again
        logger.exception("the catalogue could not be read")
