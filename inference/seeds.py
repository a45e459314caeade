"""The catalogue an installation starts with (contract §12): the embedded model, and whatever the environment connects.

Seeded rows are known by ids made from their names, so a provider or deployment that an operator made under the same
name is never touched. Of seeded rows, ``enabled``, priorities, weights and descriptions are the operator's; what
follows the environment (addresses, keys, which providers take part) is brought up to date at every start.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from billing.seeds import FREE, exchange_price, seed_prices
from helixflow.lib import crypto
from inference.catalogue import announce_change
from inference.models import Deployment, Model, Provider
from inference.seed_models import EXAMPLES, HOMES, MODELS, SMOLLM2, Home, Seed

NAMESPACE: Final = uuid.UUID("5f1d2c5e-6f0b-5c7e-9d0c-5b1c8f2b7a43")
EMBEDDED: Final = "embedded"


@dataclass(frozen=True)
class Embedded:
    """Where the embedded model answers."""

    base_url: str
    api_key: str


@dataclass(frozen=True)
class Access:
    """What the environment says of a provider. Without a key there is no account with it."""

    key: str = ""
    base_url: str = ""
    region: str = ""


def seed_catalogue(*, embedded: Embedded | None, accesses: Mapping[str, Access]) -> None:
    """Idempotent. ``accesses`` by the names of ``HOMES``; ``embedded`` None: there is no such model, its rows go."""
    for name, home in HOMES.items():
        _seed_provider(name, home, accesses.get(name, Access()))
    seed_embedded(embedded)
    announce_change()


def _seed_provider(name: str, home: Home, access: Access) -> None:
    """Without a key the seeded provider is switched off, not removed: its deployments hold the operator's choices."""
    if not access.key:
        Provider.objects.filter(id=row_id("provider", name)).update(enabled=False, sealed_credential="")
        return
    provider = _provider(name)
    if provider is None:
        return
    provider.kind = home.kind
    provider.preset = home.preset
    # An address that somebody entered is not the one that the environment's key is for.
    moved = bool(provider.base_url) and not access.base_url
    provider.base_url = access.base_url or provider.base_url
    provider.region = access.region or provider.region
    if not provider.sealed_credential:  # new, or switched off above: one that an operator switched off has its key
        provider.enabled = True
    if not moved:
        _keep_key(provider, access.key)
    provider.save()
    served = [seed for seed in MODELS if name in seed.at]
    for seed in served:
        _deploy(f"{name}/{seed.name}", _model(seed), provider, upstream_model=seed.at[name])
    seed_prices({seed.name: seed.price for seed in served if seed.price is not None})


def seed_embedded(embedded: Embedded | None) -> None:
    """The port can change between starts, so the address follows."""
    if embedded is None:
        Provider.objects.filter(id=row_id("provider", EMBEDDED)).delete()
    else:
        provider = _provider(EMBEDDED)
        if provider is None:
            return
        provider.base_url = embedded.base_url
        provider.preset = "llama.cpp"
        provider.stream_always = True  # llama.cpp stops for a client that leaves only while it streams
        _keep_key(provider, embedded.api_key)
        provider.save()
        _deploy(f"{EMBEDDED}/{SMOLLM2.name}", _model(SMOLLM2), provider, upstream_model=SMOLLM2.name)
    for seed in MODELS:
        if seed.name in EXAMPLES:
            _stand_in(seed, None if embedded is None else provider)


def _stand_in(seed: Seed, provider: Provider | None) -> None:
    """The embedded model answers to ``seed``'s name for as long as no real deployment does; its length then counts, and
    it costs nothing."""
    name = f"{EMBEDDED}/{SMOLLM2.name}"
    real = Deployment.objects.filter(model__name=seed.name, enabled=True, provider__enabled=True)
    if provider is None or real.exclude(provider=provider).exists():
        Deployment.objects.filter(id=row_id("deployment", f"{seed.name}:{name}")).delete()
        _change_length(seed, old=SMOLLM2.context_length, new=seed.context_length)
        if seed.price is not None:
            exchange_price(seed.name, old=FREE, new=seed.price)
    else:
        _deploy(name, _model(seed), provider, upstream_model=SMOLLM2.name)
        _change_length(seed, old=seed.context_length, new=SMOLLM2.context_length)
        if seed.price is not None:
            exchange_price(seed.name, old=seed.price, new=FREE)


def _change_length(seed: Seed, *, old: int, new: int) -> None:
    Model.objects.filter(id=row_id("model", seed.name), context_length=old).update(context_length=new)


def _provider(name: str) -> Provider | None:
    """The seeded provider; None where an operator has one of that name."""
    provider, _ = Provider.objects.get_or_create(name=name, defaults={"id": row_id("provider", name)})
    return provider if provider.id == row_id("provider", name) else None


def _model(seed: Seed) -> Model:
    model, is_new = Model.objects.get_or_create(
        name=seed.name,
        defaults={
            "id": row_id("model", seed.name),
            "owned_by": seed.owned_by,
            "created_at": datetime.fromtimestamp(seed.created, UTC),
            "context_length": seed.context_length,
            "description": seed.description,
            "capabilities": seed.capabilities,
        },
    )
    if not is_new and not model.capabilities and model.id == row_id("model", seed.name):
        model.capabilities = seed.capabilities  # seeded before there were any
        model.save(update_fields=["capabilities"])
    return model


def _deploy(name: str, model: Model, provider: Provider, *, upstream_model: str) -> None:
    Deployment.objects.get_or_create(
        name=name,
        model=model,
        defaults={
            "id": row_id("deployment", f"{model.name}:{name}"),
            "provider": provider,
            "upstream_model": upstream_model,
        },
    )


def _keep_key(provider: Provider, api_key: str) -> None:
    """Sealing is different each time, so only a key that has changed is sealed anew."""
    try:
        known = provider.credential
    except crypto.Undecryptable:
        known = ""
    if known != api_key:
        provider.credential = api_key


def row_id(kind: str, name: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, f"{kind}:{name}")
