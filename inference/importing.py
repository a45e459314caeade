"""Makes models and deployments of a provider's list of models: those an operator chose, once each."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from django.db import transaction

from inference.catalogue import announce_change
from inference.models import Deployment, Model, Provider

NAME_LENGTH: Final = 100
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._:/@+-]+")


@dataclass(slots=True)
class Imported:
    """``present`` holds deployments that were there already."""

    models: list[Model] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    present: list[Deployment] = field(default_factory=list)


@transaction.atomic
def import_models(
    *, provider: Provider, chosen: Iterable[tuple[str, str]], owned_by: str, priority: int, weight: int, enabled: bool
) -> Imported:
    """``chosen``: the provider's name and ours of each. What exists is left as it is, so that a repeat changes nothing.

    Imports of one provider wait for each other.
    """
    Provider.objects.select_for_update().get(id=provider.id)
    imported = Imported()
    for upstream_model, name in chosen:
        model, is_new = Model.objects.get_or_create(name=name, defaults={"owned_by": owned_by, "enabled": enabled})
        if is_new:
            imported.models.append(model)
        known = model.deployments.filter(provider=provider, upstream_model=upstream_model).first()
        if known is not None:
            imported.present.append(known)
            continue
        deployment = Deployment(
            name=_free_name(model, f"{provider.name}/{upstream_model}"),
            model=model,
            provider=provider,
            upstream_model=upstream_model,
            priority=priority,
            weight=weight,
            enabled=enabled,
        )
        deployment.save()
        imported.deployments.append(deployment)
    announce_change()
    return imported


def _free_name(model: Model, wanted: str) -> str:
    """A deployment's name that its model doesn't have yet."""
    wanted = _STRANGE.sub("-", wanted)[: NAME_LENGTH - 4]
    taken = set(model.deployments.values_list("name", flat=True))
    candidates = (wanted, *(f"{wanted}-{number}" for number in range(2, 1000)))
    return next(name for name in candidates if name not in taken)
