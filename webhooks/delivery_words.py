"""What became of deliveries, in the words of the dashboard."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from django.contrib.humanize.templatetags.humanize import ordinal
from django.utils import timezone

from webhooks.models import Attempt, Delivery, DeliveryState

# Characters that show nothing or turn the text after them around: receivers choose what they answer.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
_MADE_BY_CURL: Final = frozenset({"host", "content-length", "connection", "accept-encoding"})

ERRORS: Final = {
    "refused_address": "Refused address",
    "dns": "Name not found",
    "connect": "No connection",
    "tls": "TLS failed",
    "timeout": "Timed out",
    "broken_answer": "Broken answer",
    "redirect": "Redirect",
    "answer_too_long": "Answer too long",
    "secret_lost": "Secret unreadable",
}
# Beside the words of helixflow.lib.http and webhooks.sending, which say what happened.
ADVICE: Final = {
    "refused_address": "Change the endpoint's URL, or where its name leads.",
    "dns": "It is looked up on the internet, where the names of an internal network are unknown.",
    "connect": "Check that the port is right and that no firewall is in between.",
    "tls": "Check that the certificate is in date, names this host, and comes with its whole chain.",
    "timeout": "Answer at once with a 2xx, and do the work after that.",
    "broken_answer": "Look into the receiver's log at this time: it may have crashed, or not be a web server.",
    "redirect": "The address is in the Location header below.",
    "answer_too_long": "Nothing of what is in an answer is used.",
    "secret_lost": "",
}
STATUS_ADVICE: Final = {
    400: "Mostly its signature check: another secret, a body that was parsed and written anew, or a clock that is off.",
    401: "The receiver wants credentials. Let the events through, and trust their signature instead.",
    403: "The receiver refused it: a wrong signature check, or a firewall or bot protection in front of it.",
    404: "There is nothing at this path. Check the endpoint's URL.",
    405: "This path takes no POST. Check the endpoint's URL.",
    408: "The receiver gave up waiting. Look into its log at this time.",
    410: "That disables an endpoint. Enable the endpoint again once the receiver is back.",
    413: "The receiver's limit for bodies is too low.",
    415: "The receiver must accept application/json.",
    429: "The receiver asked for less. Its Retry-After is honoured up to twice the planned wait.",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What happened, in one line. ``kind`` is an alert's; ``next_at``: the planned attempt that the line leads to."""

    kind: str
    text: str
    next_at: datetime | None = None


def is_sending(delivery: Delivery) -> bool:
    return delivery.leased_until is not None and delivery.leased_until > timezone.now()


def badge(delivery: Delivery) -> tuple[str, str]:
    """Label and kind."""
    match delivery.state:
        case DeliveryState.SUCCEEDED:
            return "Delivered", "success"
        case DeliveryState.FAILED:
            return "Failed", "danger"
        case DeliveryState.CANCELLED:
            return "Cancelled", ""
    if is_sending(delivery):
        return "Sending", "accent"
    if waits(delivery):
        return "Waiting", "warning"
    return ("Retrying", "warning") if delivery.step else ("Queued", "accent")


def standing(delivery: Delivery) -> Standing:
    if delivery.state == DeliveryState.SUCCEEDED:
        return Standing("success", _delivered(delivery))
    if delivery.state == DeliveryState.CANCELLED:
        return Standing("", "Cancelled: the endpoint was deleted before this was delivered.")
    if delivery.state == DeliveryState.FAILED:
        return Standing("danger", _given_up(delivery))
    failed = f"Failed {_times(delivery.step)}" if delivery.step else ""
    if is_sending(delivery):
        return Standing("info", f"{failed}; being sent again now." if failed else "Being sent now.")
    if waits(delivery):
        until = "it waits until the endpoint is enabled again."
        return Standing("warning", f"{failed}; {until}" if failed else until.capitalize())
    if delivery.next_attempt_at is None or delivery.next_attempt_at <= timezone.now():
        return Standing("info", f"{failed}; the next attempt is due now." if failed else "It is due to be sent now.")
    return Standing("warning", f"{failed}; next attempt" if failed else "First attempt", delivery.next_attempt_at)


def why_not_again(delivery: Delivery, *, manages: bool) -> str:
    """Why the page offers no resend; empty if it does. ``webhooks.deliveries.resend`` has the last word."""
    if delivery.test:
        return "A test event is sent once. Send another one from its endpoint."
    if delivery.endpoint.deleted_at is not None:
        return "Its endpoint is deleted: it can't be sent again."
    if not manages:
        return "Owners and admins of the organization can send it again."
    if not delivery.endpoint.is_enabled:
        return "Its endpoint is disabled. Once that is enabled, this can be sent again."
    return "It is being sent right now." if is_sending(delivery) else ""


def last_result(delivery: Delivery) -> str:
    """``200``, ``503``, ``Timed out`` or ``Answer too long``; empty before the first attempt."""
    if delivery.last_status and not _is_belied(delivery.last_status, delivery.last_error):
        return str(delivery.last_status)
    return ERRORS.get(delivery.last_error, delivery.last_error)


def result(attempt: Attempt) -> str:
    """``503 Service Unavailable``, or what was in the way of an answer, or wrong with it."""
    if attempt.status is None or _is_belied(attempt.status, attempt.error_code):
        return ERRORS.get(attempt.error_code, attempt.error_code) or "No answer"
    return status_line(attempt.status)


def status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def advice(attempt: Attempt) -> str:
    """What a developer can do about a failure; empty for a success."""
    if attempt.succeeded:
        return ""
    if attempt.error_code in ADVICE:
        return ADVICE[attempt.error_code]
    status = attempt.status or 0
    if status == HTTPStatus.GONE and attempt.delivery.test:
        return "To a test that is only an answer. To an event it would disable the endpoint."
    if status in STATUS_ADVICE:
        return STATUS_ADVICE[status]
    if status >= 500:
        return "The receiver failed. Look into its log at this time; what it said is below."
    return "Look into the receiver's log at this time."


def duration(ms: float) -> str:
    """``87 ms``, ``5.3 s``, ``4 min``, ``3 days``."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    for unit, length, least in (("day", 86_400, 172_800), ("hour", 3600, 7200), ("min", 60, 120)):
        if seconds >= least:
            count = int(seconds // length)
            return f"{count} {unit}" if unit == "min" else f"{count} {unit}s"
    return f"{seconds:.1f} s"


def utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def visible(text: str) -> str:
    """``text`` with what shows nothing, or reorders what does, written as ``<U+202E>``."""
    return _INVISIBLE.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def request_text(attempt: Attempt) -> str:
    return "\n".join([f"POST {attempt.url}", *_lines(attempt.request_headers)])


def response_text(attempt: Attempt) -> str:
    return "\n".join([status_line(attempt.status or 0), *_lines(attempt.response_headers)])


def curl(attempt: Attempt, body: bytes) -> str:
    """The attempt as a command for a shell: the same URL, headers and body."""
    parts = ["curl --globoff --request POST " + _quoted(attempt.url)]
    for name, value in attempt.request_headers.items():
        if name.lower() not in _MADE_BY_CURL:
            parts.append("--header " + _quoted(f"{name}: {value}"))
    parts.append("--data-raw " + _quoted(body.decode()))
    return " \\\n  ".join(parts)


def _quoted(text: str) -> str:
    """For a shell. Controls are spelled out: pasted, a DEL deletes what is before it, and so the quote that guards it.

    Bodies may hold some, since JSON escapes only the first 32, and ``end_user`` comes from anybody.
    """
    if _INVISIBLE.search(text) is None:
        return shlex.quote(text)
    escaped = text.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{_INVISIBLE.sub(_octal, escaped)}'"


def _octal(found: re.Match[str]) -> str:
    return "".join(f"\\{byte:03o}" for byte in found[0].encode())


def _lines(headers: Mapping[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


def waits(delivery: Delivery) -> bool:
    """For its endpoint. A test goes to a disabled one as well."""
    return not delivery.endpoint.is_enabled and not delivery.test


def _is_belied(status: int, error_code: str) -> bool:
    """By what follows it: ``200`` is not why the attempt failed."""
    return 200 <= status < 300 and bool(error_code)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _delivered(delivery: Delivery) -> str:
    which = "first" if delivery.attempt_count <= 1 else ordinal(delivery.attempt_count)
    return f"Delivered at the {which} attempt{_after(delivery)}."


def _given_up(delivery: Delivery) -> str:
    if delivery.test:
        return f"This test failed{_after(delivery)}. Tests are not repeated by themselves."
    return f"Failed {_times(max(1, delivery.step))}, and no further attempt is planned."


def _after(delivery: Delivery) -> str:
    if delivery.ended_at is None:
        return ""
    took = max(timedelta(), delivery.ended_at - delivery.created_at)
    return f" after {duration(took.total_seconds() * 1000)}"
