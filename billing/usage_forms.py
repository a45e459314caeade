"""The form of the usage page: what is charted, by what, of which time. All times are in UTC."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import urlencode

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import ApiKey
from billing.reports import breakdown, timeseries
from billing.reports.timeseries import DAY, HOUR, MONTH, Span
from helixflow.lib import clock

LATENCY: Final = "latency"
FIRST_TOKEN: Final = "first_token"  # noqa: S105  # a metric
CUSTOM: Final = "custom"
THIS_MONTH: Final = "month"
POINTS: Final = 400  # on a chart; hours of 16 days, days of a year
EARLIEST: Final = date(2020, 1, 1)
LATEST: Final = date(2100, 1, 1)

METRICS: Final = [
    (breakdown.REQUESTS, "Requests"),
    (breakdown.TOKENS, "Tokens"),
    (breakdown.COST, "Cost"),
    (LATENCY, "Latency"),
    (FIRST_TOKEN, "Time to first token"),
]
GROUPS: Final = [
    (timeseries.NONE, "Nothing"),
    ("model", "Model"),
    ("key", "API key"),
    (timeseries.ENVIRONMENT, "Environment"),
    (timeseries.STATUS, "Status"),
]
RANGES: Final = {
    "24h": ("24 hours", timedelta(hours=24), HOUR),
    "7d": ("7 days", timedelta(days=7), HOUR),
    "30d": ("30 days", timedelta(days=30), DAY),
    "90d": ("90 days", timedelta(days=90), DAY),
    "12m": ("12 months", timedelta(days=12 * 30), MONTH),  # see _bounds
}
DEFAULTS: Final = {"metric": breakdown.REQUESTS, "group": "model", "range": "30d", "percentile": "p95"}


class Period(NamedTuple):
    """``before``: as long, and just before it."""

    span: Span
    before: Span


class QuickSelect(forms.Select):
    """For hundreds of options: Django renders a template for each of them."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            ((each, SafeString(" selected") if each == (value or "") else "", label) for each, label in self.choices),
        )
        return format_html(
            '<select name="{}"{}>{}</select>', name, flatatt(self.build_attrs(self.attrs, attrs)), options
        )


class UsageForm(forms.Form):
    """Every field has a default, so that the address alone is a page."""

    metric = forms.ChoiceField(label="Show", required=False, choices=METRICS)
    group = forms.ChoiceField(label="By", required=False, choices=GROUPS)
    percentile = forms.ChoiceField(
        required=False, choices=[("p50", "p50, the median"), ("p95", "p95"), ("p99", "p99")], label="Percentile"
    )
    bucket = forms.ChoiceField(
        label="Every",
        required=False,
        choices=[("", "Automatic"), (HOUR, "Hour"), (DAY, "Day"), (MONTH, "Month")],
    )
    key = forms.ChoiceField(label="API key", required=False, widget=QuickSelect)
    model = forms.ChoiceField(label="Model", required=False, widget=QuickSelect)
    range = forms.ChoiceField(
        label="Time",
        required=False,
        choices=[
            *((name, label) for name, (label, _, _) in RANGES.items()),
            (THIS_MONTH, "This month"),
            (CUSTOM, "Custom"),
        ],
        widget=forms.RadioSelect,
    )
    start = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    end = forms.DateField(label="To, that day included", required=False, widget=forms.DateInput(attrs={"type": "date"}))

    date_errors: ClassVar = {"invalid": "Enter a date, such as 2026-11-23."}

    def __init__(self, data: Mapping[str, Any], *, keys: Sequence[ApiKey] = ()) -> None:
        """``data``: what was asked for; ``keys``: those to choose from."""
        given = {name: value for name, value in data.items() if value != ""}
        if "range" not in given and ("start" in given or "end" in given):
            given["range"] = CUSTOM
        super().__init__(DEFAULTS | given)
        for field in self.fields.values():
            if isinstance(field, forms.DateField):
                field.error_messages |= self.date_errors
            elif isinstance(field, forms.ChoiceField):
                field.error_messages["invalid_choice"] = "Choose one of these."
                field.widget.attrs["data-autosubmit"] = ""
        self._choose("key", [("", "All keys"), *((key.public_id, key.name) for key in keys)])
        self.offer_models([])

    def offer_models(self, models: Sequence[str]) -> None:
        """The names to choose from: those in use, and the one asked for, which need not be."""
        asked = self.data.get("model", "")
        names = dict.fromkeys([*models, *([asked] if asked else [])])
        self._choose("model", [("", "All models"), *((name, name) for name in names)])

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # for the type checker
        field.choices = choices

    def clean_model(self) -> str:
        name: str = self.cleaned_data["model"]
        if len(name) > 200 or "\0" in name:
            raise forms.ValidationError("No model has such a name.")
        return name

    def clean(self) -> dict[str, Any]:
        chosen = self.cleaned_data
        if self.errors:
            return chosen
        if chosen["group"] == timeseries.STATUS and chosen["metric"] != breakdown.REQUESTS:
            self.add_error("group", "By status, only requests are counted: show requests, or choose another grouping.")
            return chosen
        if chosen["range"] == CUSTOM:
            self._check_dates()
        if not self.errors:
            self._check_points()
        return chosen

    def _check_dates(self) -> None:
        start, end = self.cleaned_data["start"], self.cleaned_data["end"]
        for name, day in (("start", start), ("end", end)):
            if day is None:
                self.add_error(name, "Choose a day.")
            elif not EARLIEST <= day < LATEST:
                self.add_error(name, f"Choose a day between {EARLIEST.year} and {LATEST.year - 1}.")
        if not self.errors and start > end:
            self.add_error("end", "This is before “From”.")

    def _check_points(self) -> None:
        points = sum(1 for _ in self.period.span.starts())
        if points > POINTS:
            bucket = self.period.span.bucket
            message = f"That is {points:,} points, one every {bucket}, and a chart has room for {POINTS}."
            self.add_error("bucket", f"{message} Choose longer ones or a shorter time.")

    @property
    def period(self) -> Period:
        """Whole buckets, the last one still under way where it ends now; compared with as much time as has passed."""
        start, end, bucket = self._bounds()
        span = Span.around(start, end, self.cleaned_data["bucket"] or bucket)
        passed = max(min(span.end, clock.now()) - span.start, timedelta(hours=1))
        unit = HOUR if span.bucket == HOUR else DAY  # days are read as days
        return Period(span, Span(timeseries.floor(span.start - passed, unit), span.start, unit))

    def _bounds(self) -> tuple[datetime, datetime, str]:
        chosen, now = self.cleaned_data, clock.now()
        if chosen["range"] == CUSTOM:
            start, last = (datetime.combine(chosen[name], time(), UTC) for name in ("start", "end"))
            end = last + timedelta(days=1)
            return start, end, _fitting(end - start)
        if chosen["range"] == THIS_MONTH:
            return timeseries.floor(now, MONTH), now, DAY
        _, length, bucket = RANGES[chosen["range"]]
        if bucket == MONTH:
            return _months_ago(now, 11), now, bucket
        unit = timedelta(hours=1) if bucket == HOUR else timedelta(days=1)
        return now - length + unit, now, bucket  # the bucket under way is one of them

    def query(self, **changed: str) -> str:
        """What makes this page, as a query string without what goes without saying."""
        given = {name: str(self.data.get(name, "")) for name in self.fields} | changed
        return urlencode({name: value for name, value in given.items() if value and DEFAULTS.get(name) != value})


def _fitting(length: timedelta) -> str:
    if length <= timedelta(days=8):
        return HOUR
    return DAY if length <= timedelta(days=180) else MONTH


def _months_ago(moment: datetime, months: int) -> datetime:
    start = timeseries.floor(moment, MONTH)
    for _ in range(months):
        start = timeseries.floor(start - timedelta(days=1), MONTH)
    return start
