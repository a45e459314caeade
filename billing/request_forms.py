"""The filters of the log of requests. All times are in UTC."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final

from django import forms

from accounts.models import ApiKey, Organization
from billing.reports import receipts
from helixflow.lib import errors, ids
from helixflow.lib.log_forms import LogFilters

STATUSES: Final = (400, 403, 404, 413, 415, 499, 500, 503)
ERROR_CODES: Final = sorted(
    {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.HelixError) and "code" in vars(error)
    }
    - {"authentication_failed", "invalid_api_key", "rate_limit_exceeded", "insufficient_quota"}  # never admitted
    | {"client_disconnected"}
)
KEYS: Final = 200  # to choose from; another can be chosen by a link


class LogForm(LogFilters):
    """Beside the filters ``q``: the id of one request."""

    PERIODS: ClassVar = {
        "hour": ("1 hour", timedelta(hours=1)),
        "day": ("24 hours", timedelta(days=1)),
        "week": ("7 days", timedelta(days=7)),
        "month": ("30 days", timedelta(days=30)),
    }
    FILTERS = ("key", "model", "status", "error", "end_user", "since", "until")
    MENUS = ("key", "status", "error")

    q = forms.CharField(
        required=False,
        label="Id",
        max_length=100,
        widget=forms.TextInput(
            attrs={"placeholder": "req_… or chatcmpl-…", "autocomplete": "off", "spellcheck": "false"}
        ),
    )
    key = forms.ChoiceField(
        required=False, error_messages={"invalid_choice": "There is no API key with this id in your organization."}
    )
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"list": "models", "placeholder": "Any", "autocomplete": "off"}),
    )
    status = forms.ChoiceField(
        required=False,
        choices=[
            ("", "All"),
            (receipts.SUCCESS, "Succeeded"),
            (receipts.FAILURE, "Failed"),
            *((str(status), str(status)) for status in STATUSES),
        ],
        error_messages={"invalid_choice": "There is no such status."},
    )
    error = forms.ChoiceField(
        required=False,
        label="Error",
        choices=[("", "All"), *((code, code) for code in ERROR_CODES)],
        error_messages={"invalid_choice": "There is no such error code."},
    )
    end_user = forms.CharField(
        required=False,
        label="End user",
        max_length=512,
        strip=False,
        widget=forms.TextInput(attrs={"placeholder": "As sent in “user”", "autocomplete": "off"}),
    )

    def __init__(self, organization: Organization, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.keys = _keys(organization, str(data.get("key", "")))
        self.choices("key", [("", "All"), *((public_id, _label(key)) for public_id, key in self.keys.items())])

    @property
    def shows_more(self) -> bool:
        """Whether a filter that is folded away is in use, or has to be mended."""
        folded = ("error", "end_user", "since", "until")
        return any(self.data.get(name) or name in self.errors for name in folded)

    def values(self) -> dict[str, Any]:
        """As ``billing.reports.receipts.search`` takes them."""
        chosen = self.cleaned_data
        key = self.keys.get(chosen["key"])
        status = chosen["status"]
        return {
            "api_key_id": key.id if key else None,
            "model": chosen["model"] or None,
            "end_user": chosen["end_user"] or None,
            "status": int(status) if status.isdigit() else status or None,
            "error_code": chosen["error"] or None,
            "since": self.since_in_force,
            "until": chosen["until"],
        }


def _keys(organization: Organization, chosen: str) -> dict[str, ApiKey]:
    """Those one can choose, newest first, by public id; the ``chosen`` one among them, whatever its age."""
    rows = ApiKey.objects.filter(organization=organization)
    found = {key.public_id: key for key in rows.filter(is_playground=False).order_by("-id")[:KEYS]}
    if chosen and chosen not in found:
        try:
            key = rows.filter(id=ids.parse_public_id(ids.API_KEY, chosen)).first()
        except ValueError:
            return found
        if key is not None:
            found[chosen] = key
    return found


def _label(key: ApiKey) -> str:
    revoked = " (revoked)" if key.revoked_at else ""
    return f"{key.name}{f' · …{key.hint[-4:]}' if key.hint else ''}{revoked}"
