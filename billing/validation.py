"""A row's own validation, as the error that callers meet."""

from collections.abc import Iterable

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from helixflow.lib import errors


def check(row: models.Model, *, leave_out: Iterable[str] = ()) -> None:
    """Fields and constraints. ``leave_out`` names what the caller vouches for. Raises InvalidRequest."""
    try:
        row.full_clean(exclude=leave_out)
    except ValidationError as error:
        details = {field: " ".join(messages) for field, messages in error.message_dict.items()}
        param, message = next(iter(details.items()))
        if param == NON_FIELD_ERRORS:
            raise errors.InvalidRequest(message) from None
        raise errors.InvalidRequest(f"{param}: {message}", param=param, details=details) from None
