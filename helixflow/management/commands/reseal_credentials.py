"""`manage.py reseal_credentials`: everything encrypted at rest under the first of HELIXFLOW_ENCRYPTION_KEYS."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Model, QuerySet

from helixflow.lib import crypto


class Command(BaseCommand):
    help = (
        "Encrypt all stored credentials anew under the first of HELIXFLOW_ENCRYPTION_KEYS, so that the others can go. "
        "Safe to repeat and beside running processes. Ends with code 1 if something can't be opened."
    )

    def handle(self, *args: Any, **kwargs: Any) -> None:
        lost: list[str] = []
        for name, rows, column in sealed_columns():
            resealed = kept = 0
            for key, sealed in rows.exclude(**{column: ""}).values_list("pk", column).iterator():
                try:
                    renewed = crypto.reseal(sealed)
                except crypto.Undecryptable:
                    lost.append(f"{name} {key}")
                    continue
                if renewed == sealed:
                    kept += 1
                else:  # by condition: what somebody changes meanwhile is under the first key already
                    resealed += rows.filter(pk=key, **{column: sealed}).update(**{column: renewed})
            self.stdout.write(f"{name}: {resealed} encrypted anew, {kept} already under the first key.")
        if lost:
            raise CommandError(
                f"No key opens {len(lost)}: {', '.join(lost)}. "
                "Add the key they were made under to HELIXFLOW_ENCRYPTION_KEYS, or enter them again."
            )


def sealed_columns() -> Iterator[tuple[str, QuerySet[Model], str]]:
    """The model's name, its rows and the column, of each that holds what ``crypto.encrypt`` made."""
    for model in apps.get_models():
        meta = model._meta  # noqa: SLF001  # Django documents it
        for field in meta.concrete_fields:
            if field.name.startswith("sealed_"):
                yield meta.label, QuerySet(model), field.name
