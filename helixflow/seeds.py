"""What every installation starts with: plans, providers, models, deployments."""

from django.conf import settings
from django.db import transaction

from billing.seeds import seed_plans
from inference.seeds import Access, Embedded, seed_catalogue


@transaction.atomic
def plant() -> None:
    """Idempotent; of what is there, only what follows the environment is changed."""
    seed_plans()
    embedded = (
        Embedded(settings.EMBEDDED_MODEL_URL, settings.EMBEDDED_MODEL_KEY) if settings.EMBEDDED_MODEL_URL else None
    )
    accesses = {name: Access(**access) for name, access in settings.PROVIDERS.items()}
    seed_catalogue(embedded=embedded, accesses=accesses)
