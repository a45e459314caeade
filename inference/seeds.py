"""The catalogue an installation starts with (contract §12): the embedded model, and OpenAI where its key is given.

Seeded rows are known by ids made from their names, so a provider or deployment that an operator made under the same
name is never touched. Of seeded rows, ``enabled``, priorities, weights and descriptions are the operator's; what
follows the environment (addresses, keys, which providers take part) is brought up to date at every start.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from billing.seeds import ListPrice, seed_prices
from helixflow.lib import crypto
from inference.catalogue import announce_change
from inference.models import Deployment, Model, Provider, ProviderKind

NAMESPACE: Final = uuid.UUID("5f1d2c5e-6f0b-5c7e-9d0c-5b1c8f2b7a43")
EMBEDDED: Final = "embedded"
OPENAI: Final = "openai"
OPENAI_URL: Final = "https://api.openai.com/v1"
# The names the reference's examples use: answered by the embedded model where nothing better is configured.
EXAMPLES: Final = ("gpt-3.5-turbo", "gpt-4")


@dataclass(frozen=True)
class Embedded:
    """Where the embedded model answers."""

    base_url: str
    api_key: str


@dataclass(frozen=True)
class Seed:
    """``created`` in epoch seconds, as its maker published it."""

    name: str
    owned_by: str
    created: int
    context_length: int
    description: str


SMOLLM2: Final = Seed(
    "smollm2-135m-instruct",
    "HuggingFaceTB",
    1730332800,
    8192,
    "A very small model that runs on this machine: for trying things out.",
)
OPENAI_MODELS: Final = (
    Seed("gpt-3.5-turbo", OPENAI, 1677610602, 16_385, "Quick and inexpensive, of an earlier generation."),
    Seed("gpt-4", OPENAI, 1687882411, 8_192, "The first of the GPT-4 family."),
    Seed("gpt-4-turbo", OPENAI, 1712361441, 128_000, "GPT-4 with a long context."),
    Seed("gpt-4o", OPENAI, 1715367049, 128_000, "Text and images, for general use."),
    Seed("gpt-4o-mini", OPENAI, 1721172741, 128_000, "Text and images, small and inexpensive."),
    Seed("gpt-4.1", OPENAI, 1744316542, 1_047_576, "Long documents, code and instructions."),
    Seed("gpt-4.1-mini", OPENAI, 1744318173, 1_047_576, "A smaller GPT-4.1."),
    Seed("gpt-4.1-nano", OPENAI, 1744321707, 1_047_576, "The smallest GPT-4.1."),
    Seed("gpt-5", OPENAI, 1754425777, 400_000, "Reasons before it answers."),
    Seed("gpt-5-mini", OPENAI, 1754425928, 400_000, "A smaller GPT-5."),
    Seed("gpt-5-nano", OPENAI, 1754426384, 400_000, "The smallest GPT-5."),
)
# OpenAI's public list (standard tier), as known in 2025: a start, not a promise. Seeded once, when its models go there;
# from then on operators add versions in the admin site. The embedded model is free.
OPENAI_PRICES: Final = {
    "gpt-3.5-turbo": ListPrice("0.50", "1.50"),
    "gpt-4": ListPrice("30", "60"),
    "gpt-4-turbo": ListPrice("10", "30"),
    "gpt-4o": ListPrice("2.50", "10", cached_input="1.25"),
    "gpt-4o-mini": ListPrice("0.15", "0.60", cached_input="0.075"),
    "gpt-4.1": ListPrice("2", "8", cached_input="0.50"),
    "gpt-4.1-mini": ListPrice("0.40", "1.60", cached_input="0.10"),
    "gpt-4.1-nano": ListPrice("0.10", "0.40", cached_input="0.025"),
    "gpt-5": ListPrice("1.25", "10", cached_input="0.125"),
    "gpt-5-mini": ListPrice("0.25", "2", cached_input="0.025"),
    "gpt-5-nano": ListPrice("0.05", "0.40", cached_input="0.005"),
}


def seed_catalogue(*, embedded: Embedded | None, openai_api_key: str) -> None:
    """Idempotent. ``embedded`` None and an empty key mean that there is no such provider: its seeded rows go."""
    seed_openai(openai_api_key)
    seed_embedded(embedded)
    announce_change()


def seed_openai(api_key: str) -> None:
    """Without a key the seeded provider is switched off, not removed: its deployments hold the operator's choices."""
    if not api_key:
        Provider.objects.filter(id=row_id("provider", OPENAI)).update(enabled=False, sealed_credential="")
        return
    provider = _provider(OPENAI, OPENAI_URL)
    if provider is None:
        return
    provider.kind = ProviderKind.OPENAI
    if not provider.sealed_credential:  # new, or switched off above: one that an operator switched off has its key
        provider.enabled = True
    _keep_key(provider, api_key)
    provider.save()
    for seed in OPENAI_MODELS:
        _deploy(f"{OPENAI}/{seed.name}", _model(seed), provider, upstream_model=seed.name)
    seed_prices(OPENAI_PRICES)


def seed_embedded(embedded: Embedded | None) -> None:
    """The port can change between starts, so the address follows."""
    if embedded is None:
        Provider.objects.filter(id=row_id("provider", EMBEDDED)).delete()
        return
    provider = _provider(EMBEDDED, embedded.base_url)
    if provider is None:
        return
    provider.base_url = embedded.base_url
    provider.stream_always = True  # llama.cpp stops for a client that leaves only while it streams
    _keep_key(provider, embedded.api_key)
    provider.save()
    upstream = SMOLLM2.name
    _deploy(f"{EMBEDDED}/{upstream}", _model(SMOLLM2), provider, upstream_model=upstream)
    for seed in OPENAI_MODELS:
        if seed.name in EXAMPLES:
            _stand_in(seed, provider, upstream)


def _stand_in(seed: Seed, provider: Provider, upstream: str) -> None:
    """The embedded model answers to ``seed``'s name for as long as no real deployment does."""
    name = f"{EMBEDDED}/{upstream}"
    model = _model(seed)
    real = model.deployments.filter(enabled=True, provider__enabled=True).exclude(provider=provider)
    if real.exists():
        Deployment.objects.filter(id=row_id("deployment", f"{seed.name}:{name}")).delete()
    else:
        _deploy(name, model, provider, upstream_model=upstream)


def _provider(name: str, base_url: str) -> Provider | None:
    """The seeded provider; None where an operator has one of that name."""
    provider, _ = Provider.objects.get_or_create(
        name=name, defaults={"id": row_id("provider", name), "base_url": base_url}
    )
    return provider if provider.id == row_id("provider", name) else None


def _model(seed: Seed) -> Model:
    model, _ = Model.objects.get_or_create(
        name=seed.name,
        defaults={
            "id": row_id("model", seed.name),
            "owned_by": seed.owned_by,
            "created_at": datetime.fromtimestamp(seed.created, UTC),
            "context_length": seed.context_length,
            "description": seed.description,
        },
    )
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
