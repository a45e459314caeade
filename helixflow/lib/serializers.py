"""DRF serializers that take nothing for granted: unknown fields are refused by name, and types are not guessed."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from helixflow.lib import errors


class StrictSerializer(serializers.Serializer[Any]):
    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(unknown, "This field is not known."))
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """DRF's own turns numbers into text."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictIntegerField(serializers.IntegerField):
    """DRF's own takes ``"3"`` and ``3.0``."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """DRF's own takes ``"yes"`` and ``1``."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class MomentField(serializers.DateTimeField):
    """RFC 3339, or a date for its midnight in UTC."""

    default_error_messages = {  # noqa: RUF012  # DRF declares it so
        "invalid": "Use a time such as 2026-11-01T00:00:00Z (a + must be written %2B), or a date such as 2026-11-01.",
        "range": "Give a time between the years 2000 and 2100.",
    }

    def to_internal_value(self, data: Any) -> Any:
        moment = super().to_internal_value(data)
        if not 2000 <= moment.year < 2100:
            self.fail("range")
        return moment


def validated(serializer: StrictSerializer) -> dict[str, Any]:
    """The values of a serializer made with ``data=``. Raises DRF's ValidationError."""
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def parameters(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """The query string, as strict as a body: unknown and repeated parameters are refused by name."""
    repeated = [name for name in request.query_params if len(request.query_params.getlist(name)) > 1]
    if repeated:
        details = dict.fromkeys(repeated, "Give this parameter once.")
        raise errors.InvalidRequest(f"{repeated[0]}: given more than once.", param=repeated[0], details=details)
    return validated(serializer(data=request.query_params.dict()))
