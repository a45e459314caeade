"""What an answer to a request of a batch means for it, and for the batch. Pure."""

from enum import Enum, auto
from typing import Final

import msgspec

from inference.batch.sending import Answer, Sent

COUNTED: Final = "x-ratelimit-limit-month"  # on answers to requests that admission, with Redis, has counted
UNKNOWN: Final = "server_error"
MAX_CODE: Final = 40
LONGEST_RETRY_S: Final = 3600.0


class Verdict(Enum):
    """The first two are outcomes. Of the others the request waits on; all but ``AGAIN`` concern the whole batch."""

    COMPLETED = auto()
    FAILED = auto()
    AGAIN = auto()  # it failed in a way that may pass: its tries are counted
    LIMIT = auto()  # the minute, or what may be under way at once
    QUOTA = auto()
    KEY = auto()  # refused: revoked, expired
    DISABLED = auto()  # the organization is, or is about to be deleted
    SERVICE = auto()  # the gateway, or what it stands on, is away: no try
    UNSENT = auto()


def judge(sent: Sent) -> Verdict:
    answer = sent.answer
    if sent.unsent:
        return Verdict.UNSENT
    if sent.unreadable:
        return Verdict.FAILED
    if answer is None or not _is_the_gateways(answer):
        return Verdict.SERVICE
    if answer.status == 200:
        return Verdict.FAILED if answer.too_long else Verdict.COMPLETED
    if answer.status >= 500:
        return Verdict.AGAIN if COUNTED in answer.headers else Verdict.SERVICE
    match answer.status, error_code(answer):
        case 429, "insufficient_quota":
            return Verdict.QUOTA
        case 429, _:
            return Verdict.LIMIT
        case 401, _:
            return Verdict.KEY
        case 403, _ if _param(answer) != "model":  # else that is not for this key
            return Verdict.DISABLED
    return Verdict.FAILED


def _is_the_gateways(answer: Answer) -> bool:
    """And not a page or a redirect of something before it. One that was billed counts even under another's id."""
    return answer.is_ours or (answer.status == 200 and COUNTED in answer.headers)


def error_code(answer: Answer) -> str:
    reason = _reason(answer)
    return reason.code[:MAX_CODE] if reason else UNKNOWN


def retry_after_s(answer: Answer | None) -> float:
    """0: nothing is said. The gateway says whole seconds."""
    said = answer.headers.get("retry-after", "") if answer else ""
    return min(float(said), LONGEST_RETRY_S) if said.isascii() and said.isdigit() else 0.0


class _Reason(msgspec.Struct):
    code: str
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Reason


def _reason(answer: Answer) -> _Reason | None:
    try:
        return msgspec.json.decode(answer.body, type=_Refusal).error
    except msgspec.DecodeError:
        return None


def _param(answer: Answer) -> str:
    reason = _reason(answer)
    return (reason and reason.param) or ""
